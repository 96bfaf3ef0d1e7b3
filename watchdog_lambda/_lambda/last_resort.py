"""What last call does with a handler that has not come back: answer in its place, then leave.

``exit`` posts the error or the fallback and ends the process, which Lambda replaces for the next
invocation. ``restart`` posts the same and starts the runtime anew in this very process: measured
with AWS's emulator, the caller has the answer then and the next invocations are served by the same
pid. Whether the real service delivers what was posted before an exit has not been verified; a
restart ends the invocation in the documented way, by asking for the next event.

Who answers is decided under the firing's lock, before anything is posted: from then on the
handler's thread, should it come back, waits in settle and never returns to the runtime.
"""

from __future__ import annotations

import json
import os
import sys

from watchdog_lambda import _report
from watchdog_lambda._cpython.stacks import frame_of, gc_paused
from watchdog_lambda._engine.clock import cpu_time
from watchdog_lambda._engine.stage import call_bounded
from watchdog_lambda._plan import NO_FALLBACK
from watchdog_lambda._report import metrics
from watchdog_lambda._report.record import attribute

from .process import end_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from watchdog_lambda._engine.firing import Firing

    from .process import Start
    from .runtime_api import RuntimeApi

FALLBACK_SHARE = 1 / 3
"""A fallback gets this share of the time to the hard deadline; the error is posted without it."""

_FAILED = 1
"""The exit code: Lambda replaces a process that has ended whatever the code."""


class LastResort:
    """Answers for stuck handlers and ends or restarts the process; one per process.

    Thread: made by the main one, at the start; used by the watchdog's.
    """

    def __init__(self, api: RuntimeApi, start: Start, past: Mapping[str, str]) -> None:
        self._api = api
        self._start = start
        self._past = past
        # Of the processor, not of the clock: what came from a cold disk the first time is in the
        # page cache when the same program starts again.
        self._init_began = float(past.get("cpu", 0.0))
        self._init_seconds = 0.0
        if not past:
            # At init, which Lambda gives a full processor. A restarted program's init is short of
            # time, so there the first invocation pays.
            api.preload()

    def preload(self) -> None:
        """Import what must not be imported while the watchdog fires. Thread: a handler's."""
        self._init_seconds = cpu_time() - self._init_began
        self._api.preload()

    def act(self, firing: Firing, monotonic: Callable[[], float]) -> str | None:
        """Answer for the handler and leave; if that cannot be, say why (None: it has come back).

        Thread: watchdog.
        """
        request_id = attribute(firing.invocation.context, "aws_request_id")
        if not request_id:
            return "the context has no aws_request_id"
        answer, remark = _fallback(firing, firing.timeline.hard - monotonic())
        if not firing.claim_answer():
            return None
        try:
            self._post(firing, request_id, answer, monotonic())
        except Exception as error:  # noqa: BLE001 - a request id can be what HTTP does not take
            # Whatever becomes of the handler, it answers for itself; else it would wait for good.
            firing.give_answer_back()
            return f"the answer could not be posted: {error}"
        return self._leave(firing, remark, monotonic())

    def _post(
        self, firing: Firing, request_id: str, answer: tuple[bytes, str] | None, now: float
    ) -> None:
        headers = _headers(firing.thread_id)
        left = firing.timeline.hard - now
        if answer is None:
            error = _error(firing, request_id, now)
            self._api.post_error(request_id, error, headers, left)
        else:
            body, headers["Content-Type"] = answer
            self._api.post_response(request_id, body, headers, left)

    def _leave(self, firing: Firing, remark: str, now: float) -> NoReturn:
        try:
            action = firing.invocation.plan.settings.last_resort
            left = firing.timeline.hard - now
            if action == "restart" and self._init_seconds >= left:
                # Killed in the middle of its start it would be no use, and might take the answer
                # with it (AWS's emulator hands it on once the runtime asks for the next event or
                # has ended).
                remark = f" (a restart takes {self._init_seconds:.2f} s, {left:.2f} s are left)"
                action = "exit"
            if firing.claim_report():
                _report.write(firing, "stuck", now, last_resort=action + remark)
                metrics.write(firing, "stuck", now)
            if action == "restart":
                self._start.again({**self._past, "cpu": f"{cpu_time():.3f}"})
            end_children(self._start.children)
        except Exception as error:  # noqa: BLE001 - it has been answered for, so it must not go on
            _report.write_failure(error)
        finally:
            os._exit(_FAILED)


def _fallback(firing: Firing, left: float) -> tuple[tuple[bytes, str] | None, str]:
    """The fallback's body and content type, if there is one and it works; and a remark if not.

    A callable is the user's code: it runs on a thread of its own, for a bounded time.
    """
    invocation = firing.invocation
    fallback = invocation.plan.fallback
    if fallback is NO_FALLBACK:
        return None, ""

    def make() -> tuple[bytes, str]:
        if callable(fallback):
            return _encode(invocation.plan.answer(firing.details, invocation.event))
        return _encode(fallback)

    try:
        call = call_bounded(make, left * FALLBACK_SHARE)
    except RuntimeError:
        return None, " (no thread for the fallback)"
    if call.has_returned:
        return call.result, ""
    if call.error:
        return None, f" (the fallback raised {call.error})"
    return None, " (the fallback did not return in time)"


def _encode(value: object) -> tuple[bytes, str]:
    """A handler's result as awslambdaric sends it: body and content type."""
    client = sys.modules.get("awslambdaric.lambda_runtime_client")
    if client is None:
        return json.dumps(value).encode(), "application/json"
    # Looked up now: users put marshallers of their own there.
    body, kind = client.LambdaRuntimeClient.marshaller.marshal_response(value)
    return body if isinstance(body, bytes) else body.encode(), kind


def _error(firing: Firing, request_id: str, now: float) -> dict[str, object]:
    """What awslambdaric makes of an exception that leaves the handler."""
    timeline, details = firing.timeline, firing.details
    start, hard = timeline.start, timeline.hard
    return {
        "errorType": "LambdaTimeout",
        "errorMessage": (
            f"gave up after {now - start:.1f} s, {max(0.0, hard - now):.1f} s before the "
            f"{hard - start:.1f} s limit, in {details.location if details else 'unknown'}"
        ),
        "requestId": request_id,
        "stackTrace": [f"  {place}\n" for place in details.stack] if details else [],
    }


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
