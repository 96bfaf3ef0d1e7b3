"""Runs ``async def`` handlers on one loop kept for the process, and cancels them through tasks."""

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
"""Seconds that leftover tasks get if no deadline is known."""

_kept: dict[int, AbstractEventLoop] = {}  # thread id -> its loop; a thread uses its own entry only
_cut: set[int] = set()  # ids of threads whose loop last call has stopped in the middle of a turn


def is_coroutine_function(handler: object) -> bool:
    """Return whether `handler` is an ``async def``, or a method, partial or instance with one."""
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
    """Call what may be C code, so that interrupts land and a finished result is never lost.

    When C code returns, CPython has a check point before it stores the result, and an interrupt
    there would replace the result. A ``defaultdict`` has none: it calls its factory, stores the
    result without a check point, and lets every exception through, StopIteration too. This is the
    only frame of the package in which an interrupt may land, because a handler or an event loop
    (uvloop) can be C code, without a frame of its own.
    """
    slot: defaultdict[int, Any] = defaultdict(functools.partial(handler, *args, **kwargs))
    return slot[0]


def as_function(handler: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """Return a plain function that runs the ``async def`` `handler` to its end.

    The loop, open connections, and ``contextvars`` set outside survive from one invocation to the
    next. The user's tasks that an invocation leaves behind are cancelled at its end. An interrupt
    that lands while the loop waits cancels the handler's task, which gets ``CancelledError``. If
    the handler then returns a value, that is the answer.
    """

    def run(event: Any, context: Any) -> Any:
        if running_loop() is not None:
            # Refuse before starting anything that only our own loop could end.
            raise RuntimeError(
                "a watched async handler runs on its own event loop, and cannot be called while "
                "another one is running in the thread; make the test a plain def and call "
                "handler(event, context) as Lambda does, or await "
                "handler.__wrapped__(event, context) to test it without the watchdog"
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
                    return task.result()  # the task had ended; the loop had not noticed yet
                if task.done():
                    raise  # the interrupt landed in the task itself and left through it
                # Do this first: a loop still marked as running could not run the task to its end.
                # Pinned by test_task_is_cancelled_if_its_loop_was_left_running.
                end_run(loop)
                task.cancel()
                # The interrupt is being handled here, so none interrupts the task before last call.
                if not _ends_cancelled(loop, task):
                    return task.result()
                raise
        finally:
            # Raise a shield: the handler has ended, and its result must not be lost.
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
    """Run a cancelled task to its end. Return False if it ends with a result instead."""
    from asyncio import CancelledError  # noqa: PLC0415 - a loop exists, so asyncio is loaded

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
        _cut.add(get_ident())  # last call has landed
    finally:
        if invocation is not None and invocation.firing is not None:
            invocation.firing.unended += unended


def _loop() -> AbstractEventLoop:
    ident = get_ident()
    loop = _kept.get(ident)
    if loop is None or loop.is_closed():
        import asyncio  # noqa: PLC0415 - only if used

        loop = _kept[ident] = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        atexit.register(_close, loop)
    elif ident in _cut:
        finish_turn(loop)
        _cut.discard(ident)  # only now: an interrupt may cut this turn as well
    return loop


def _close(loop: AbstractEventLoop) -> None:
    if not loop.is_running():
        loop.close()


def _time_left(invocation: Invocation | None) -> float:
    if invocation is None:
        return _UNWATCHED_END
    return invocation.timeline().last_call_at - invocation.elapsed()
