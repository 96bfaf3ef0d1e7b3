"""What the checks of claims work with: functions to invoke, on any platform, and their output."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROLES: Final = {
    "plain": "without the package",
    "watched": "with it",
    "exit": "with LAST_RESORT=exit",
    "supervised": "with LAST_RESORT=supervise",
    "sigterm": "with SIGTERM=1",
    "snapstart": "with it, started from a snapshot",
    "managed": "with it, on Managed Instances",
}
"""The functions that the claims are about."""

_REPORT: Final = re.compile(r'REPORT RequestId|"type": ?"platform\.report"')
_TIMED_OUT: Final = re.compile(r'Status: timeout|"status": ?"timeout"')


class NotSeenError(Exception):
    """A claim cannot be checked here; the message says why."""


class Answer:
    """The answer to the caller of a function, and the log of the function and the platform.

    Args:
        text: The answer's body.
        seconds: How long the caller waited.
        read: Returns all lines of the log since the invocation began.
        pause: Seconds between two reads of the log.
    """

    def __init__(
        self, text: str, seconds: float, read: Callable[[], list[str]], pause: float
    ) -> None:
        self.text = text
        self.seconds = seconds
        self._read = read
        self._pause = pause

    @property
    def body(self) -> Any:
        """The decoded answer, or the text itself if it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text

    @property
    def error(self) -> str:
        """The ``errorType``, or an empty string."""
        body = self.body
        return str(body.get("errorType", "")) if isinstance(body, dict) else ""

    @property
    def is_killed(self) -> bool:
        """Whether the platform says that the function has timed out."""
        return "Task timed out" in self.text or self.error == "Sandbox.Timedout"

    @property
    def pid(self) -> object:
        """The process that answered, if the answer says so."""
        return self.body.get("pid") if isinstance(self.body, dict) else None

    def wrote(self, pattern: str, within: float = 5.0) -> bool:
        """Wait for a line of the log that matches. Return whether it has come."""
        until = time.monotonic() + within
        while True:
            if any(re.search(pattern, line) for line in self._read()):
                return True
            if time.monotonic() > until:
                return False
            time.sleep(self._pause)

    def is_reported_as_timeout(self, within: float) -> bool:
        """Return whether the platform's report calls the invocation a timeout.

        Raises:
            NotSeenError: The report has not come.
        """
        if not self.wrote(_REPORT.pattern, within):
            raise NotSeenError(f"the platform's report did not come within {within:.0f} s")
        return any(_TIMED_OUT.search(line) for line in self._read())

    def __str__(self) -> str:
        return f"{self.text[:200]} after {self.seconds:.2f} s"


class Function(Protocol):
    """A function that can be invoked."""

    def invoke(self, do: str, **event: object) -> Answer:
        """Invoke it with ``{"do": do, ...}`` and wait for the answer."""

    def invoke_many(self, count: int, do: str, **event: object) -> list[Answer]:
        """The same, `count` times at once."""

    def end(self) -> Answer:
        """Have the platform end its sandbox. The log of that is in the answer."""


class Platform(Protocol):
    """The place where the functions run."""

    name: str
    timeout: float
    """The timeout of every function, in seconds."""
    patience: float
    """Seconds to wait for a line of the log, or for the end of a sandbox."""
    lacks: Mapping[str, str]
    """What this platform lacks: a claim's requirement, and why it is not available."""

    def function(self, role: str) -> Function:
        """Return the function of this role.

        Raises:
            NotSeenError: There is none.
        """

    def idle(self) -> None:
        """Do nothing for so long that the sandboxes are frozen."""

    def counted(self, since: float, metrics: Sequence[str]) -> Mapping[str, float]:
        """Return what the metric filters have counted since a time of day, by metric."""
