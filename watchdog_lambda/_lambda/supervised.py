"""The runtime's side of the supervisor: what it passes on, and how."""

from __future__ import annotations

import os

from watchdog_lambda._engine.snapshot import attribute
from watchdog_lambda._plan import NO_FALLBACK

from .decision import margin
from .fallback_answer import encoded, make_fallback
from .process import before_next_event
from .shared_state import RECYCLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from watchdog_lambda._engine.invocation import Firing
    from watchdog_lambda._plan import Plan

    from .fallback_file import FallbackFile
    from .shared_state import SharedState


class Supervised:
    """Hands a stuck handler over to the supervisor. There is one per process.

    Thread: created by the main one, at the start; used by the watchdog's.
    """

    def __init__(
        self,
        state: SharedState,
        fallback: FallbackFile,
        ring: Callable[[], None],
    ) -> None:
        self._state = state
        self._fallback = fallback
        self._ring = ring

    def publish(self, plan: Plan) -> None:
        """Store what the supervisor must know of a handler. Thread: main, at the end of init.

        A fallback that is a function cannot be called if nothing in the process can act, and a
        value that the runtime cannot send is left out. In both cases the caller gets the error.
        """
        self._state.set_grace_period(plan.settings.grace_period)
        fallback = plan.fallback
        if fallback is NO_FALLBACK or callable(fallback):
            return
        try:
            body, kind = encoded(fallback)
        except Exception:  # noqa: BLE001 - the user's marshaller
            return
        self._fallback.write("", kind, body)

    def margin(self, seconds: float) -> float:
        """Return when the supervisor acts by itself. Thread: any."""
        return margin(seconds, self._state.grace_period)

    def act(self, firing: Firing) -> str | None:
        """Report where the handler is, and make the supervisor answer for it.

        This returns. The supervisor stops the process at some later point, unless the handler
        returns first; then its own answer counts.

        Thread: watchdog.
        """
        request_id = attribute(firing.invocation.context, "aws_request_id")
        answer, remark = make_fallback(firing, firing.timeline.limit - firing.elapsed())
        if answer is not None:
            self._fallback.write(request_id, answer[1], answer[0])
        has_reported = firing.report("stuck", "supervise" + remark)
        self._state.give_up(request_id, has_reported=has_reported)
        self._ring()
        return None

    def before_next_event(self, _left: float) -> str | None:
        """Let a fresh process serve the next event. Return why not, if that is not possible.

        No caller waits for its init, so the init may take any time.

        Thread: the handler's, after its end.
        """
        return before_next_event(self.recycle)

    def recycle(self) -> NoReturn:
        """End this process between two invocations, so that a fresh one serves the next event.

        Call this after the answer has been accepted and before the next event is requested. The
        interpreter's own exit code does not run.

        Thread: main.
        """
        self._state.store(RECYCLED)
        os._exit(0)
