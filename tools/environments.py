"""The virtual environments that the commands of ``dev.py`` run in, and the Pythons to make them of.

Nothing but the standard library: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
PINNED: Final = ROOT / "requirements" / "dev.txt"
SUPPORTED: Final[tuple[str, ...]] = ("3.11", "3.12", "3.13", "3.14")


class SetUpError(Exception):
    """An environment cannot be made; the message says what to do."""


def environment(interpreter: str = sys.executable) -> Path:
    """The Python of an up-to-date environment for development; made if need be."""
    version = _version(interpreter)
    if tuple(map(int, version.split(".")[:2])) < tuple(map(int, SUPPORTED[0].split("."))):
        raise SetUpError(
            f"Python {version} is too old: use {SUPPORTED[0]} or newer, "
            "for example python3.13 dev.py ..."
        )
    is_this = Path(interpreter).resolve() == Path(sys.executable).resolve()
    name = ".venv" if is_this else f".venv-{version}"
    return _made(name, interpreter, PINNED, (ROOT / "pyproject.toml").read_bytes(), install_package)


def extra_environment(group: str, interpreter: str = sys.executable) -> Path:
    """The Python of an environment with nothing but a group's pinned packages; made if need be."""
    return _made(f".venv-{group}", interpreter, ROOT / "requirements" / f"{group}.txt")


def install_package(python: Path) -> None:
    """Install this checkout, as it stands, without what it depends on."""
    install = [*_pip(python), "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    subprocess.run(install, cwd=ROOT, check=True)


def environment_of(version: str) -> str:
    """The Python of the environment for development of a supported version."""
    interpreter = find(version)
    if interpreter is None:
        raise SetUpError(f"Python {version} was not found on this machine")
    return str(environment(interpreter))


def find(version: str) -> str | None:
    """An interpreter of this version: this one, or on PATH, or among pyenv's."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True)
    candidates = [*map(str, installed), shutil.which(f"python{version}")]
    for candidate in candidates:
        # A shim on PATH may stand for an interpreter that is not there.
        if candidate and subprocess.run([candidate, "-c", ""], check=False).returncode == 0:
            return candidate
    return None


def say(what: str) -> None:
    """Say what is being done, or was."""
    print(f"» {what}", file=sys.stderr, flush=True)


def _made(
    name: str,
    interpreter: str,
    pinned: Path,
    more: bytes = b"",
    finish: Callable[[Path], None] = lambda _python: None,
) -> Path:
    """The Python in folder `name`, with what is `pinned`; made anew if anything has changed.

    `more` is what else it is made of; `finish` is called with its Python once all is installed.
    """
    version = _version(interpreter)
    folder = ROOT / name
    python = folder / "bin" / "python"
    stamp = folder / ".made-of"
    made_of = hashlib.sha256(pinned.read_bytes() + more + version.encode()).hexdigest()
    with _alone(folder):
        if python.exists() and stamp.exists() and stamp.read_text() == made_of:
            return python
        say(f"setting up {name} for Python {version} (once)")
        if folder.exists():
            shutil.rmtree(folder)
        _make(folder, interpreter)
        _install(python, pinned)
        finish(python)
        stamp.write_text(made_of)
    return python


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another command that sets up the same: they would take it apart for each other."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, interpreter: str) -> None:
    if Path(interpreter).resolve() != Path(sys.executable).resolve():
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
        return
    try:
        venv.create(folder, with_pip=True, symlinks=True)
    except (subprocess.CalledProcessError, ModuleNotFoundError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise SetUpError(
            "this Python cannot make virtual environments with pip; on Debian and Ubuntu: "
            "apt install python3-venv"
        ) from error


def _install(python: Path, pinned: Path) -> None:
    """Install what is pinned: by uv, which takes a fifth of pip's time."""
    with tempfile.TemporaryDirectory() as scratch:
        only_uv = Path(scratch, "uv.txt")
        only_uv.write_text(_pin_of("uv"))
        subprocess.run([*_pip(python), "--require-hashes", "-r", str(only_uv)], check=True)
    uv = [str(python), "-m", "uv", "--system-certs", "pip", "install", "--quiet"]
    # What builds the few that come as source is pinned as well.
    uv += ["--python", str(python), "--build-constraints", str(PINNED)]
    try:
        subprocess.run([*uv, "--require-hashes", "-r", str(pinned)], check=True)
    except subprocess.CalledProcessError:
        # It does not read pip's settings, such as those of a mirror.
        say("uv could not install them; with pip it takes a minute or so")
        subprocess.run([*_pip(python), "--require-hashes", "-r", str(pinned)], check=True)


def _pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _pin_of(package: str) -> str:
    """The part of the pinned requirements that concerns one package."""
    lines = iter(PINNED.read_text().splitlines(keepends=True))
    part = [next(line for line in lines if line.startswith(f"{package}=="))]
    part += itertools.takewhile(lambda line: line.startswith("    --hash"), lines)
    # The last line's backslash would go on into nothing.
    return "".join(part).rstrip().rstrip("\\") + "\n"


def _version(interpreter: str) -> str:
    told = [interpreter, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]
    return subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()
