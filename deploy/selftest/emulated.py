"""The self-test's functions in AWS's emulator, which serves to test the self-test itself."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from deploy.selftest.functions import Answer, NotSeenError
from tests.runtime.emulator import Emulator, EmulatorError
from watchdog_lambda import ConfigurationError, Watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_HERE: Final = Path(__file__).resolve().parent
_ROOT: Final = _HERE.parent.parent
_SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "watched": {},
    "exit": {"WATCHDOG_LAMBDA_LAST_RESORT": "exit"},
    "supervised": {"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"},
    "sigterm": {"WATCHDOG_LAMBDA_SIGTERM": "1"},
}


class EmulatedFunction:
    """One function in its own emulator; see :class:`deploy.selftest.functions.Function`."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def invoke(self, do: str, **event: object) -> Answer:
        since = len(self._emulator.lines)
        response = self._emulator.invoke({"do": do, **event})
        return self._answer(response.body, response.seconds, since)

    def invoke_many(self, count: int, do: str, **event: object) -> list[Answer]:
        del count, do, event
        raise NotSeenError("the emulator takes one invocation at a time")

    def end(self) -> Answer:
        since = len(self._emulator.lines)
        self._emulator.close()
        return self._answer("", 0.0, since)

    def _answer(self, text: str, seconds: float, since: int) -> Answer:
        def read() -> list[str]:
            return [line.text for line in self._emulator.lines[since:]]

        return Answer(text, seconds, read, pause=0.05)


class EmulatedPlatform:
    """AWS's Runtime Interface Emulator, on this machine.

    It needs awslambdaric in this Python, which the environment of ``dev.py`` has.
    """

    name = "AWS's emulator"
    patience = 5.0
    lacks: Mapping[str, str] = {
        "report": "the emulator's report has no status",
        "freeze": "the emulator never freezes a sandbox",
        "snapshot": "the emulator takes no snapshots",
        "memory limit": "the emulator holds no function to its memory",
        "workers": "the emulator takes Managed Instances only in a container of AWS's layout",
        "CloudWatch": "there are no metric filters",
    }

    def __init__(self, timeout: int) -> None:
        self.timeout = float(timeout)
        self._functions: dict[str, EmulatedFunction] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def function(self, role: str) -> EmulatedFunction:
        if role not in self._functions:
            try:
                emulator = self._stack.enter_context(self._started(role))
            except EmulatorError as error:
                raise NotSeenError(str(error)) from error
            self._functions[role] = EmulatedFunction(emulator)
        return self._functions[role]

    def _started(self, role: str) -> Emulator:
        settings = _SETTINGS.get(role, {})
        if resort := settings.get("WATCHDOG_LAMBDA_LAST_RESORT"):
            _require(resort)
        runtime = "awslambdaric" if role == "plain" else "watchdog_lambda"
        return Emulator(
            [sys.executable, "-m", runtime, "app.handler"],
            cwd=_HERE,
            timeout=int(self.timeout),
            environment={"PYTHONPATH": str(_ROOT), "NO_PROXY": "127.0.0.1", **settings},
            function_name=role,
            warm_up={"do": "look"},
        )

    def idle(self) -> None:
        raise NotSeenError(self.lacks["freeze"])

    def counted(self, since: float, metrics: Sequence[str]) -> Mapping[str, float]:
        del since, metrics
        raise NotSeenError(self.lacks["CloudWatch"])


def _require(last_resort: str) -> None:
    try:
        Watchdog(last_resort=last_resort)  # type: ignore[arg-type] # that is the question
    except ConfigurationError as error:
        raise NotSeenError(f"this version of the package has none: {error}") from error
