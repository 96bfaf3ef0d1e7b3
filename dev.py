#!/usr/bin/env python3
"""Every command of this project, from a fresh checkout with nothing but Python.

    python3 dev.py                   # lists the commands
    python3 dev.py test -k shield    # what follows the command goes to it

The commands are the sessions of noxfile.py. This file makes the environment for development in
``.venv``, once, and hands over to nox there.

Exit status: the command's; 77 if it could not run here at all, as automake has it.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PINNED = ROOT / "requirements" / "dev.txt"
OLDEST = (3, 11)
SKIPPED = 77


def main(arguments: list[str]) -> int:
    """Run one command."""
    if sys.version_info < OLDEST:
        version = ".".join(map(str, OLDEST))
        sys.exit(f"dev.py: this Python is too old: use {version} or newer, such as python3.13")
    nox = [str(environment()), "-m", "nox", "--noxfile", str(ROOT / "noxfile.py")]
    if not arguments or arguments[0].startswith("-"):
        return subprocess.call([*nox, "--list"])
    name, *rest = arguments
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch, "report.json")
        options = ["--session", name, "--report", str(report)]
        process = subprocess.Popen([*nox, *options, "--", *rest])
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:
                # The terminal sent Ctrl-C to the command too, which ends in its own way.
                continue
        ran = json.loads(report.read_text())["sessions"] if report.exists() else []
    skipped = [session for session in ran if session["result"] == "skipped"]
    for session in skipped:
        signature = (session["signatures"] or [session["name"]])[0]
        told = f"!!! SKIPPED: {signature}: {session['reason']}"
        print(told, file=sys.stderr)
        if log := os.environ.get("DEV_SKIPPED"):  # a file of .ci/run's
            with Path(log).open("a") as file:
                print(told, file=file)
    return SKIPPED if ran and len(skipped) == len(ran) else status


def environment() -> Path:
    """The Python of the environment for development, made or brought up to date if need be."""
    folder = ROOT / ".venv"
    python, stamp = folder / "bin" / "python", folder / ".made-of"
    made_of = hashlib.sha256(
        PINNED.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode()
    ).hexdigest()
    # Two commands that start at once would take it apart for each other.
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != made_of:
            print("» setting up .venv (once)", file=sys.stderr, flush=True)
            try:
                _make(folder, python)
            except subprocess.CalledProcessError as error:
                sys.exit(f"dev.py: {' '.join(map(str, error.cmd))} failed")
            stamp.write_text(made_of)
    return python


def _make(folder: Path, python: Path) -> None:
    is_same = (folder / "pyvenv.cfg").exists() and _version_of(python) == sys.version
    try:
        # What is there is brought up to date, unless it is another Python's.
        venv.create(folder, with_pip=True, symlinks=True, clear=not is_same)
    except (subprocess.CalledProcessError, ModuleNotFoundError):
        sys.exit(
            "dev.py: this Python cannot make virtual environments with pip; on Debian and Ubuntu: "
            "apt install python3-venv"
        )
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as scratch:
        only_uv = Path(scratch, "uv.txt")
        only_uv.write_text(_pin_of("uv"))
        subprocess.run([*pip, "--require-hashes", "-r", str(only_uv)], check=True)
    uv = [str(python), "-m", "uv", "--system-certs", "--quiet", "pip", "sync"]
    if sys.dont_write_bytecode:
        # PYTHONDONTWRITEBYTECODE is set: every start of a function would compile them anew.
        uv += ["--compile-bytecode"]
    # What builds the few packages that come as source is pinned as well.
    uv += ["--python", str(python), "--build-constraints", str(PINNED), "--require-hashes"]
    if subprocess.call([*uv, str(PINNED)]):
        # uv does not read pip's settings, such as those of a mirror.
        print("» uv could not install them; with pip it takes a minute or so", file=sys.stderr)
        subprocess.run([*pip, "--require-hashes", "-r", str(PINNED)], check=True)
    install = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    subprocess.run([*pip, *install], check=True)


def _pin_of(package: str) -> str:
    """The part of the pinned requirements that concerns one package."""
    lines = iter(PINNED.read_text().splitlines(keepends=True))
    part = [next(line for line in lines if line.startswith(f"{package}=="))]
    part += itertools.takewhile(lambda line: line.startswith("    --hash"), lines)
    # The last line's backslash would go on into nothing.
    return "".join(part).rstrip().rstrip("\\") + "\n"


def _version_of(python: Path) -> str:
    command = [str(python), "-c", "import sys; print(sys.version, end='')"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
