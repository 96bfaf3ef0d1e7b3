"""One function as it is to be run here, and what comes of invoking it; nothing that runs."""

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

# What the platform sets for a function, or what would steer it; the shell that the command is
# called from may be one in Lambda itself.
_LAMBDAS: Final = re.compile(
    r"AWS_LAMBDA_|_?LAMBDA_|_HANDLER$|_X_AMZN_|AWS_EXECUTION_ENV$|_WATCHDOG_LAMBDA_"
)


class CannotRun(Exception):
    """The function cannot be run here; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A handler, and all that Lambda would have been told about it."""

    handler: str
    folder: Path
    timeout: float
    """Seconds."""
    memory: int
    """MB; told to the function, not enforced."""
    environ: Mapping[str, str]
    """Complete but for what the host of the runtime adds."""
    is_watched: bool

    @property
    def command(self) -> list[str]:
        """The real runtime, through our entrypoint or by itself."""
        module = "watchdog_lambda" if self.is_watched else "awslambdaric"
        return [sys.executable, "-m", module, self.handler]


def environment(
    given: Mapping[str, str], *, handler: str, memory: int, is_watched: bool
) -> dict[str, str]:
    """The function's environment: this process's, what was `given`, and Lambda's own variables."""
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
        # A checkout: the runtime is to have the package that this command is of.
        paths = [environ.get("PYTHONPATH", ""), str(source)]
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environ


def inherited() -> dict[str, str]:
    """What a function here gets of this process's environment: all that is not the platform's."""
    return {name: value for name, value in os.environ.items() if not _LAMBDAS.match(name)}


@dataclass(slots=True)
class Invocation:
    """One invocation, once it is over. Times are seconds since its clock has started."""

    body: str
    """What the caller got."""
    kind: Literal["response", "error", "killed"]
    seconds: float
    """From the start of the clock to the answer, or to the kill."""
    began: float
    """The start of the clock, by ``time.monotonic()``."""
    init_seconds: float | None = None
    """What the start of a new process took; None if there was one."""
    init_counts: bool = False
    """Whether that is in `seconds`: with AWS's emulator, not in Lambda nor here."""
    lines: list[Line] = field(default_factory=list["Line"])

    @property
    def answer(self) -> Any:
        """The decoded body, or the text if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body

    @property
    def error_type(self) -> str:
        """Of an error, as the runtime has it."""
        return str(_as_dict(self.answer).get("errorType", "an error"))

    @property
    def record(self) -> tuple[float, dict[str, Any]] | None:
        """When the watchdog's record was written, and the record; None if there is none."""
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
    """The record of a timeout, if this line is one."""
    return _event_in(text, RECORD)


def crash_in(text: str) -> dict[str, Any] | None:
    """The record of a crash, if this line is one."""
    return _event_in(text, CRASH)


def _event_in(text: str, event: str) -> dict[str, Any] | None:
    if event not in text:
        return None
    found = object_in(text)
    return found if found.get("event") == event else None


def object_in(text: str) -> dict[str, Any]:
    """The JSON object that a text is; empty for anything else."""
    try:
        return _as_dict(json.loads(text))
    except ValueError:
        return {}


def _as_dict(value: Any) -> dict[str, Any]:
    """A JSON object, or an empty one in the place of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
