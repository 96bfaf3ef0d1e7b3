"""The code blocks of the documentation's pages, in the order in which a reader meets them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNRUN: Final = re.compile(r"\*Not run by the tests: (.+)\*")
_FILE: Final = re.compile(r"# ([\w/]+\.py)(, continued)?")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    """Of the fence that opens it, from 1."""
    heading: str
    language: str
    """Empty for what is shown only, such as the output of a command."""
    code: str
    unrun: str
    """Why the tests do not run it; the page says so in front of it. Empty if they do."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str:
        """The file that the reader is to write it to, by its first line; empty if none."""
        found = _FILE.fullmatch(self.code.partition("\n")[0])
        return found[1] if found else ""

    @property
    def is_continued(self) -> bool:
        """Whether that file goes on with this block; otherwise the block is all of it."""
        found = _FILE.fullmatch(self.code.partition("\n")[0])
        return bool(found and found[2])


def blocks(path: Path, page: str) -> list[Block]:
    """All fenced blocks of a Markdown file; `page` is how to name it."""
    return list(_blocks(path.read_text(encoding="utf-8"), page))


def _blocks(text: str, page: str) -> Iterator[Block]:
    heading, said, is_heading = "", "", False
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "heading_open":
            is_heading = True
        elif token.type == "inline" and is_heading:
            heading, is_heading = token.content, False
        elif token.type == "inline":
            said = token.content
        elif token.type == "fence":
            reason = _UNRUN.fullmatch(said.rpartition("\n")[2])
            yield Block(
                page=page,
                line=token.map[0] + 1 if token.map else 0,
                heading=heading,
                language=token.info.strip(),
                code=token.content,
                unrun=reason[1] if reason else "",
            )
            # A reason speaks of one block only.
            said = ""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block."""

    text: str
    """As for the shell, with its line breaks."""
    output: str
    """What the page shows below it; empty if nothing."""


def commands(block: Block) -> list[Command]:
    """The commands of a console block: lines that begin with `$`, and the output below each.

    Raises:
        ValueError: Output stands above the first command.
    """
    found: list[tuple[list[str], list[str]]] = []
    goes_on = False
    for line in block.code.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
            goes_on = line.endswith("\\")
        elif not found:
            raise ValueError(f"{block}: output without a command")
        elif goes_on:
            found[-1][0].append(line)
            goes_on = line.endswith("\\")
        else:
            found[-1][1].append(line)
    return [Command("\n".join(text), "\n".join(output)) for text, output in found]
