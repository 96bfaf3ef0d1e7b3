"""Follows the documentation to the letter: as a newcomer would, in a fresh folder.

    python3 dev.py follow                       # every page that has something to do
    python3 dev.py follow docs/tutorial         # those below a folder, or one page
    python3 dev.py follow --quick               # the tutorial, and the README's way to try it out

The wheel is built, and each page gets a virtual environment and a folder of its own. What a page
says to write down is written, what it says to type is typed into a shell, and what comes of it is
compared with what the page shows, but for times and other figures that no two runs share.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tools import ROOT, built, ending
from tools.documents import Block, blocks, commands, is_alike

BOUND: Final = 120.0  # seconds for one command
INSTALLED: Final = '"watchdog-lambda[runtime,cli]" pytest'
"""What the reader of a page that installs nothing has."""

TUTORIAL: Final = "docs/tutorial/first-timeout.md"
README_SECTION: Final = "Try a handler out"
"""The part of the README that a reader with nothing but the wheel can follow."""


class DepartureError(Exception):
    """The output differs from what the page shows; the message has both."""


def pages() -> list[str]:
    """The README, all of the documentation, and what the examples say of themselves."""
    found = [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/*/README.md"))]
    return ["README.md", *(path.relative_to(ROOT).as_posix() for path in found)]


def steps(page: str) -> list[Block]:
    """What a reader of the page is to do, and the outputs that go with it."""
    found = [block for block in blocks(ROOT / page, page) if not block.unrun]
    return [block for block in found if is_step(block) or _is_output(block, found)]


def needs_examples(page: str) -> bool:
    """Whether its reader has a checkout, with the examples in it."""
    return page == "README.md" or page.startswith("examples/")


def is_step(block: Block) -> bool:
    """Whether a reader can do it who has the package, and not this checkout."""
    if block.language == "console":
        return not all(each.text.startswith("python3 dev.py ") for each in commands(block))
    return block.language == "python"


def _is_output(block: Block, among: list[Block]) -> bool:
    """Whether it is what the console block before it shows, if that shows nothing itself."""
    before = among[among.index(block) - 1] if among.index(block) else None
    if block.language or before is None or before.language != "console" or not is_step(before):
        return False
    return before.heading == block.heading and not commands(before)[-1].output


_IN_REAL_TIME: Final = "watchdog-lambda invoke "
_INSTALLS: Final = ("python3 -m venv ", ". .venv/bin/activate", "pip install ")


class Reader:
    """Does what pages say, in one folder and one shell, whose directory and variables stay."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, may_install: bool = True
    ) -> None:
        """Begin in `folder`; if nothing may be installed, all that pages need is there already."""
        self._folder = folder
        self._environment = dict(environment)
        self._directory = folder
        self._may_install = may_install

    def follow(self, page: list[Block]) -> int:
        """Do the steps of one page and count them; a :class:`DepartureError` says what failed."""
        count = 0
        for number, block in enumerate(page):
            if block.language == "console":
                after = page[number + 1] if number + 1 < len(page) else None
                count += self._type(block, "" if after is None or after.language else after.code)
            elif block.file:
                self._write(block)
            elif block.language == "python":
                self._run_piece(block)
                count += 1
        return count

    def _write(self, block: Block) -> None:
        path = self._folder / block.file
        if block.is_continued and not path.exists():
            raise DepartureError(f"{block}: {block.file} goes on here, but does not begin anywhere")
        with path.open("a" if block.is_continued else "w", encoding="utf-8") as file:
            file.write(("\n\n" if block.is_continued else "") + block.code.partition("\n")[2])

    def _run_piece(self, block: Block) -> None:
        """Code that belongs to no file in particular: it can be run by itself."""
        piece = self._folder / "piece_of_a_page.py"
        piece.write_text(block.code, encoding="utf-8")
        shown, status = self.run(f"python -W error {piece}")
        piece.unlink()
        if status:
            raise DepartureError(f"{block}: the code ends with {status}:\n{shown}")

    def _type(self, block: Block, output_below: str) -> int:
        listed = commands(block)
        for number, command in enumerate(listed):
            expected = command.output
            if number == len(listed) - 1:
                expected = expected or output_below
            if not self._may_install and command.text.startswith(_INSTALLS):
                continue
            shown, status = self.run(command.text)
            if expected and not is_alike(expected, shown) and _IN_REAL_TIME in command.text:
                # A busy machine can be late; what is wrong is wrong twice.
                shown, status = self.run(command.text)
            # Where the output is shown, that says how it went: timeouts have statuses of their own.
            if status and not expected:
                raise DepartureError(f"{block}: `{command.text}` ends with {status}:\n{shown}")
            if expected and not is_alike(expected, shown):
                lines = difflib.ndiff(expected.splitlines(), shown.splitlines())
                raise DepartureError(
                    f"{block}: `{command.text}` shows (+) something else than the page (-):\n"
                    + "\n".join(line for line in lines if not line.startswith("?"))
                )
        return len(listed)

    def run(self, command: str) -> tuple[str, int]:
        """Type one command; what it shows, and its exit status."""
        with tempfile.TemporaryDirectory() as scratch:
            left = Path(scratch)
            # Directory and variables outlive the command, as in a terminal.
            script = f"trap 'pwd > {left}/pwd; env -0 > {left}/env' EXIT\n{command}\n"
            done = subprocess.run(
                ["bash", "--norc", "-c", script],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=BOUND,
                check=False,
            )
            self._directory = Path((left / "pwd").read_text(encoding="utf-8").rstrip("\n"))
            variables = (left / "env").read_text(encoding="utf-8").split("\0")
            self._environment = dict(v.split("=", 1) for v in variables if "=" in v)
        return done.stdout, done.returncode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ending.parser("dev.py follow", __doc__)
    add = parser.add_argument
    add("pages", nargs="*", help="pages, or folders of pages (default: all)")
    add("--quick", action="store_true", help="what a newcomer meets first, only")
    options = parser.parse_args(arguments)
    wanted = ["README.md", TUTORIAL] if options.quick else options.pages
    named = [os.path.relpath(Path(each).resolve(), ROOT) for each in wanted]
    chosen = [p for p in pages() if not wanted or any(f"{p}/".startswith(f"{n}/") for n in named)]
    if not chosen:
        parser.error(f"no page to follow in {' '.join(options.pages)}")
    with tempfile.TemporaryDirectory(prefix="follow-") as scratch:
        constraints = _constraints(Path(scratch))

        def follow(page: str) -> bool:
            todo = steps(page)
            if options.quick and page == "README.md":
                todo = [block for block in todo if block.heading == README_SECTION]
            began = time.monotonic()
            try:
                count = _follow(page, todo, Path(scratch, page), constraints) if todo else 0
            except (DepartureError, subprocess.TimeoutExpired) as error:
                print(f"{page}: DEPARTS\n{error}\n", flush=True)
                return False
            if todo:
                print(f"{page}: {count} run, {time.monotonic() - began:.1f} s", flush=True)
            return True

        # They wait most of the time.
        with ThreadPoolExecutor(max_workers=2) as pool:
            outcomes = list(pool.map(follow, chosen))
    return 0 if all(outcomes) else 1


def _follow(page: str, todo: list[Block], folder: Path, constraints: Path) -> int:
    """One page, in an environment that has only what the page installs itself."""
    home, work = folder / "home", folder / "work"
    home.mkdir(parents=True)
    work.mkdir()
    if any("-m venv" in block.code for block in todo):
        python = Path(getattr(sys, "_base_executable", sys.executable))
    else:
        venv.create(home / "python", with_pip=True, symlinks=True)
        python = home / "python" / "bin" / "python3"
    if needs_examples(page):
        shutil.copytree(ROOT / "examples", work / "examples")
    environment = {
        "HOME": os.environ.get("HOME", str(home)),
        "LANG": "C.UTF-8",
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),
        "PIP_CONSTRAINT": str(constraints),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))},
    }
    reader = Reader(work, environment)
    if 'pip install "watchdog-lambda' not in todo[0].code:
        # The page is for readers who have it already.
        shown, status = reader.run(f"pip install {INSTALLED}")
        if status:
            raise DepartureError(f"pip install ends with {status}:\n{shown}")
    return reader.follow(todo)


def _constraints(folder: Path) -> Path:
    """Build the wheel; a file that has pip take it, and of all else the pinned versions."""
    wheel = built.build("wheel", folder)
    # Of the same version anywhere else, pip takes the one with the higher build number: this one.
    # (Naming the file itself as a constraint is beyond pip 23.2, if extras are asked for.)
    name, version, tags = wheel.name.split("-", 2)
    wheel.rename(wheel.with_name(f"{name}-{version}-9-{tags}"))
    pinned = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^([\w.-]+==.*?) *\\?$", pinned, re.MULTILINE)
    path = folder / "constraints.txt"
    first = [f"--find-links {folder}", f"watchdog-lambda=={version}"]
    path.write_text("\n".join([*first, *lines]), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
