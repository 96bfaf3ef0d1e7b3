"""The code blocks of the documentation's pages, and what output is alike to the one they show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

_UNRUN: Final = re.compile(r"\*Not run by the tests: (.+)\*")
_COMMAND: Final = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_FILE: Final = re.compile(r"# ([\w/]+\.py)(, continued)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int  # of the fence that opens it, from 1
    heading: str
    language: str  # empty for what is shown only, such as the output of a command
    code: str
    unrun: str  # why the tests do not run it; the page says so in front of it. Empty if they do.

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that the reader is to write it to, by its first line; empty if none."""
        return (_FILE.match(self.code) or ("", ""))[1]

    @property
    def is_continued(self) -> bool:
        """Whether that file goes on with this block; otherwise the block is all of it."""
        return bool((_FILE.match(self.code) or ("", "", ""))[2])


def blocks(path: Path, page: str) -> list[Block]:
    """All fenced blocks of a Markdown file; `page` is how to name it."""
    found = []
    heading, said, is_heading = "", "", False
    for token in MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8")):
        if token.type == "inline" and is_heading:
            heading = token.content
        elif token.type == "inline":
            said = token.content
        elif token.type == "fence":
            reason = _UNRUN.fullmatch(said.rpartition("\n")[2])
            line = token.map[0] + 1 if token.map else 0
            unrun = reason[1] if reason else ""
            found.append(Block(page, line, heading, token.info.strip(), token.content, unrun))
            said = ""  # a reason is for one block
        is_heading = token.type == "heading_open"
    return found


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block."""

    text: str  # as for the shell, with its line breaks
    output: str  # what the page shows below it; empty if nothing


def commands(block: Block) -> list[Command]:
    """The commands of a console block: lines that begin with `$`, and the output below each.

    Raises:
        ValueError: Output stands above the first command.
    """
    if not block.code.startswith("$ "):
        raise ValueError(f"{block}: output without a command")
    found = _COMMAND.findall(block.code.rstrip("\n") + "\n")
    return [Command(text, output.removesuffix("\n")) for text, output in found]


_MAY_BE_MISSING: Final = re.compile(
    r"(settle|cleanup) .* \d+ ms|init +i.*|built-in Runtime API|AWS's emulator, .*"
)


def is_alike(expected: str, shown: str) -> bool:
    """Whether both are the same except for figures; `...` matches any lines or words."""
    parts = [re.escape(part.strip()) for part in essence(expected).split("...")]
    # An ellipsis that matches nothing has one space around it.
    return re.fullmatch(r"\s*.*?\s*".join(parts), essence(shown), re.DOTALL) is not None


def essence(text: str) -> str:
    """A text without what differs from run to run.

    That is numbers with a fraction or of two, four and more digits (times, versions), process ids,
    the length of a timeline's bars, rows of a timeline that may take no time, and identifiers;
    and what it is that kills: AWS's emulator, if the machine has one, or the built-in Runtime API.
    Counts up to nine and statuses of three digits are kept.
    """
    kept = [line for line in text.splitlines() if not _MAY_BE_MISSING.fullmatch(line.rstrip())]
    text = re.sub(r"; new process, started in [\d.]+ s", "", "\n".join(kept))
    # The dots of a bar, and no others, come in fours or more.
    text = re.sub(r"\.{4,}", "_", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    # In a container of its own a process can have a number of any length.
    text = re.sub(r"(?<=\"pid\": )\d+", "N", text)
    text = re.sub(r"\b\d+ ms\b|\b\d+(\.\d+)+( ms)?", "N", text)
    text = re.sub(r"(?<![\w.])\d{2}(?!\d)|(?<![\w.])\d{4,}", "N", text)
    text = re.sub(r"([=!#sh|-])\1+", r"\1", text)
    return re.sub(r"[\s|]+", " ", text).strip()
