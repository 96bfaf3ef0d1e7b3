"""Decides what the caller gets after a timeout: answer, error, fallback or LambdaTimeout."""

from __future__ import annotations

from _thread import get_ident

from ._cpython.loops import run_out, running_loop
from ._cpython.source import PACKAGE, innermost, place_of, trim
from ._engine import aftermath
from ._engine.current import active
from ._engine.limits import end_within
from ._engine.shields import close_again, reopen
from ._plan import NO_FALLBACK
from ._report import tracing
from .errors import Interrupt, LambdaTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from ._engine.invocation import Firing


def conclude(
    firing: Firing, result: Any, failure: BaseException | None
) -> tuple[Any, BaseException | None]:
    """End an invocation that the watchdog has acted on. Return its result and its error.

    If the error is not None, it is to be raised. This finishes event loops that were interrupted,
    waits for running hooks within their budget, and writes the report.

    Thread: the handler's, after :meth:`Firing.settle`.
    """
    kernel_timers = firing.services.kernel_timers
    try:
        kernel_timers.nudge_next(firing.invocation)
        end_within(firing.invocation, firing.thread_id)
        firing.ended_at = firing.elapsed()
        _run_out_loops(firing)
        end_within(firing.invocation, firing.thread_id)  # blocks of tasks that were given up
        _wait_for_hooks(firing)
        if firing.fired_at is None:
            # Only an early stage has run. The handler ended in time, so this is no timeout.
            return result, _without_front(failure)
        outcome, result, failure = _judge(firing, result, failure)
        annotate = None if firing.is_reported else tracing.annotation(firing, outcome)
        if annotate is not None:
            _run_until_last_call(firing, annotate)
        if aftermath.hooks.snapshot():
            _run_until_last_call(firing, lambda: aftermath.run_hooks(firing))
        aftermath.decide(firing)
        firing.report(outcome)
        return result, _without_front(failure)
    finally:
        firing.is_concluded = True
        kernel_timers.ends(firing.invocation)
        # Stop the CPU-time timer here as well. The watchdog would only stop it at its next look,
        # and a garbage collection that holds the GIL can come before that. Pinned by
        # test_ended_timeout_stops_the_dump_itself.
        kernel_timers.rest()
        active.pop(get_ident(), None)


def _run_out_loops(firing: Firing) -> None:
    """Cancel and finish what is left in event loops, until last call at the latest."""

    def run_out_all() -> None:
        for loop in firing.loops:
            run_out(loop, firing.timeline.last_call_at - firing.elapsed(), firing.unended)

    # Either a loop that an injection has left running, or the one that runs us; run_out leaves that
    # one alone.
    loop = running_loop()
    if loop is not None and loop not in firing.loops:
        firing.loops.append(loop)
    if firing.loops:
        _run_until_last_call(firing, run_out_all)


def _run_until_last_call(firing: Firing, action: Callable[[], object]) -> None:
    """Run code that is not ours, until last call at the latest."""
    reopen(firing)
    try:
        action()
    except (LambdaTimeout, Interrupt):
        pass  # last call
    finally:
        close_again(firing)


def _wait_for_hooks(firing: Firing) -> None:
    """Wait for the stages that have begun, each until the end of its budget at the latest.

    Lambda freezes the sandbox as soon as the runtime asks for the next event. A running hook would
    stop halfway and continue in another invocation.
    """
    for stage in firing.stages:
        stage.wait()
        stage.close()


def _judge(
    firing: Firing, result: Any, failure: BaseException | None
) -> tuple[str, Any, BaseException | None]:
    """Return the outcome as a word for the report, and the result and error for the caller."""
    if failure is None:
        if result is not None or not firing.policy.is_lost_in_a_wrapper():
            return "returned", result, None
        # The handler did not return this None: datadog_lambda's wrapper drops every BaseException
        # that is not its own. To the caller it would look like success.
        failure = LambdaTimeout(firing.policy.first_message())
        failure.details = firing.details
    if not _is_this_timeout(firing, failure):
        if firing.policy.records:
            _add_note(firing, failure)
        return "raised", None, failure
    fallback = firing.invocation.plan.fallback
    if fallback is NO_FALLBACK:
        return "raised", None, _as_timeout(firing, failure)
    if not callable(fallback):
        return "fallback", fallback, None
    made, broken = _call_fallback(firing)
    if made:
        return "fallback", made[0], None
    # The caller still learns about the timeout.
    timeout = _as_timeout(firing, failure)
    if broken is not None:
        timeout.__cause__ = broken
        firing.fallback_error = f"{type(broken).__name__} in {place_of(broken)}"
        what = f"raised {type(broken).__name__}"
    else:
        firing.fallback_error = what = "did not return in time"
    timeout.add_note(f"watchdog_lambda: the fallback {what}")
    return "raised", None, timeout


def _call_fallback(firing: Firing) -> tuple[list[Any], Exception | None]:
    """Call the fallback. Return its result (in a list) or its error; neither if it was cut short.

    It is the user's code, and if it hung, it would hang until the kill and leave no record. So last
    call ends it. A fallback that begins after last call runs without that protection, because last
    call's interrupt would land at once.
    """
    made: list[Any] = []
    broken: list[Exception] = []
    invocation = firing.invocation

    def call() -> None:
        try:
            made.append(invocation.plan.answer(firing.details, invocation.event))
        except Exception as error:  # noqa: BLE001 - see _judge
            broken.append(error)

    if firing.elapsed() < firing.timeline.last_call_at:
        _run_until_last_call(firing, call)
        _wait_for_hooks(firing)  # of stages that have begun in the meantime
    else:
        call()
    return made, broken[0] if broken else None


def _is_this_timeout(firing: Firing, failure: BaseException) -> bool:
    """Return whether the handler ended because of the interrupt, not with an error of its own.

    An error that a library raises because of the interrupt (urllib3's ReadTimeoutError, a
    RuntimeError from a condition, the group of a TaskGroup) counts as this timeout. An error that
    the user's own code raises, even in ``except TimeoutError``, is meant for the caller.
    """
    if isinstance(failure, LambdaTimeout | Interrupt):
        return True
    if not firing.policy.involves(failure):
        return False
    if firing.policy.is_replaced(failure):
        return True  # C code replaced it: it has no frame, so its caller seems to have raised
    raised_at = innermost(failure)
    raised_in = "" if raised_at is None else raised_at.tb_frame.f_code.co_filename
    return not firing.code.is_own(raised_in)


def _as_timeout(firing: Firing, failure: BaseException) -> LambdaTimeout:
    """Return the LambdaTimeout that leaves the wrapper, with the traceback of the handler."""
    if isinstance(failure, LambdaTimeout):
        failure.__traceback__ = trim(failure.__traceback__)
        return failure
    timeout = LambdaTimeout(firing.policy.first_message())
    timeout.details = firing.details
    timeout.__traceback__ = trim(failure.__traceback__)
    if not isinstance(failure, Interrupt):
        timeout.__cause__ = failure
    return timeout


def _add_note(firing: Firing, failure: BaseException) -> None:
    failure.add_note(f"watchdog_lambda: {firing.policy.first_message()}")


def _without_front(failure: BaseException | None) -> BaseException | None:
    """Drop this package's frames at the traceback's outer end. Raising it adds one again."""
    if failure is None:
        return None
    entry: TracebackType | None = failure.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith(PACKAGE):
        entry = entry.tb_next
    return failure.with_traceback(entry or failure.__traceback__)
