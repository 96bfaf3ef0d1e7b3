"""Pythons that this machine has not: Debian's own builds, unpacked into ``.cache/debian-python``.

    python3 dev.py pythons [3.14] [3.15] [3.14-arm64]

Debian's testing suite has interpreters before a stable one has them. Its packages are unpacked and
not installed, with the C library and all that they link to. So nothing of this machine is changed,
and no chroot is needed: a script in the interpreter's place starts it with its own loader. Once
made, they are in ``.cache/debian-python/bin``, where every command of ``dev.py`` finds them. One
for another processor is started under qemu, by the same script.

Needs root and mmdebstrap, and qemu-user-static for another processor; takes 10 s and 100 MB.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools import ROOT, ending

SUITE: Final = "forky"
VERSIONS: Final = ("3.14", "3.15")  # what the suite has, for each processor
EMULATED: Final = "3.14-arm64"  # for AWS's other processor
# Resolved: a cache that several checkouts share has one path in what is written into it.
_CACHE: Final = (ROOT / ".cache" / "debian-python").resolve()
_WHEELS: Final = "/usr/share/python-wheels"
# With the loader and the libraries that it was built for. $0 is what Python takes for its own name,
# so a virtual environment's link to this script is one to an interpreter.
_LAUNCHER: Final = 'exec {emulator} {loader} --argv0 "$0" --library-path {libraries} {real} "$@"'


class Unavailable(RuntimeError):
    """Debian's Pythons cannot be had on this machine; the message says why, and what would do."""


def make(versions: Sequence[str] = VERSIONS) -> list[Path]:
    """Make interpreters, or take those made before; :class:`Unavailable` if there can be none.

    All of a processor's are fetched, for they share most files; only these are found from now on.
    """
    found = _CACHE / "bin"
    interpreters = [found / f"python{version}" for version in versions]
    found.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that make it at once would share half a folder
        for interpreter in interpreters:
            name, _, is_arm64 = interpreter.name.partition("-")
            machine = "aarch64" if is_arm64 else platform.machine()
            root = _CACHE / f"{SUITE}-{machine}"
            if not root.exists():
                _fetch(root, machine)
            # Alone in a folder: nothing else of Debian's comes onto PATH. And no link, for an
            # environment made with one would look for the standard library beside the link.
            _write_script(interpreter, f'exec {root / "usr/bin" / name} "$@"')
    return interpreters


def _fetch(root: Path, machine: str) -> None:
    emulator = "" if machine == platform.machine() else f"qemu-{machine}-static"
    if (reason := _missing(emulator)) is not None:
        raise Unavailable(reason)
    # Beside its final place, for a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        unpacked = Path(scratch, "root")
        _unpack(unpacked, *(["--architectures=arm64"] if emulator else []))
        for version in VERSIONS:
            _make_startable(unpacked, root, version, machine, emulator)
        # Last, so that no other process finds half of it.
        unpacked.replace(root)


def _missing(emulator: str) -> str | None:
    if os.geteuid() != 0:
        return "unpacking Debian's packages needs root; run it with sudo or in a container"
    for tool, package in (("mmdebstrap", "mmdebstrap"), (emulator, "qemu-user-static")):
        if tool and shutil.which(tool) is None:
            return f"needs {tool}; install it (on Debian and Ubuntu: apt-get install {package})"
    return None


def _unpack(root: Path, *options: str) -> None:
    # Wheels of code in C++ expect the library that the last is.
    packages = ",".join([*(f"python{version}-venv" for version in VERSIONS), "libstdc++6"])
    command = ["mmdebstrap", "--variant=extract", f"--include={packages}", *options]
    # A mirror that is some weeks old is no risk to a test; signatures are checked all the same.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"', SUITE, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise Unavailable(f"mmdebstrap ended with exit status {done.returncode}:\n{last}")


def _make_startable(unpacked: Path, root: Path, version: str, machine: str, emulator: str) -> None:
    """Put a script in the place of the interpreter, which is `unpacked` and will be in `root`."""
    libraries = Path("usr/lib") / f"{machine}-linux-gnu"
    loaders = [path.name for path in (unpacked / libraries).glob("ld-linux-*.so.*")]
    if len(loaders) != 1:
        raise Unavailable(f"{libraries} has {len(loaders)} loaders in the place of one")
    launcher = unpacked / "usr/bin" / f"python{version}"
    real = Path("usr/libexec") / launcher.name
    (unpacked / real).parent.mkdir(parents=True, exist_ok=True)
    launcher.replace(unpacked / real)
    there = {"libraries": root / libraries, "real": root / real}
    loader = root / libraries / loaders[0]
    _write_script(launcher, _LAUNCHER.format(emulator=emulator, loader=loader, **there))
    # Where ensurepip looks for pip; the machine's own may be too old for this Python, or none.
    for data in (unpacked / "usr/lib" / f"python{version}").glob("_sysconfigdata_*.py"):
        if not data.is_symlink():
            known = data.read_text(encoding="utf-8").replace(_WHEELS, f"{root}{_WHEELS}")
            data.write_text(known, encoding="utf-8")


def _write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def main() -> int:
    status = f"Exit status: 0, or {ending.SKIPPED} if they cannot be had here."
    parser = ending.parser("dev.py pythons", __doc__, status)
    known = (*VERSIONS, EMULATED)
    about = f"of {', '.join(VERSIONS)} (if none is named: these) and {EMULATED}"
    parser.add_argument("versions", nargs="*", metavar="version", help=about)
    given = parser.parse_args()
    if unknown := set(given.versions) - set(known):
        parser.error(f"there are {', '.join(known)}, not {', '.join(sorted(unknown))}")
    try:
        for interpreter in make(given.versions or VERSIONS):
            print(interpreter)
    except Unavailable as error:
        print(f"SKIPPED: {error}", file=sys.stderr)
        return ending.SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
