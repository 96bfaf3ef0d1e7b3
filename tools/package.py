"""What is published, made and looked into before it is: the wheel and the sdist.

    python3 dev.py package            # everything; leaves both in dist/
    python3 dev.py package --quick    # without the tests against the installed wheel

1. Builds both twice, from two copies of what version control has: other paths, modification times,
   permissions, umask, time zone, locale and hash seed. The bytes must be the same; the one clock
   that counts is SOURCE_DATE_EPOCH, the time of the last commit.
2. Builds the wheel once more, from the unpacked sdist. The same bytes again.
3. Compares the contents with version control, file by file: nothing missing, nothing else.
4. Has twine read the metadata and the README as PyPI does.
5. Installs the wheel with its extras into a new environment outside of the source tree, and runs it
   as a user would: the import, the command, the entrypoint under AWS's emulator.
6. Runs the unit tests in the unpacked sdist, its package taken away: against the installed wheel.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools import ROOT, ending
from tools.built import Unfit, build, built_alike, digest, expect_same, say
from tools.emulator import fetch_emulator

DIST: Final = ROOT / "dist"
PACKAGE: Final = "watchdog_lambda"

_UV: Final = (sys.executable, "-m", "uv", "--system-certs")
_PINNED: Final = ROOT / "requirements" / "dev.txt"

# Of what version control has, the sdist leaves out what only the repository needs.
_REPOSITORY_ONLY: Final = (".ci/", ".dockerignore")
_METADATA: Final = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
_TESTS: Final = ("tests/unit", "tests/test_api.py", "tests/test_pytest_plugin.py")

TIMED_OUT: Final = 3  # what `invoke` exits with for a handler that has answered its timeout
HANDLER: Final = """\
import time


def handler(event, context):
    try:
        time.sleep(event["sleep"])
    except TimeoutError:
        return {"statusCode": 504}
    return {"statusCode": 200}
"""


def main() -> int:
    parser = ending.parser("dev.py package", __doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the unit tests")
    parser.add_argument("--twine", type=Path, required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="package-") as scratch:
        try:
            _make(Path(scratch), given.twine, quick=given.quick)
        except Unfit as unfit:
            print(f"NOT FIT: {unfit}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            print(f"NOT FIT: {' '.join(map(str, error.cmd))} failed", file=sys.stderr)
            return 1
    return 0


def _make(scratch: Path, twine: Path, *, quick: bool) -> None:
    epoch = _git("log", "-1", "--format=%ct").strip()
    files = [name for name in _git("ls-files", "-z").split("\0") if name]
    if changed := _git("status", "--porcelain").strip():
        say(f"note: {len(changed.splitlines())} files are not as they were committed")
    files = [name for name in files if (ROOT / name).is_file()]

    sdist, wheel = built_alike(scratch, files, epoch)
    unpacked = _unpack(sdist, scratch / "unpacked")
    again = build("wheel", scratch / "again", unpacked, umask=0o022, SOURCE_DATE_EPOCH=epoch)
    expect_same("the wheel built from the sdist", wheel, again)
    say("the wheel built from the sdist is the same")

    _look_into_wheel(wheel, files)
    _look_into_sdist(sdist, files)
    say(_run([twine, "check", "--strict", sdist, wheel], cwd=scratch).strip())

    python = _installed(scratch / "user", wheel)
    _try_out(python, scratch / "elsewhere")
    if not quick:
        _test(python, unpacked)

    DIST.mkdir(exist_ok=True)
    for file in (sdist, wheel):
        shutil.copyfile(file, DIST / file.name)
        say(f"dist/{file.name}  {file.stat().st_size:,} bytes  sha256 {digest(file)}")


def _look_into_wheel(wheel: Path, files: Sequence[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    [about] = {name.split("/")[0] for name in names if ".dist-info/" in name}
    expected = {name for name in files if name.startswith(f"{PACKAGE}/")}
    # py.typed, or type checkers would not look at it.
    expected |= {f"{about}/{name}" for name in _METADATA} | {f"{PACKAGE}/py.typed"}
    _expect_contents("the wheel", expected, names)


def _look_into_sdist(sdist: Path, files: Sequence[str]) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    if odd := [member.name for member in members if not (member.isfile() or member.isdir())]:
        raise Unfit(f"the sdist has what is no plain file: {odd}")
    names = {member.name.partition("/")[2] for member in members if member.isfile()}
    expected = {name for name in files if not name.startswith(_REPOSITORY_ONLY)}
    _expect_contents("the sdist", expected | {"PKG-INFO"}, names)


def _expect_contents(what: str, expected: set[str], found: set[str]) -> None:
    if missing := sorted(expected - found):
        raise Unfit(f"{what} misses {', '.join(missing)}")
    if surplus := sorted(found - expected):
        raise Unfit(f"{what} has what version control has not: {', '.join(surplus)}")
    say(f"{what} has what it should: {len(found)} files")


def _unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = folder.iterdir()
    return unpacked


def _installed(folder: Path, wheel: Path) -> Path:
    """The Python of a new environment that has the wheel, with the versions that are pinned."""
    _run([*_UV, "venv", "--quiet", "--python", sys.executable, folder])
    python = folder / "bin" / "python"
    _install(python, "--constraint", _PINNED, f"{wheel}[runtime,cli]")
    _run([*_UV, "pip", "check", "--quiet", "--python", python])
    return python


def _install(python: Path, *what: object) -> None:
    _run([*_UV, "pip", "install", "--quiet", "--python", python, *what])


def _try_out(python: Path, folder: Path) -> None:
    """Run what a user would, from a folder that has nothing but a handler."""
    folder.mkdir()
    (folder / "app.py").write_text(HANDLER, encoding="utf-8")
    _run([python, "-I", "-c", _IMPORT.format(root=str(ROOT))], cwd=folder)
    command = python.with_name("watchdog-lambda")
    _run([command, "check", "app.handler", "--timeout", "30"], cwd=folder)
    invoke = [command, "invoke", "app.handler", "--event", '{"sleep": 0}', "--json"]
    invoke += ["--event", '{"sleep": 30}', "--timeout", "1"]
    for emulator in ("none", fetch_emulator()):
        document = _run([*invoke, "--emulator", emulator], cwd=folder, status=TIMED_OUT)
        answer = json.loads(document)["invocations"][-1]["response"]
        if answer != {"statusCode": 504}:
            raise Unfit(f"watchdog-lambda invoke answered {answer!r}\n{document}")
    say("installed elsewhere: check, and invoke, also under the emulator, of a timeout")


_IMPORT: Final = """
import importlib.metadata, importlib.resources, watchdog_lambda
assert watchdog_lambda.__version__ == importlib.metadata.version("watchdog-lambda")
assert importlib.resources.files("watchdog_lambda").joinpath("py.typed").is_file()
assert "site-packages" in watchdog_lambda.__file__, watchdog_lambda.__file__
assert not watchdog_lambda.__file__.startswith({root!r} + "/watchdog_lambda")
"""


def _test(python: Path, unpacked: Path) -> None:
    _install(python, "--require-hashes", "--build-constraints", _PINNED, "-r", _PINNED)
    shutil.rmtree(unpacked / PACKAGE)
    # As it is set for the tests of the tree: pytest puts the folder on the path by itself.
    told = _run([python, "-m", "pytest", "-q", "-n", "2", *_TESTS], cwd=unpacked)
    say(f"the unit tests pass against the installed wheel: {told.splitlines()[-1]}")


def _git(*arguments: str) -> str:
    try:
        return subprocess.check_output(["git", *arguments], cwd=ROOT, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise Unfit(f"git {arguments[0]} failed; run this in a clone of the repository") from error


def _run(command: Sequence[object], *, cwd: Path | None = None, status: int = 0) -> str:
    """Run a command that ends with this status; what it prints is shown if it does not."""
    # Nothing of this process's may steer what is tried: neither the tree, nor the watchdog.
    steering = ("PYTHON", "WATCHDOG_LAMBDA_", "AWS_LAMBDA_", "VIRTUAL_ENV")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    words = [*map(str, command)]
    done = subprocess.run(words, cwd=cwd, env=environ, check=False, text=True, capture_output=True)
    if done.returncode != status:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, words)
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
