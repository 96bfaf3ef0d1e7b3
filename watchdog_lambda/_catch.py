"""``catch_timeout``: catches this invocation's timeout, whatever form it arrives in."""

from __future__ import annotations

import sys
from _thread import get_ident

from ._cpython.loops import coroutines
from ._cpython.source import innermost
from ._engine.current import invocation_of
from ._engine.shields import withdraw_for_shield
from .errors import Interrupt, LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any, Self

    from ._engine.invocation import Firing, Invocation
    from .details import TimeoutDetails

__all__ = ["catch_timeout"]


class catch_timeout:  # noqa: N801 - used like a function
    """Catch the invocation's timeout: ``with catch_timeout() as timeout: work()``.

    The timeout ends the block, and the handler continues after it; ``if timeout:`` tells whether
    that happened. The block catches whatever the interrupt has become on its way: a
    :class:`LambdaTimeout`, an ``Interrupt``, the ``CancelledError`` of an ``async def`` handler's
    task, or an error that a library has raised because of one of these (urllib3's
    ``ReadTimeoutError``, an exception group). It catches nothing else: another ``TimeoutError``,
    for example, leaves the block unchanged.

    The rest of the handler is not interrupted before last call, unless it enters the same block
    again: there it is interrupted at once. Outside an invocation the block catches nothing.

    The state of what the block was doing is not guaranteed: a connection, for example, may be in
    the middle of its protocol.

    Thread: the handler's; in any other it catches nothing. An instance can be entered by one block
    at a time.
    """

    __slots__ = ("_invocation", "_place", "details")

    details: TimeoutDetails | None
    """The state when the watchdog fired; None unless the timeout has ended the block."""

    def __init__(self) -> None:
        self.details = None
        # The invocation that the block was entered in, and where.
        self._invocation: Invocation | None = None
        self._place: tuple[CodeType, int] | None = None

    def __bool__(self) -> bool:
        """Return whether the timeout has ended the block."""
        return self.details is not None

    def __enter__(self) -> Self:
        self.details = None
        invocation = self._invocation = invocation_of(get_ident())
        if invocation is not None:
            frame = sys._getframe(1)
            place = self._place = (frame.f_code, frame.f_lasti)
            if invocation.firing is not None:
                invocation.firing.policy.enters(place)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        invocation, self._invocation = self._invocation, None
        if invocation is None or invocation.firing is None:
            return False
        firing = invocation.firing
        try:
            return error is not None and self._catch(firing, error)
        except (LambdaTimeout, Interrupt) as late:
            # Off the main thread, an injection made just as the block ended lands here.
            return self._catch(firing, late)

    def _catch(self, firing: Firing, error: BaseException) -> bool:
        if not _is_this_timeout(firing, error):
            return False
        # First stop further interrupts, then withdraw one that was injected before the watchdog
        # saw that.
        firing.policy.caught_at = self._place
        withdraw_for_shield(firing)
        self.details = firing.details
        return True


def _is_this_timeout(firing: Firing, error: BaseException) -> bool:
    """Return whether an error is one of our interrupts, or was raised because of one.

    An error that the user's own code raises while it handles a timeout does not count; see also
    :mod:`._outcome`.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return _is_cancelled_by(firing, asyncio)
    if not firing.policy.involves(error):
        return False
    if isinstance(error, LambdaTimeout | Interrupt):
        return True
    raised = innermost(error)
    return raised is None or not firing.code.is_own(raised.tb_frame.f_code.co_filename)


def _is_cancelled_by(firing: Firing, asyncio: Any) -> bool:
    """Return whether the current task is an ``async def`` handler's, cancelled by this timeout."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # no loop runs
    if task is None or task.get_coro() is not coroutines.get(firing.thread_id):
        return False
    if all(interrupt.landed_at is None for interrupt in firing.policy.records):
        return False
    # Otherwise a later asyncio.timeout() would think that the task is being cancelled.
    task.uncancel()
    return True
