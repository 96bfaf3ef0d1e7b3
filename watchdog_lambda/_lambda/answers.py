"""The supervisor's output: answers over the Runtime API, and records on standard output."""

from __future__ import annotations

import json

from watchdog_lambda import _report
from watchdog_lambda._cpython.source import SourceMap, current_path
from watchdog_lambda._engine.clock import wall
from watchdog_lambda._report.record import EVENT, dumps, timestamp

from . import crash, memory
from .crash import Place
from .plain_http import Unanswered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    from watchdog_lambda._cpython.stacks import Stack

    from .fallback_file import FallbackFile
    from .kernel import Kernel
    from .plain_http import PlainApi
    from .runtime_process import Ended
    from .shared_state import Seen

_ACCEPTED: Final = 202
_REFUSED: Final = "watchdog.refused"
_ANSWERS_WITHIN: Final = 10.0
"""Seconds for the API to answer, even beyond the hard deadline: with less, an answer on its way
would count as unknown, and the next event would be requested before the answer has arrived."""


class Answers:
    """Answers for a runtime's process that cannot. Thread: the supervisor's only one."""

    def __init__(
        self,
        api: PlainApi,
        kernel: Kernel,
        fallback: FallbackFile,
        grace_period: Callable[[float], float],
        environ: Mapping[str, str],
    ) -> None:
        self.kernel = kernel
        self._api = api
        self._fallback = fallback
        self._grace_period = grace_period
        self._limit_mb = memory.limit_mb(environ)
        self._function = {
            "function_name": environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
            "function_version": environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
        }
        root = environ.get("LAMBDA_TASK_ROOT")
        self._path = [*([root] if root else []), *current_path()]

    def forget(self) -> None:
        """Remove the fallback: the process that stored it is gone."""
        self._fallback.clear()

    def place(self, stack: Stack) -> Place:
        """Describe a stack as the records do."""
        return Place(stack, SourceMap(self._path))

    def timeout(self, seen: Seen, place: Place) -> bool:
        """Answer for a stuck handler. Return whether the answer was accepted."""
        static = self._fallback.read(seen.request_id)
        now = wall()
        if static is not None:
            kind, body = static
            return self._post(f"invocation/{seen.request_id}/response", body, seen, kind, {})
        text = crash.timeout_message(now - seen.opened_at, seen.deadline - now, place.location)
        return self._post_error(seen, "LambdaTimeout", text, place)

    def crash(self, seen: Seen, ended: Ended, place: Place) -> bool:
        """Answer for a process that has ended. Return whether the answer was accepted."""
        now = wall()
        used = memory.peak_mb(ended.peak_kb, self._limit_mb), self._limit_mb
        text = crash.message(ended, now - seen.opened_at, place, *used)
        taken = self._post_error(seen, crash.TYPE, text, place)
        outcome = "answered" if taken else "refused"
        self._write({**crash.record(ended, place, used, outcome), **self._of(seen, now)})
        return taken

    def init_crash(self, ended: Ended, place: Place, *, is_first: bool) -> None:
        """Report where an init has crashed; the platform itself reports that it has.

        The platform accepts an error only for the sandbox's first init.
        """
        used = memory.peak_mb(ended.peak_kb, self._limit_mb), self._limit_mb
        text = crash.message(ended, None, place, *used)
        body = crash.error_body(crash.INIT_TYPE, text, "", place.stack)
        headers = {"Lambda-Runtime-Function-Error-Type": crash.INIT_TYPE}
        if is_first:
            self._send("init/error", body, headers)
        self._write({**crash.record(ended, place, used, "init"), **self._of(None, 0.0)})

    def report_timeout(self, seen: Seen, place: Place) -> None:
        """Write the record of a timeout that the watchdog could not write."""
        now = wall()
        record: dict[str, Any] = {
            "event": EVENT,
            "outcome": "stuck",
            **self._of(seen, now),
            "grace_period_ms": round(self._grace_period(seen.deadline - seen.opened_at) * 1000),
            "location": place.location,
            "stack": place.stack,
            "threads": {},
            "ended_after_ms": None,
            "hooks": [],
            "interrupts": [],
            "obstacle": "nothing in the process could act: the supervisor has answered",
            "last_resort": "supervise",
        }
        _report.write_line(dumps(record))

    def _of(self, seen: Seen | None, now: float) -> dict[str, Any]:
        """Return a record's keys about the function and its invocation, or about the init."""
        return {
            "request_id": seen.request_id if seen else "",
            **self._function,
            "elapsed_ms": round((now - seen.opened_at) * 1000) if seen else None,
            "remaining_ms": round((seen.deadline - now) * 1000) if seen else None,
        }

    def _post_error(self, seen: Seen, kind: str, text: str, place: Place) -> bool:
        body = crash.error_body(kind, text, seen.request_id, place.stack)
        headers = {"Lambda-Runtime-Function-Error-Type": kind}
        path = f"invocation/{seen.request_id}/error"
        return self._post(path, body, seen, "application/json", headers)

    def _post(self, path: str, body: bytes, seen: Seen, kind: str, headers: dict[str, str]) -> bool:
        headers = {"Content-Type": kind, **headers}
        if seen.invocation_id:
            # Return the id, so that the answer reaches the right one of several invocations.
            headers["Lambda-Runtime-Invocation-Id"] = seen.invocation_id
        return self._send(path, body, headers)

    def _send(self, path: str, body: bytes, headers: dict[str, str]) -> bool:
        """Post. Return whether the answer was accepted; if not, log the reason."""
        try:
            status, said = self._api.post(path, body, headers, _ANSWERS_WITHIN)
        except Unanswered:
            # It may have been accepted: if we answered again, there could be two answers.
            return True
        except OSError as error:
            status, said = 0, str(error)
        if status == _ACCEPTED:
            return True
        self._write(
            {
                "level": "WARNING",
                "message": _REFUSED,
                "timestamp": timestamp(),
                "event": _REFUSED,
                "status": status,
                "answer": said,
                "path": path,
            }
        )
        return False

    def _write(self, record: dict[str, Any]) -> None:
        _report.write_line(json.dumps(record))
