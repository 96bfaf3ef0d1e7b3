"""The blocking call in which a test waits for an interrupt to land."""

from __future__ import annotations

import sys
from _thread import allocate_lock

from watchdog_lambda._cpython.source import PACKAGE
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda.errors import Interrupt, LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from watchdog_lambda._engine.invocation import Invocation

_STEP = 0.002  # seconds between two checks of the condition


class landing:  # noqa: N801 - used like a function
    """A block in which an interrupt may land. If one does, it calls `realign`."""

    def __init__(self, realign: Callable[[], None]) -> None:
        self._realign = realign

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, LambdaTimeout | Interrupt):
            self._realign()


def frames() -> Iterator[FrameType]:
    """Yield the calling thread's frames, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def wait_until(  # pragma: no cover - runs under another file's name, see below
    done: Callable[[], bool], until: float
) -> None:
    """Block until `done` or `until`. Interrupts land in here.

    It waits in short steps, because off the main thread an interrupt lands only between two steps.
    """
    __tracebackhide__ = True
    pause = allocate_lock()
    pause.acquire()
    while not done() and SystemClock.monotonic() < until:
        pause.acquire(True, _STEP)


# No interrupt lands in a frame of this package. Hide that this frame is one: it stands in for the
# user's blocking call.
wait_until.__code__ = wait_until.__code__.replace(co_filename="<watchdog_lambda.testing>")


def is_interrupt_expected(invocation: Invocation) -> bool:
    """Return whether an interrupt is due in this thread now, without more time passing.

    Thread: the handler's.
    """
    firing = invocation.firing
    if invocation.plan.settings.interrupt == "none":
        return False
    is_last_call = invocation.elapsed() >= invocation.timeline().last_call_at
    if invocation.shields and not is_last_call:
        return False
    if firing is None or not firing.policy.records:
        return True
    policy = firing.policy
    handled = sys.exc_info()[1]
    if is_last_call:
        cut_short = policy.records[-1].at >= firing.timeline.last_call_at
        return not (cut_short and policy.involves(handled))
    caller = next(f for f in frames() if not f.f_code.co_filename.startswith(PACKAGE))
    return not (policy.involves(handled) or policy.is_winding_up(caller, None))
