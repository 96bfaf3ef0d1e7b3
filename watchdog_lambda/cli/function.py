"""Plain data: a function to be run here, and an invocation of it."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import watchdog_lambda

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .log import Line

RECORD: Final = "watchdog.timeout"
CRASH: Final = "watchdog.crash"

# Variables that the platform sets for a function, or that would influence it. The command's own
# environment may have them, for example in a shell inside Lambda.
_LAMBDAS: Final = re.compile(
    r"AWS_LAMBDA_|_?LAMBDA_|_HANDLER$|_X_AMZN_|AWS_EXECUTION_ENV$|_WATCHDOG_LAMBDA_"
)


class CannotRun(Exception):
    """The function cannot be run here. The message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A handler, and its configuration as Lambda would have it."""

    handler: str
    folder: Path
    timeout: float
    """Seconds."""
    memory: int
    """MB; told to the function, not enforced."""
    environ: Mapping[str, str]
    """Complete, except for what the host of the runtime adds."""
    is_watched: bool

    @property
    def command(self) -> list[str]:
        """The command that starts the real runtime, through our entrypoint or by itself."""
        module = "watchdog_lambda" if self.is_watched else "awslambdaric"
        return [sys.executable, "-m", module, self.handler]


def environment(
    given: Mapping[str, str], *, handler: str, memory: int, is_watched: bool
) -> dict[str, str]:
    """Combine this process's environment, the variables `given`, and Lambda's own."""
    environ = {**inherited(), **given}
    environ |= {
        "_HANDLER": handler,
        "AWS_LAMBDA_FUNCTION_NAME": environ.get("AWS_LAMBDA_FUNCTION_NAME", "function"),
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/Functions",
        "AWS_LAMBDA_LOG_STREAM_NAME": "$LATEST",
    }
    if not is_watched:
        environ["WATCHDOG_LAMBDA_DISABLED"] = "1"  # for a @watch in the code
    source = Path(watchdog_lambda.__file__).parent.parent
    if not source.name.endswith("-packages"):
        # In a checkout, let the runtime import the same package as this command.
        paths = [environ.get("PYTHONPATH", ""), str(source)]
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environ


def inherited() -> dict[str, str]:
    """Return this process's environment without the platform's variables."""
    return {name: value for name, value in os.environ.items() if not _LAMBDAS.match(name)}


@dataclass(slots=True)
class Invocation:
    """One invocation that is over. Times are seconds since its clock started."""

    body: str
    """The answer that the caller got."""
    kind: Literal["response", "error", "killed"]
    seconds: float
    """From the start of the clock to the answer, or to the kill."""
    began: float
    """The start of the clock, by ``time.monotonic()``."""
    init_seconds: float | None = None
    """How long the new process took to start; None if a process was running already."""
    init_counts: bool = False
    """Whether `seconds` includes `init_seconds`: true only with AWS's emulator, not in Lambda."""
    lines: list[Line] = field(default_factory=list["Line"])

    @property
    def answer(self) -> Any:
        """The decoded body, or its text if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body

    @property
    def error_type(self) -> str:
        """The type of an error, as the runtime names it."""
        return str(_as_dict(self.answer).get("errorType", "an error"))

    @property
    def record(self) -> tuple[float, dict[str, Any]] | None:
        """When the watchdog's record was written, and the record; None if there is no record."""
        for line in self.lines:
            record = record_in(line.text)
            if record is not None:
                return line.at - self.began, record
        return None

    @property
    def crash(self) -> dict[str, Any] | None:
        """The supervisor's record of a crash; None if there is none."""
        return next((found for line in self.lines if (found := crash_in(line.text))), None)


def record_in(text: str) -> dict[str, Any] | None:
    """Return the record of a timeout, if this line is one."""
    return _event_in(text, RECORD)


def crash_in(text: str) -> dict[str, Any] | None:
    """Return the record of a crash, if this line is one."""
    return _event_in(text, CRASH)


def _event_in(text: str, event: str) -> dict[str, Any] | None:
    if event not in text:
        return None
    found = object_in(text)
    return found if found.get("event") == event else None


def object_in(text: str) -> dict[str, Any]:
    """Decode a JSON object. Return an empty one for any other text."""
    try:
        return _as_dict(json.loads(text))
    except ValueError:
        return {}


def _as_dict(value: Any) -> dict[str, Any]:
    """Return a JSON object as it is, and an empty one for any other value."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
