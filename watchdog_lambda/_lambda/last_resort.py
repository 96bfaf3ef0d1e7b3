"""What last call does with a handler that has not come back (``exit``): answer for it, then leave.

It posts the error or the fallback and ends the process, which Lambda replaces for the next
invocation. Whether the real service delivers what was posted before an exit has not been verified.
``supervise``, the other way, is in :mod:`.supervise`.

Who answers is decided under the firing's lock, before anything is posted: from then on the
handler's thread, should it come back, waits in settle and never returns to the runtime.
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
"""The exit code: Lambda replaces a process that has ended whatever the code."""


class Exit:
    """Answers for stuck handlers and ends the process; one per process.

    Thread: made by the main one, at the start; used by the watchdog's.
    """

    def __init__(self, api: PlainApi, since: float) -> None:
        """Answer over `api`; children begun `since` then are ended with the process."""
        self._api = api
        self._since = since

    def act(self, firing: Firing) -> str | None:
        """Answer for the handler and leave; if that cannot be, say why (None: it has come back).

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
        except Exception as error:  # noqa: BLE001 - a request id can be what HTTP does not take
            # Whatever becomes of the handler, it answers for itself; else it would wait for good.
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
        except Exception as error:  # noqa: BLE001 - it has been answered for, so it must not go on
            firing.services.report.write_failure(error)
        finally:
            os._exit(_FAILED)


def _error(firing: Firing, request_id: str, now: float) -> bytes:
    """What awslambdaric makes of an exception that leaves the handler."""
    details = firing.details
    location, stack = (details.location, details.stack) if details else ("", ())
    text = timeout_message(now, firing.timeline.limit - now, location)
    return error_body("LambdaTimeout", text, request_id, stack)


def _headers(thread_id: int) -> dict[str, str]:
    """What awslambdaric from 4.2 on repeats of the event's headers, so that no answer goes astray.

    It is in the frame of the runtime's function that has called the handler, and nowhere else.
    """
    with gc_paused():  # see _stacks, which says why nobody walks another thread's frames otherwise
        frame = frame_of(thread_id)
        while frame is not None and frame.f_code.co_name != "handle_event_request":
            frame = frame.f_back
        identifier = None if frame is None else frame.f_locals.get("invocation_id")
    return {"Lambda-Runtime-Invocation-Id": identifier} if identifier else {}
