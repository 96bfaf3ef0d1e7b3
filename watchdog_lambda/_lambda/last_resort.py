"""``LAST_RESORT=exit``: answers for a handler that has not returned at last call, then exits.

It posts the error or the fallback and ends the process, which Lambda replaces for the next
invocation. It has not been verified that the real service delivers an answer posted before an exit.
The alternative, ``supervise``, is in :mod:`.supervise`.

Who answers is decided under the firing's lock, before anything is posted. From then on the
handler's thread, if it returns, waits in settle and never gets back to the runtime.
"""

from __future__ import annotations

import os

from watchdog_lambda._cpython.stacks import frame_of, gc_paused
from watchdog_lambda._engine.snapshot import attribute

from .crash import error_body, timeout_message
from .fallback_answer import make_fallback
from .offspring import end_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from watchdog_lambda._engine.invocation import Firing

    from .plain_http import PlainApi

_FAILED = 1
"""The exit status. Lambda replaces an exited process whatever its status."""


class Exit:
    """Answers for a stuck handler and ends the process. There is one per process.

    Thread: created by the main one, at the start; used by the watchdog's.
    """

    def __init__(self, api: PlainApi, since: float) -> None:
        """Answer over `api`; children started after `since` are killed with the process."""
        self._api = api
        self._since = since

    def margin(self, _seconds: float) -> float:
        """Return 0.0: nothing else acts before the hard deadline. Thread: any."""
        return 0.0

    def act(self, firing: Firing) -> str | None:
        """Answer for the handler and exit. Else return why not; None if the handler has returned.

        Thread: watchdog.
        """
        request_id = attribute(firing.invocation.context, "aws_request_id")
        if not request_id:
            return "the context has no aws_request_id"
        answer, remark = make_fallback(firing, firing.timeline.limit - firing.elapsed())
        if not firing.claim_answer():
            return None
        try:
            self._post(firing, request_id, answer, firing.elapsed())
        except Exception as error:  # noqa: BLE001 - a request id may not be valid in HTTP
            # Let the handler answer for itself if it returns; otherwise it would wait forever.
            firing.give_answer_back()
            return f"the answer could not be posted: {error}"
        return self._leave(firing, remark)

    def _post(
        self, firing: Firing, request_id: str, answer: tuple[bytes, str] | None, now: float
    ) -> None:
        headers = _headers(firing.thread_id)
        left = firing.timeline.limit - now
        if answer is None:
            body, headers["Content-Type"] = _error(firing, request_id, now), "application/json"
            headers["Lambda-Runtime-Function-Error-Type"] = "LambdaTimeout"
            path = f"invocation/{request_id}/error"
        else:
            body, headers["Content-Type"] = answer
            path = f"invocation/{request_id}/response"
        status, said = self._api.post(path, body, headers, left)
        if not 200 <= status < 300:
            raise OSError(f"{status} {said}")

    def _leave(self, firing: Firing, remark: str) -> NoReturn:
        try:
            firing.report("stuck", "exit" + remark)
            end_children(self._since)
        except Exception as error:  # noqa: BLE001 - it is answered for, so the process must end
            firing.services.report.write_failure(error)
        finally:
            os._exit(_FAILED)


def _error(firing: Firing, request_id: str, now: float) -> bytes:
    """Make the body that awslambdaric sends for an exception that leaves the handler."""
    details = firing.details
    location, stack = (details.location, details.stack) if details else ("", ())
    text = timeout_message(now, firing.timeline.limit - now, location)
    return error_body("LambdaTimeout", text, request_id, stack)


def _headers(thread_id: int) -> dict[str, str]:
    """Return the event's headers that awslambdaric 4.2 and newer repeats in the answer.

    They are only in the frame of the runtime's function that has called the handler.
    """
    with gc_paused():  # required for walking another thread's frames; see _cpython.stacks
        frame = frame_of(thread_id)
        while frame is not None and frame.f_code.co_name != "handle_event_request":
            frame = frame.f_back
        identifier = None if frame is None else frame.f_locals.get("invocation_id")
    return {"Lambda-Runtime-Invocation-Id": identifier} if identifier else {}
