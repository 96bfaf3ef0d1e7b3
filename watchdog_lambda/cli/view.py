"""The output of ``invoke``: text as it happens, or one JSON document at the end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from .function import crash_in, object_in, record_in
from .outcome import crash_in_words, drawn, in_words, outcome_of, phases, time_spent
from .screen import Screen, Styled

if TYPE_CHECKING:
    from .function import Function, Invocation
    from .log import Line

SCHEMA = 1
"""The version of the JSON. It changes if a key is removed or its meaning changes."""

_TIME = 7  # columns for the time before a line of the log


class TextView:
    """Writes the answer to standard output and everything else to standard error."""

    def __init__(self, function: Function, emulator: str | None, note: str) -> None:
        self._function = function
        self._answers = Screen(sys.stdout)
        self._screen = Screen(sys.stderr)
        self._began: float | None = None
        watched = "with the watchdog" if function.is_watched else "without the watchdog"
        limit = f"limit {function.timeout:g} s"
        self._dim(f"{function.handler}, {watched}, {limit}; {_versions()}")
        if emulator is None:
            self._dim("built-in Runtime API" + (f" ({note})" if note else ""))
        else:
            self._dim(f"AWS's emulator, {emulator}")

    def line(self, line: Line) -> None:
        """Show a line of the function's output, with its time. Thread: any."""
        began = self._began
        at = f"{'init':>{_TIME}}" if began is None else f"{line.at - began:{_TIME}.2f}"
        record = record_in(line.text)
        if record is not None:
            where = f" in {record['location']}" if record.get("location") else ""
            text = f"watchdog.timeout{where}: {record['outcome']}"
            self._screen.show(Styled(at, "dim"), "  ", Styled(text, "bold"))
            return
        crash = crash_in(line.text)
        if crash is not None:
            text = f"watchdog.crash: {crash_in_words(crash)}"
            self._screen.show(Styled(at, "dim"), "  ", Styled(text, "bold"))
            return
        # The runtime separates the lines of one traceback with \r.
        for number, text in enumerate(spoken(line.text).rstrip("\r").split("\r")):
            head = at if number == 0 else ""
            self._screen.show(Styled(f"{head:>{_TIME}}", "dim"), "  ", text)

    def on_start(self, what: Literal["init", "invocation"], at: float, /) -> None:
        """Start counting the time."""
        self._began = at if what == "invocation" else None

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Show a progress bar."""
        return self._screen.waiting(self._function.handler, self._function.timeout, self._elapsed)

    def _elapsed(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def show(self, invocation: Invocation) -> None:
        """Show the answer, the timeline and the outcome."""
        self._screen.show()
        answer = invocation.answer
        if invocation.kind == "killed":
            self._answers.show(Styled(invocation.body, "red"))
        else:
            self._answers.show_json(json.dumps(answer, indent=2, ensure_ascii=False))
        self._screen.show()
        timeout = self._function.timeout
        for line in drawn(invocation, timeout, self._screen.width):
            self._screen.show(*line)
        spent = time_spent(invocation, self._screen.width)
        if spent:
            self._screen.show()
        for line in spent:
            self._screen.show(*line)
        self._screen.show()
        text, style = in_words(invocation, timeout)
        if invocation.init_seconds is not None and not invocation.init_counts:
            text += f"; new process, started in {invocation.init_seconds:.2f} s"
        self._screen.show(Styled(text, style))

    def end(self, _status: int, _after: list[Line]) -> None:
        """Do nothing: all lines have been shown."""

    def _dim(self, text: str) -> None:
        self._screen.show(Styled(text, "dim"))


class JsonView:
    """Writes one document to standard output; docs/reference/command.md describes it."""

    def __init__(self, function: Function, emulator: str | None) -> None:
        self._function = function
        self._emulator = emulator
        self._invocations: list[dict[str, Any]] = []
        self._last = 0.0

    def line(self, _line: Line) -> None:
        """Do nothing: the document is written at the end."""

    def on_start(self, _what: Literal["init", "invocation"], at: float, /) -> None:
        """Remember the time, which lines after the last invocation count from."""
        self._last = at

    def waiting(self) -> contextlib.AbstractContextManager[None]:
        """Show nothing."""
        return contextlib.nullcontext()

    def show(self, invocation: Invocation) -> None:
        """Add the invocation to the document."""
        record = invocation.record
        answer = invocation.answer
        is_response = invocation.kind == "response"
        if invocation.kind == "killed":
            answer = {"errorType": "Sandbox.Timedout", "errorMessage": invocation.body}
        self._invocations.append(
            {
                "outcome": outcome_of(invocation),
                "response": answer if is_response else None,
                "error": None if is_response else answer,
                "seconds": round(invocation.seconds, 3),
                "init_seconds": None
                if invocation.init_seconds is None
                else round(invocation.init_seconds, 3),
                "init_counts": invocation.init_counts,
                "record": None if record is None else record[1],
                "crash": invocation.crash,
                "timeline": [
                    phase.as_dict() for phase in phases(invocation, self._function.timeout)
                ],
                "log": _lines(invocation.lines, invocation.began),
            }
        )

    def end(self, status: int, after: list[Line]) -> None:
        """Write the document."""
        function = self._function
        document = {
            "schema": SCHEMA,
            "handler": function.handler,
            "is_watched": function.is_watched,
            "host": "built-in" if self._emulator is None else "emulator",
            "emulator": self._emulator,
            "timeout": function.timeout,
            "memory": function.memory,
            "python": platform.python_version(),
            "awslambdaric": importlib.metadata.version("awslambdaric"),
            "invocations": self._invocations,
            "log_after": _lines(after, self._last),
            "exit_status": status,
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        sys.stdout.flush()


def spoken(text: str) -> str:
    """Shorten a structured logger's line to its level and message."""
    entry = object_in(text) if text.startswith("{") else {}
    message = entry.get("message")
    if not isinstance(message, str):
        return text
    level = entry.get("level")
    return f"{level} {message}" if isinstance(level, str) else message


def _lines(lines: list[Line], began: float) -> list[dict[str, Any]]:
    return [{"at": round(line.at - began, 3), "text": line.text} for line in lines]


def _versions() -> str:
    runtime = importlib.metadata.version("awslambdaric")
    return f"awslambdaric {runtime}, Python {platform.python_version()}"
