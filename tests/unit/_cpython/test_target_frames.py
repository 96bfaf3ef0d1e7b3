"""In which frame of a stack an interrupt may land, on stacks made for the test."""

from __future__ import annotations

import asyncio
import dis
import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._cpython.approach import Approach
from watchdog_lambda._cpython.delivery import Nudge
from watchdog_lambda._cpython.source import GUARD, OPAQUE, PACKAGE, STDLIB
from watchdog_lambda._cpython.taps import Tap
from watchdog_lambda._cpython.target_frames import (
    ANY,
    INSTALLED,
    MOST_FRAMES,
    OWN,
    WHEREVER,
    TargetFrames,
    is_at_a_call,
    is_in_a_decision,
    is_loops_own,
    may_be_cut,
)
from watchdog_lambda._engine.landing import land_at_shield

if TYPE_CHECKING:
    from types import CodeType, FrameType, FunctionType

OWNS, LIBRARYS, STDLIBS = "app.py", "/site-packages/lib.py", STDLIB + "json/encoder.py"


class Places:
    """A source map in which one file is the user's own."""

    def is_own(self, file: str) -> bool:
        return file == OWNS


def calls(work: Any) -> None:
    work()
    work()
    try:
        work()
    finally:
        work()


CALLS = [i.offset for i in dis.get_instructions(calls) if i.opname == "CALL"]
POPS = [i.offset for i in dis.get_instructions(calls) if i.opname == "POP_TOP"]
IN_A_TRY, IN_THE_FINALLY = CALLS[2], CALLS[3]


def frame(
    file: str, name: str = "work", lasti: int = CALLS[0], below: Any = None, code: Any = None
) -> Any:
    """Return a frame at a call, unless another instruction is given."""
    code = (code or calls.__code__).replace(co_filename=file, co_name=name)
    return SimpleNamespace(f_code=code, f_lasti=lasti, f_back=below, f_trace=None)


def stack(*frames: Any) -> Any:
    """Return a stack, given innermost first, inside the package's guard."""
    below = frame(PACKAGE + "_handler.py", GUARD, below=frame(OWNS, "runtime"))
    for each in reversed(frames):
        each.f_back = below
        below = each
    return below


def nearest(*frames: Any, reach: int = OWN) -> Any:
    """Return the target's name, None without one, or True if an event loop comes first."""
    looked_at = TargetFrames(Places())  # type: ignore[arg-type]
    looked_at.note_handlers()
    target, is_loops = looked_at.nearest(stack(*frames), reach)
    return is_loops or (target.f_code.co_name if target is not None else None)


def test_target_is_the_nearest_user_frame() -> None:
    """The target is the nearest frame of the user's code, beyond library frames."""
    inner, outer = frame(OWNS, "inner"), frame(OWNS, "outer")

    assert nearest(inner, outer) == "inner"
    assert nearest(frame(STDLIBS), frame(LIBRARYS), inner, outer) == "inner"


def test_no_frame_outside_the_guard_is_the_target() -> None:
    """No frame outside of the guard is the target, as it is the runtime's."""
    assert nearest(frame(STDLIBS)) is None


def test_user_code_called_by_the_package_can_be_the_target() -> None:
    """User code that the package calls, as a record handler, can be the target."""
    record = frame(OWNS, "record")

    assert nearest(record, frame(PACKAGE + "batch/__init__.py", "_process")) == "record"
    assert nearest(record, frame(PACKAGE + "_async.py", OPAQUE)) == "record"
    assert nearest(frame(STDLIBS), frame(PACKAGE + "_async.py", OPAQUE), reach=ANY) == "work"


@pytest.mark.parametrize(
    ("reach", "found"),
    [(OWN, "own"), (INSTALLED, "library"), (ANY, "stdlib"), (WHEREVER, "stdlib")],
)
def test_reach_determines_which_frames_qualify(reach: int, found: str) -> None:
    """The reach says whose frames may be the target, and the nearest of them is taken."""
    frames = frame(STDLIBS, "stdlib"), frame(LIBRARYS, "library"), frame(OWNS, "own")

    assert nearest(*frames, reach=reach) == found


@pytest.mark.parametrize("name", ["__enter__", "__exit__", "__aenter__", "__aexit__", "__del__"])
def test_enter_and_exit_methods_are_not_the_target(name: str) -> None:
    """A method that enters or leaves a block is not the target, nor is what it calls.

    The target is its caller, until the interrupt has taken too long.
    """
    between = frame(OWNS, "helper"), frame(OWNS, name), frame(OWNS, "outer")

    assert nearest(*between) == "outer"
    assert nearest(*between, reach=INSTALLED) == "outer"
    assert nearest(*between, reach=ANY) == "helper"


def test_condition_helper_is_never_the_target() -> None:
    """A helper of ``threading.Condition`` is never the target: a raise would break the condition.

    A user's function may have the same name.
    """
    condition = frame(STDLIB + "threading.py", "_acquire_restore"), frame(OWNS, "waits")

    assert nearest(*condition, reach=ANY) == "waits"
    assert nearest(frame(OWNS, "acquire"), frame(OWNS, "outer")) == "acquire"


def test_code_called_by_finally_is_not_the_target() -> None:
    """Code that a ``finally`` calls is not the target; its function is, until it takes too long."""
    outer = frame(OWNS, "cleans", IN_THE_FINALLY)

    assert nearest(frame(OWNS, "closes"), outer) == "cleans"
    assert nearest(frame(OWNS, "closes"), outer, reach=ANY) == "closes"
    assert nearest(frame(OWNS, "works"), frame(OWNS, "tries", IN_A_TRY)) == "works"
    # Frames that have called others are after the call on CPython 3.11.
    assert nearest(frame(OWNS, "closes"), frame(OWNS, "cleans", IN_THE_FINALLY + 4)) == "cleans"


def test_weakref_callback_is_not_the_target() -> None:
    """A callback of a weak reference is not the target: the frame below it is not at a call."""
    assert nearest(frame(OWNS, "callback"), frame(OWNS, "outer", POPS[0])) == "outer"
    assert nearest(frame(OWNS, "callback"), frame(OWNS, "outer", 0)) == "outer", "at its RESUME"


def delegates(inner: Any) -> Any:
    yield 1
    yield from inner


async def awaits(inner: Any) -> None:
    await inner


@pytest.mark.parametrize("outer", [delegates, awaits])
def test_resumed_generator_counts_as_called(outer: Any) -> None:
    """A generator or coroutine continued by an outer one counts as called by it."""
    first, *continued = (i for i in dis.get_instructions(outer) if i.opname == "RESUME")

    for resume in continued:
        around = frame(OWNS, "outer", resume.offset, code=outer.__code__)
        assert nearest(frame(OWNS, "inner"), around) == "inner"
    begins = frame(OWNS, "outer", first.offset, code=outer.__code__)
    assert continued
    assert nearest(frame(OWNS, "callback"), begins) == "outer", (
        "a function's start is not at a call"
    )


def test_code_called_by_package_signal_handler_is_not_the_target() -> None:
    """Code that the package's signal handler calls is not the target: the interrupted code is.

    Code that other parts of the package call is the target.
    """

    def nudged(*_: object) -> None: ...

    nudged.__code__ = nudged.__code__.replace(co_filename=PACKAGE + "_cpython/delivery.py")
    called = frame(OWNS, "called")
    before = signal.signal(signal.SIGUSR1, nudged)
    try:
        by_the_handler = nearest(called, _of(nudged.__code__), frame(OWNS, "outer"))
        by_others = nearest(called, frame(PACKAGE + "batch/__init__.py", "_process"))
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert by_the_handler == "outer"
    assert by_others == "called"


def test_user_signal_handler_is_not_the_target() -> None:
    """A signal handler or trace function of the user's is not the target: the frame below is."""

    class Handlers:
        def on_signal(self, *_: object) -> None: ...

    def trace(*_: object) -> None: ...

    before = signal.signal(signal.SIGUSR1, Handlers().on_signal)
    profiler = sys.getprofile()
    sys.setprofile(trace)
    try:
        called = [
            nearest(frame(OWNS, "deeper"), _of(code), frame(OWNS, "outer"))
            for code in (Handlers.on_signal.__code__, trace.__code__)
        ]
    finally:
        sys.setprofile(profiler)
        signal.signal(signal.SIGUSR1, before)
    traced = frame(OWNS, "outer")
    traced.f_trace = trace

    assert called == ["outer", "outer"]
    deeper = frame(OWNS, "deeper")
    assert nearest(deeper, _of(trace.__code__), traced) == "outer", "a local trace function"
    untraced = frame(OWNS, "outer")
    assert nearest(deeper, _of(trace.__code__), untraced) == "deeper"


def _of(code: CodeType) -> Any:
    """Return a frame of exactly this code, which counts as the user's."""
    return SimpleNamespace(f_code=code, f_lasti=-1, f_back=None, f_trace=None)


def test_no_frame_below_an_event_loop_is_the_target() -> None:
    """No frame below an event loop's is the target; a coroutine is treated as any other frame."""
    loops = frame(STDLIB + "asyncio/events.py", "_run"), frame(OWNS, "main")

    assert nearest(frame(STDLIBS), *loops) is True
    assert nearest(frame(OWNS, "coroutine"), *loops) == "coroutine"
    assert nearest(frame(LIBRARYS), *loops, reach=ANY) == "work"
    sleeps = frame(STDLIB + "asyncio/tasks.py", "sleep", code=asyncio.sleep.__code__)
    assert nearest(sleeps, *loops, reach=ANY) == "sleep"
    # The loop's selector counts as the loop's, as does everything else that the loop calls.
    assert nearest(frame(STDLIB + "selectors.py", "select"), *loops, reach=ANY) is True


def test_number_of_searched_frames_is_limited() -> None:
    """The search for a target ends after a number of frames, as a stack can be a million deep."""
    deep = [frame(STDLIBS) for _ in range(MOST_FRAMES)]

    assert nearest(*deep[1:], frame(OWNS, "own")) == "own"
    assert nearest(*deep, frame(OWNS, "own")) is None


def test_asyncio_frames_belong_to_the_loop() -> None:
    """Frames of asyncio's files are the loop's own, except coroutines.

    A file whose name begins alike is not asyncio's.
    """
    own, beside = (
        calls.__code__.replace(co_filename=STDLIB + file)
        for file in ("asyncio/events.py", "asyncio_extras.py")
    )

    assert is_loops_own(own)
    assert not is_loops_own(beside)
    assert not is_loops_own(asyncio.sleep.__code__)


def test_blocked_call_may_be_cut_except_in_two_places() -> None:
    """A blocked call may be cut, except in a condition's helper or a finaliser.

    It would leave a condition broken, and C code drops what a finaliser raises.
    """
    waits = frame(STDLIB + "threading.py", "wait")

    assert may_be_cut(stack(waits, frame(OWNS)))
    assert not may_be_cut(stack(waits, frame(OWNS, "__del__"), frame(OWNS)))
    assert not may_be_cut(frame(STDLIB + "threading.py", "_acquire_restore"))
    assert may_be_cut(stack(*(waits for _ in range(1)), frame(OWNS, "__exit__")))
    deep: Any = frame(OWNS, "__del__")
    for _ in range(MOST_FRAMES):
        deep = frame(OWNS, below=deep)
    assert may_be_cut(deep)


def test_condition_helper_exists_in_this_python() -> None:
    """``threading.Condition`` still has the helper of that name on this interpreter."""
    assert threading.Condition._acquire_restore.__name__ == "_acquire_restore"  # type: ignore[attr-defined]
    assert threading.Condition.wait.__code__.co_filename == STDLIB + "threading.py"


def test_no_call_is_under_way_at_start_and_loop_jump() -> None:
    """At a function's start and at a loop's jump back no call is under way."""
    code = compile("while x: x()\n", OWNS, "exec")
    back = next(i.offset for i in dis.get_instructions(code) if "JUMP_BACKWARD" in i.opname)

    assert is_at_a_call(frame(OWNS))
    assert not is_at_a_call(frame(OWNS, lasti=0))
    assert not is_at_a_call(frame(OWNS, lasti=back, code=code))


def test_trace_function_raises_in_finally_only_when_late() -> None:
    """A trace function may raise in a ``finally`` only when the interrupt has taken too long."""
    frames = TargetFrames(Places())  # type: ignore[arg-type]

    assert frames.allows(frame(OWNS, lasti=CALLS[0]), OWN) is True
    assert frames.allows(frame(OWNS, lasti=IN_THE_FINALLY), OWN) is False
    assert frames.allows(frame(OWNS, lasti=IN_THE_FINALLY), ANY) is True


def test_only_innermost_frame_counts_for_another_thread() -> None:
    """For another thread only the innermost frame counts: own code at a safe point, or a select."""
    frames = TargetFrames(Places())  # type: ignore[arg-type]

    assert frames.allows_from_afar(frame(OWNS)) is True
    assert frames.allows_from_afar(frame(OWNS, lasti=IN_THE_FINALLY)) is False
    assert frames.allows_from_afar(frame(STDLIBS)) is False
    assert frames.allows_from_afar(frame(STDLIB + "selectors.py", "select")) is True
    assert frames.allows_from_afar(frame(STDLIB + "selectors.py", "register")) is False


def test_real_stack_without_guard_is_walked_to_its_end() -> None:
    """A real stack without a guard, as in a user's test, is walked to its end."""
    here = TargetFrames(SimpleNamespace(is_own=lambda file: file == __file__))  # type: ignore[arg-type]
    current: FrameType = sys._getframe()

    target, is_loops = here.nearest(current, OWN)

    assert target is current
    assert not is_loops
    assert os.path.basename(STDLIB.rstrip("/")).startswith("python")  # noqa: PTH119 - as it is read


@pytest.mark.parametrize(
    "begins", [Nudge._on_nudge, Tap._hear, Approach._enter, Approach._step, land_at_shield]
)
def test_finaliser_called_during_decision_is_recognised(begins: FunctionType) -> None:
    """Each function in which a decision begins is known by its name, and only in this package."""
    file, name = begins.__code__.co_filename, begins.__code__.co_name
    finaliser = frame(OWNS, "__del__")

    assert is_in_a_decision(stack(finaliser, frame(file, "decide"), frame(file, name), frame(OWNS)))
    assert not is_in_a_decision(stack(finaliser, frame(OWNS, name), frame(OWNS)))


def test_recognising_decision_examines_bounded_number_of_frames() -> None:
    deep = [frame(OWNS) for _ in range(MOST_FRAMES - 1)]
    decision = frame(PACKAGE + "_cpython/delivery.py", "_on_nudge")

    assert is_in_a_decision(stack(*deep, decision))
    assert not is_in_a_decision(stack(frame(OWNS), *deep, decision))
