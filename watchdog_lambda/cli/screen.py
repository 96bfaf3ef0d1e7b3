"""Text output, with colours and a progress bar where `rich` is installed.

Colours and the progress bar appear only on a terminal, and never with ``NO_COLOR`` or
``TERM=dumb``. Without `rich` the same text is written plain.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import unicodedata
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

NARROWEST = 72
WIDEST = 120
WITHOUT_TERMINAL = 100


class Styled(NamedTuple):
    """A part of a line, and its style on a terminal: `bold`, `dim`, `red`, `green`, `yellow`."""

    text: str
    style: str = ""


class Screen:
    """One of the two standard streams.

    Thread: any; each line is written in one piece.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        is_terminal = stream.isatty()
        columns = shutil.get_terminal_size().columns - 1 if is_terminal else WITHOUT_TERMINAL
        self.width = min(max(columns, NARROWEST), WIDEST)
        self._console: Console | None = None
        if is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
            self._console = _console(stream)

    def show(self, *parts: str | Styled) -> None:
        """Write one line. The parts may contain the handler's text, so they are made printable."""
        styled = [
            Styled(printable(part))
            if isinstance(part, str)
            else Styled(printable(part.text), part.style)
            for part in parts
        ]
        if self._console is None:
            self._stream.write("".join(part.text for part in styled).rstrip() + "\n")
            self._stream.flush()
            return
        from rich.text import Text  # noqa: PLC0415 - an extra; installed, as the console is

        self._console.print(Text.assemble(*styled), soft_wrap=True)

    def show_json(self, text: str) -> None:
        """Write formatted JSON. What is written parses to the same value."""
        text = "\n".join(_printable_json(line) for line in text.split("\n"))
        if self._console is None:
            self._stream.write(f"{text}\n")
            self._stream.flush()
            return
        from rich.highlighter import JSONHighlighter  # noqa: PLC0415 - an extra, see above

        # Not rich.json.JSON: it formats the text again and undoes the escapes.
        self._console.print(JSONHighlighter()(text), soft_wrap=True)

    @contextlib.contextmanager
    def waiting(self, what: str, seconds: float, elapsed: Callable[[], float]) -> Generator[None]:
        """Show a progress bar that is full once `elapsed` has reached `seconds`.

        Without colours there is no bar.
        """
        if self._console is None:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - see above

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(what, total=seconds, left="")
            is_over = threading.Event()

            def advance() -> None:
                while not is_over.wait(0.1):
                    gone = elapsed()
                    left = f"{gone:.1f} s of {seconds:g} s"
                    progress.update(task, completed=min(gone, seconds), left=left)

            hand = threading.Thread(target=advance, name="progress", daemon=True)
            hand.start()
            try:
                yield
            finally:
                is_over.set()
                hand.join()


def _console(stream: TextIO) -> Console | None:
    try:
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return Console(file=stream, highlight=False)


def printable(text: str) -> str:
    """Replace what would move the cursor: the text may come from the handler."""
    return "".join(c if c.isprintable() or c == "\t" else "?" for c in text.replace("\xa0", " "))


def _printable_json(line: str) -> str:
    """Write control characters as JSON's own escapes."""
    if line.isprintable():
        return line
    # No other unprintable character (emoji joiners, spaces of other scripts) moves the cursor.
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _STEERING and c <= "\uffff" else c
        for c in line
    )


_STEERING = {"Cc", "Cs", "Zl", "Zp"}  # controls, lone surrogates, line and paragraph separators


def complain(problem: str) -> None:
    """Write an error message to standard error."""
    print(f"watchdog-lambda: {problem}", file=sys.stderr, flush=True)  # noqa: T201
