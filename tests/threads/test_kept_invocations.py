"""The invocation object that a thread reuses, and the threads that may look at it meanwhile."""

from __future__ import annotations

import dis
import gc
import math
import weakref
from _thread import get_ident
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Context, FakeClock, plan
from watchdog_lambda import _report, remaining_time, shield, time_limit, watch
from watchdog_lambda._cpython.source import GUARD
from watchdog_lambda._engine.current import active, current, invocation_of, under_way
from watchdog_lambda._engine.watchdog import WatchdogThread
from watchdog_lambda._handler import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog_lambda._engine.invocation import Invocation


class Observed(WatchdogThread):
    """A watchdog without a thread, which looks only when the test calls it."""

    def __init__(self) -> None:
        self.now = FakeClock()
        super().__init__(self.now, _report)
        self._has_met_main = True
        self.wake_at = -math.inf  # so it is not rung


@pytest.fixture
def observed() -> Observed:
    return Observed()


def call(
    observed: Observed, handler: Callable[[], object] = lambda: None, seconds: float = 8.0
) -> Invocation:
    """Call a handler, and return the invocation object that it had."""
    held: list[Invocation] = []

    def called(_event: object, _context: object) -> None:
        held.append(active[get_ident()])
        handler()

    guard(called, plan(grace_period=1.0, samples=0), observed)({"order": 7}, Context(seconds))
    return held[0]


def test_unobserved_calls_reuse_one_object(observed: Observed) -> None:
    """Calls that no other code has seen share one object, without their event and context."""
    one, other = call(observed), call(observed)

    assert one is other
    assert (one.event, one.context, one.is_open, one.firing) == (None, None, False, None)


def test_event_is_not_kept_alive_after_the_call(observed: Observed) -> None:
    """The event is not kept alive after the call: it can have tens of megabytes."""

    class Event:
        pass

    event = Event()
    left = weakref.ref(event)
    guard(lambda _e, _c: None, plan(), observed)(event, Context(8.0))
    del event
    gc.collect()

    assert left() is None


SEES: dict[str, Callable[[], object]] = {
    "the watchdog": under_way,
    "the thread itself": lambda: invocation_of(get_ident()),
    "remaining_time": remaining_time,
    "current": current,
    "a shield": lambda: shield().__enter__(),
    "time_limit": lambda: time_limit(None).__enter__(),
}


@pytest.mark.parametrize("who", SEES)
def test_observed_invocation_is_not_reused(observed: Observed, who: str) -> None:
    """An invocation that other code has seen is not reused, so a later call cannot change it."""
    one = call(observed, SEES[who])
    times = (one.start, one.limit, one.due)
    observed.now.advance(100.0)
    other = call(observed, seconds=30.0)

    assert other is not one
    assert (one.is_open, one.start, one.limit, one.due) == (False, *times)
    assert other.shields == 0


def test_look_between_calls_finds_no_invocation(observed: Observed) -> None:
    """A look between two calls finds no invocation, and the next call gets another object."""
    one = call(observed)

    assert under_way() == []
    assert invocation_of(get_ident()) is None
    assert one.is_seen
    assert call(observed) is not one


@pytest.mark.parametrize("ends", ["before the look", "after the look"])
def test_look_during_call_end_is_consistent(observed: Observed, ends: str) -> None:
    """A look at the end of a call either finds it closed, or makes the call keep its object.

    The thread closes and then reads the mark, and the other marks it and then reads whether it is
    open; here one side does both steps between those of the other.
    """
    found: list[list[tuple[int, Invocation]]] = []

    class Marking:
        """The watchdog's two steps, with the call's end in between."""

        def __init__(self, one: Invocation) -> None:
            self.one = one

        def __setattr__(self, name: str, value: object) -> None:
            object.__setattr__(self, name, value)
            if name == "is_seen":
                self.one.is_seen = True
                if ends == "after the look":
                    return
                self.one.is_open = False

        @property
        def is_open(self) -> bool:
            return self.one.is_open

        @property
        def firing(self) -> None:
            return None

    def handler() -> None:
        one: Any = active[get_ident()]
        active[get_ident()] = Marking(one)  # type: ignore[assignment]
        found.append(under_way())
        active[get_ident()] = one

    one = call(observed, handler)

    assert [len(invocations) for invocations in found] == [0 if ends == "before the look" else 1]
    assert call(observed) is not one


def test_object_marked_while_arming_belongs_to_that_call(observed: Observed) -> None:
    """An object that is marked after the thread's look, while it is armed, is for that call only.

    The watchdog finds it closed, and then open and complete, and the call's end releases it.
    """
    first = call(observed)

    class Marks(Context):
        def get_remaining_time_in_millis(self) -> float:
            assert under_way() == []
            return super().get_remaining_time_in_millis()

    seen: list[tuple[object, float]] = []

    def handler(event: object, _context: object) -> None:
        [(_, invocation)] = under_way()
        assert invocation is first
        seen.append((invocation.event, invocation.limit))

    watched = guard(handler, plan(samples=0), observed)
    watched("second", Marks(20.0))

    [(event, limit)] = seen
    assert event == "second"
    assert limit == pytest.approx(20.0, abs=0.1)
    assert get_ident() not in active
    assert call(observed) is not first


def test_error_of_nested_handler_is_passed_through(observed: Observed) -> None:
    """The KeyError of a nested watched handler gets out, though the guard catches one itself.

    A thread's first call asks for its object in a ``try``.
    """

    def inner(_event: object, _context: object) -> None:
        raise KeyError("order")

    watched = guard(inner, plan(), observed)

    def outer(_event: object, _context: object) -> None:
        with pytest.raises(KeyError, match="order"):
            watched({}, Context(8.0))
        assert [ident for ident, _ in under_way()] == [get_ident()]

    guard(outer, plan(), observed)({}, Context(8.0))


@pytest.mark.parametrize("form", ["entrypoint", "@watch"])
def test_arming_has_no_signal_check_point(form: str) -> None:
    """CPython looks at no signal while an invocation is armed, from the first store to the last.

    A user's signal handler that ran in between could call a watched handler itself, and leave its
    own start or limit in the object.
    """

    def handler(event: object, context: object) -> None: ...

    guarded: Any = guard(handler, plan()) if form == "entrypoint" else watch(handler)
    assert guarded.__code__.co_name == GUARD
    listing = list(dis.get_instructions(guarded))
    stores = [
        index
        for index, i in enumerate(listing)
        if i.opname == "STORE_ATTR" and i.argval != "firing"
    ]
    [opened] = [
        index
        for index in stores
        if listing[index].argval == "is_open" and listing[index - 2].argval is True
    ]
    armed = listing[stores[0] : opened + 1]

    assert [i.argval for i in armed if i.opname == "STORE_ATTR"] == [
        *("plan", "event", "context", "start", "limit", "due", "is_open")
    ]
    assert {i.opname for i in armed} <= {
        *("STORE_ATTR", "LOAD_FAST", "LOAD_DEREF", "LOAD_CONST", "STORE_FAST", "NOP", "CACHE"),
        *("LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_FAST_BORROW_LOAD_FAST_BORROW"),
        "LOAD_COMMON_CONSTANT",  # None and True, from 3.15 on
    }
