"""``async def`` handlers: run on one loop kept for the process, cancelled through their task."""

from __future__ import annotations

import atexit
import functools
import types
from _thread import get_ident
from collections import defaultdict

from ._cpython.loops import coroutines, end_run, finish_turn, run_out, running_loop
from ._engine.current import invocation_of
from ._engine.shields import lower_shield, raise_shield
from .errors import Interrupt, LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any

    from ._engine.invocation import Invocation

_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE; inspect itself takes 5 ms to import

_UNWATCHED_END = 5.0
"""Seconds that leftover tasks get where no deadline is known."""

_kept: dict[int, AbstractEventLoop] = {}  # thread id -> its loop; each thread's own entry
_cut: set[int] = set()  # ids of threads whose loop last call has stopped in the middle of a turn


def is_coroutine_function(handler: object) -> bool:
    """Whether calling `handler` gives a coroutine: an ``async def``, a method or partial of one."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    call = (
        handler if isinstance(handler, types.FunctionType) else getattr(handler, "__func__", None)
    )
    if call is None:
        call = getattr(type(handler), "__call__", None)  # noqa: B004 - its code matters
    code = getattr(call, "__code__", None)
    return isinstance(code, types.CodeType) and bool(code.co_flags & _CO_COROUTINE)


def call_opaque(handler: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call what can be C code, so that an interrupt lands, and a finished result is never lost.

    After the return of such a call CPython has a check point before the result is stored, at which
    an interrupt would take its place. A ``defaultdict`` calls its factory and stores what that
    returns without one, and lets every exception through, StopIteration too. This is the only frame
    of the package that an interrupt may land in: a handler can be C code, and so can an event loop
    (uvloop), without a frame of its own.
    """
    slot: defaultdict[int, Any] = defaultdict(functools.partial(handler, *args, **kwargs))
    return slot[0]


def as_function(handler: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A plain function that runs the ``async def`` `handler` to its end.

    Loop, open connections and ``contextvars`` set outside survive from one invocation to the next;
    the user's own tasks that an invocation leaves behind are cancelled at its end. An interrupt
    that lands while the loop waits cancels the handler's task, which sees ``CancelledError``; what
    it then returns is the answer.
    """

    def run(event: Any, context: Any) -> Any:
        if running_loop() is not None:
            # Before anything is begun that only a loop of ours could end.
            raise RuntimeError(
                "a watched async handler runs on a loop of its own, and cannot be called where one "
                "is running; make the test a plain def and call handler(event, context) as Lambda "
                "does, or await handler.__wrapped__(event, context) to test it without the watchdog"
            )
        loop = _loop()
        ident = get_ident()
        coroutine = coroutines[ident] = handler(event, context)
        task = loop.create_task(coroutine)
        invocation = invocation_of(ident)
        try:
            try:
                return call_opaque(loop.run_until_complete, (task,), {})
            except (LambdaTimeout, Interrupt):
                if task.done() and not task.cancelled() and task.exception() is None:
                    return task.result()  # it had ended; the loop had not noticed
                if task.done():
                    raise  # it landed in the task itself, and came out by it
                # First: in a loop that counts as running the task could not be run to its end.
                # Pinned by test_a_task_whose_loop_was_left_running_is_cancelled_all_the_same.
                end_run(loop)
                task.cancel()
                # In here the interrupt is being handled, so the task is left alone until last call.
                if not _ends_cancelled(loop, task):
                    return task.result()
                raise
        finally:
            # Under a shield: the handler has ended, and its result must stay.
            if invocation is not None:
                raise_shield(invocation)
            try:
                _run_out(loop, invocation)
            finally:
                coroutines.pop(ident, None)
                if invocation is not None:
                    lower_shield(invocation)

    return run


def _ends_cancelled(loop: AbstractEventLoop, task: Any) -> bool:
    """Run a cancelled task to its end; False if it has something else to say."""
    from asyncio import CancelledError  # noqa: PLC0415 - a loop runs, so it is there

    try:
        call_opaque(loop.run_until_complete, (task,), {})
    except CancelledError:
        return True
    return False


def _run_out(loop: AbstractEventLoop, invocation: Invocation | None) -> None:
    unended: list[str] = []
    try:
        run_out(loop, _time_left(invocation), unended)
    except (LambdaTimeout, Interrupt):
        _cut.add(get_ident())  # by last call
    finally:
        if invocation is not None and invocation.firing is not None:
            invocation.firing.unended += unended


def _loop() -> AbstractEventLoop:
    ident = get_ident()
    loop = _kept.get(ident)
    if loop is None or loop.is_closed():
        import asyncio  # noqa: PLC0415 - for those who use it

        loop = _kept[ident] = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        atexit.register(_close, loop)
    elif ident in _cut:
        finish_turn(loop)
        _cut.discard(ident)  # afterwards: an interrupt may cut this turn as well
    return loop


def _close(loop: AbstractEventLoop) -> None:
    if not loop.is_running():
        loop.close()


def _time_left(invocation: Invocation | None) -> float:
    if invocation is None:
        return _UNWATCHED_END
    return invocation.timeline().last_call_at - invocation.elapsed()
