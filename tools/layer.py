"""Build the Lambda layer: the package, and exec-wrapper at the top.

    python3 dev.py layer

makes ``dist/watchdog-lambda-layer.zip``, which lies in ``/opt`` of a function that uses it:

* ``python/watchdog_lambda``, compiled for every supported Python that was found, because ``/opt``
  is read-only and would be compiled anew at every cold start;
* ``exec-wrapper``, for ``AWS_LAMBDA_EXEC_WRAPPER=/opt/exec-wrapper``.

Nothing else: Lambda's runtimes have awslambdaric, and Powertools, which only code that uses it
needs, has a layer of its own from AWS.

The same sources and the same interpreters make the same bytes.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools import ROOT, built, ending

LAYER: Final = ROOT / "dist" / "watchdog-lambda-layer.zip"

_WRAPPER: Final = ROOT / "bootstrap" / "exec-wrapper"
# The earliest time that a zip file can have; nothing reads it.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3


def build(target: Path, interpreters: Sequence[str]) -> None:
    """Make the layer's zip file; `interpreters` are what to compile the package for.

    Raises:
        subprocess.CalledProcessError: pip or an interpreter failed; it has said why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        packages = Path(scratch, "python")
        with zipfile.ZipFile(built.build("wheel", Path(scratch, "wheels"))) as wheel:
            wheel.extractall(packages)
        for interpreter in interpreters:
            _compile(interpreter, packages)
        contents = {
            path.relative_to(scratch).as_posix(): path.read_bytes()
            for path in packages.rglob("*")
            if path.is_file()
        }
    contents[_WRAPPER.name] = _WRAPPER.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = _UNIX
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if name == _WRAPPER.name else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, contents[name], compresslevel=9)


def _compile(interpreter: str, packages: Path) -> None:
    command = [interpreter, "-m", "compileall", "-q", "-s", str(packages), "-p", "/opt/python"]
    # Nothing in /opt can change, so the source need not even be looked at.
    command += ["--invalidation-mode", "unchecked-hash", str(packages / "watchdog_lambda")]
    subprocess.run(command, check=True)


def main() -> int:
    parser = ending.parser("dev.py layer", __doc__)
    about = "compile for this one; may be repeated (dev.py gives all that it finds)"
    parser.add_argument("--interpreter", action="append", metavar="PYTHON", help=about)
    build(LAYER, parser.parse_args().interpreter or [sys.executable])
    data = LAYER.read_bytes()
    with zipfile.ZipFile(LAYER) as archive:
        names = archive.namelist()
    tags = sorted({name.split(".")[-2] for name in names if name.endswith(".pyc")})
    print(f"{LAYER}: {len(data) / 1e3:.0f} kB, {len(names)} files")
    print(f"compiled for {', '.join(tags)}")
    print(f"sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
