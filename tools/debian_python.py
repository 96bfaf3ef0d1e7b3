"""Pythons that this machine has not: Debian's own builds, unpacked into ``.cache/debian-python``.

    python3 tools/debian_python.py [3.14] [3.15]

Debian's testing suite has interpreters before a stable one has them. Its packages are unpacked and
not installed, with the C library and all that they link to. So nothing of this machine is changed,
and no chroot is needed: a script in the interpreter's place starts it with its own loader. Once
made, they are in ``.cache/debian-python/bin``, where every command of ``dev.py`` finds them.

Needs root and mmdebstrap; takes 10 s and 100 MB. Nothing but the standard library.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE: Final = "forky"
VERSIONS: Final = ("3.14", "3.15")
"""What the suite has."""

SKIPPED: Final = 77
"""The exit status for "cannot be had here", as automake and others have it."""

# Resolved: a cache that several checkouts share has one path in what is written into it.
_CACHE: Final = (Path(__file__).resolve().parent.parent / ".cache" / "debian-python").resolve()
_WHEELS: Final = "/usr/share/python-wheels"
_LAUNCHER: Final = """\
#!/bin/sh
# Debian's {name} with the loader and the libraries that it was built for. $0 is what Python takes
# for its own name, so a virtual environment's link to this script is one to an interpreter.
exec {loader} --argv0 "$0" --library-path {libraries} {real} "$@"
"""

_SHORT_NAME: Final = """\
#!/bin/sh
exec {launcher} "$@"
"""


class Unavailable(RuntimeError):
    """Debian's Pythons cannot be had on this machine; the message says why, and what would do."""


def make(versions: Sequence[str] = VERSIONS) -> list[Path]:
    """Make interpreters, or take those that were made before; return them in order.

    Args:
        versions: Those to be found from now on. All are fetched, for they share most files.

    Raises:
        Unavailable: They cannot be had here.
    """
    root = _CACHE / f"{SUITE}-{platform.machine()}"
    found = _CACHE / "bin"
    interpreters = [found / f"python{version}" for version in versions]
    found.mkdir(parents=True, exist_ok=True)
    with (root.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that make it at once would share half a folder
        if not root.exists():
            _fetch(root)
        for interpreter in interpreters:
            # Alone in a folder: nothing else of Debian's comes onto PATH. And no link, for an
            # environment made with one would look for the standard library beside the link.
            launcher = root / "usr/bin" / interpreter.name
            _write_script(interpreter, _SHORT_NAME.format(launcher=launcher))
    return interpreters


def _fetch(root: Path) -> None:
    if (reason := _missing()) is not None:
        raise Unavailable(reason)
    # Beside its final place, for a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        unpacked = Path(scratch, "root")
        _unpack(unpacked)
        for version in VERSIONS:
            _make_startable(unpacked, root, version)
        # Whole or not at all: nobody ever finds half of it.
        unpacked.replace(root)


def _missing() -> str | None:
    if sys.platform != "linux":
        return f"Debian's Pythons run on Linux, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "unpacking Debian's packages needs root; run it with sudo or in a container"
    if shutil.which("mmdebstrap") is None:
        return "needs mmdebstrap; install it (on Debian and Ubuntu: apt-get install mmdebstrap)"
    return None


def _unpack(root: Path) -> None:
    packages = ",".join(f"python{version}-venv" for version in VERSIONS)
    command = ["mmdebstrap", "--variant=extract", f"--include={packages}"]
    # A mirror that stands still for some weeks is no risk to a test; signatures count all the same.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"', SUITE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise Unavailable(f"mmdebstrap ended with exit status {done.returncode}:\n{last}")


def _make_startable(unpacked: Path, root: Path, version: str) -> None:
    """Put a script in the place of the interpreter, which then lies beside it.

    Args:
        unpacked: Where the files are now.
        root: Where they will be.
        version: Major and minor.
    """
    libraries = Path("usr/lib") / f"{platform.machine()}-linux-gnu"
    loaders = [path.name for path in (unpacked / libraries).glob("ld-linux-*.so.*")]
    if len(loaders) != 1:
        raise Unavailable(f"{libraries} has {len(loaders)} loaders in the place of one")
    launcher = unpacked / "usr/bin" / f"python{version}"
    real = Path("usr/libexec") / launcher.name
    (unpacked / real).parent.mkdir(parents=True, exist_ok=True)
    launcher.replace(unpacked / real)
    text = _LAUNCHER.format(
        name=launcher.name,
        loader=root / libraries / loaders[0],
        libraries=root / libraries,
        real=root / real,
    )
    _write_script(launcher, text)
    # Where ensurepip looks for pip; the machine's own may be too old for this Python, or none.
    for data in (unpacked / "usr/lib" / f"python{version}").glob("_sysconfigdata_*.py"):
        if not data.is_symlink():
            known = data.read_text(encoding="utf-8").replace(_WHEELS, f"{root}{_WHEELS}")
            data.write_text(known, encoding="utf-8")


def _write_script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make them, and say where they are; the exit status."""
    parser = argparse.ArgumentParser(
        prog="debian_python.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Exit status: 0, or {SKIPPED} if they cannot be had here.",
    )
    parser.add_argument(
        "versions", nargs="*", metavar="version", help=f"of {', '.join(VERSIONS)}; else all"
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.versions) - set(VERSIONS):
        parser.error(f"{SUITE} has {' and '.join(VERSIONS)}, not {', '.join(sorted(unknown))}")
    try:
        for interpreter in make(given.versions or VERSIONS):
            print(interpreter)
    except Unavailable as error:
        print(f"SKIPPED: {error}", file=sys.stderr)
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
