"""Builds the wheel and the sdist: once, or twice to compare them byte by byte."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools import ROOT


class Unfit(Exception):
    """What was built must not be published; the message says why."""


def build(
    kind: str, folder: Path, source: Path = ROOT, *, umask: int = -1, **environment: str
) -> Path:
    """Have this environment's pinned hatchling make a wheel or an sdist in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    environ = {**os.environ, **environment}
    subprocess.run(
        command, cwd=source, env=environ, umask=umask, check=True, stdout=subprocess.PIPE
    )
    [built] = folder.iterdir()
    return built


def built_alike(scratch: Path, files: Sequence[str], epoch: str) -> tuple[Path, Path]:
    """Sdist and wheel, built twice in unlike places; the first pair, if the second is the same."""
    here, there = scratch / "a", scratch / "somewhere" / "else entirely"
    _copy(files, here, file_mode=0o644, modified=1_000_000_000)
    _copy(files, there, file_mode=0o600, modified=1_700_000_000)
    usual = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": epoch}
    unusual = {**usual, "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "77"}
    found: list[Path] = []
    for kind in ("sdist", "wheel"):
        first = build(kind, scratch / kind, here, umask=0o022, **usual)
        second = build(kind, scratch / f"{kind} again", there, umask=0o077, **unusual)
        expect_same(f"the second {kind}", first, second)
        found.append(first)
    say("sdist and wheel: built twice, the same bytes")
    return found[0], found[1]


def _copy(files: Iterable[str], target: Path, *, file_mode: int, modified: int) -> None:
    for name in files:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
        # Whether a file may be executed is version control's to say; the rest is the user's.
        copy.chmod(file_mode | (0o100 if os.access(ROOT / name, os.X_OK) else 0))
        os.utime(copy, (modified, modified))


def expect_same(what: str, first: Path, second: Path) -> None:
    if first.name != second.name or first.read_bytes() != second.read_bytes():
        raise Unfit(f"{what} differs: {digest(first)} {first.name}, {digest(second)}")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def say(text: str) -> None:
    print(f"» {text}", flush=True)
