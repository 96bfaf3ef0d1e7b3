"""The thread: its wake-ups, forks, freezes, and other users of signals."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import (
    BOUND,
    Context,
    FakeClock,
    block,
    eventually,
    in_a_fork,
    landed_outside,
    plan,
)
from tests.threads.gates import NoTimer, parts
from watchdog_lambda import LambdaTimeout, _report, watch
from watchdog_lambda._engine import daemon
from watchdog_lambda._engine.current import active, invocation_of, under_way
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.kernel_timers import NEAR
from watchdog_lambda._engine.sampling import LATEST, PATIENCE
from watchdog_lambda._engine.watchdog import WatchdogThread
from watchdog_lambda._handler import guard
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def invocation(start: float, seconds: float, grace_period: float = 1.0) -> Invocation:
    """Return an invocation that has been armed on the fake clock."""
    made_plan = plan(grace_period=grace_period, samples=0)
    made = Invocation(made_plan, None, None, start, seconds, 0.0)
    made.reschedule()
    return made


@pytest.fixture
def registered() -> Iterator[dict[int, Invocation]]:
    """Give the test's invocations thread ids that no thread has, and remove them at the end."""
    mine: dict[int, Invocation] = {}
    yield mine
    for key in list(active):
        if key < 0:
            del active[key]


# ---- wake-ups ----------------------------------------------------------------------------------


class Observed(WatchdogThread):
    """A watchdog whose loop the test runs, and that calls back when `wake_at` is stored."""

    def __init__(self, clock: FakeClock, late: float = 0.0) -> None:
        self.late = late  # by how much each wait is longer than asked for
        self.at_store: list[Callable[[], None]] = []
        self.waits: list[float] = []
        self._published = math.inf
        super().__init__(clock, _report)
        self._has_met_main = True

    @property
    def wake_at(self) -> float:
        return self._published

    @wake_at.setter
    def wake_at(self, instant: float) -> None:
        self._published = instant
        if self.at_store:
            self.at_store.pop()()

    def live_once(self, clock: FakeClock, waits: int = 1) -> None:
        """Run the thread's loop until it has waited that many times."""

        def wait(seconds: float) -> bool:
            self.waits.append(seconds)
            clock.advance(seconds + self.late)
            self._goes_on = len(self.waits) < waits
            return self._goes_on

        clock.alarm.wait = wait  # type: ignore[method-assign]
        self._goes_on = True
        self._run()


def test_invocation_armed_before_the_wait_is_not_missed(
    registered: dict[int, Invocation],
) -> None:
    """An invocation that is armed after a look and before the wait is seen without ringing."""
    clock = FakeClock()
    observed = Observed(clock)
    observed.at_store.append(lambda: active.__setitem__(-1, invocation(clock.now, 8.0)))

    observed.live_once(clock)

    assert observed.waits == [7.0]
    assert observed.wake_at == clock.now


def sampled(now: float) -> Invocation:
    """Return an invocation that is sampled once a second from 8 s to 12 s."""
    made = Invocation(plan(grace_period=4.0, samples=4), None, None, now, 16.0, 0.0)
    made.reschedule()
    return made


class Timers:
    """Records what is asked of the kernel's timers."""

    dump_for = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def ask(*given: float) -> float:
            self.asked.append(name)
            return given[0] - given[2] if name == "set" else 0.0

        return ask


def test_samples_do_not_reset_kernel_timers(registered: dict[int, Invocation]) -> None:
    """Between two samples the kernel's timers are not set again, as nothing has changed.

    Setting them took longer than the sample.
    """
    clock = FakeClock()
    observed = Observed(clock)
    observed.kernel_timers = timers = Timers()  # type: ignore[assignment]
    active[-1] = one = sampled(clock.now)

    observed.live_once(clock, waits=4)

    # Two looks show the same place, which is that of no thread; so one is skipped.
    assert observed.waits == pytest.approx([8.0, 1.0, 2.0, 1.0 - NEAR])
    near_at = one.start + 12.0 - NEAR
    assert (observed.wake_at, observed.acts_at) == (near_at, one.start + 12.0)
    assert one.due == near_at
    assert timers.asked == ["rest", "choose", "set"] * 2, (
        "the timers were set for other looks as well"
    )


@pytest.mark.parametrize(
    ("late", "near"), [(0.0, NEAR), (0.01, NEAR), (0.1, 0.3), (9.0, 0.75 * PATIENCE * LATEST)]
)
def test_thread_wakes_as_early_as_it_has_been_late(
    registered: dict[int, Invocation], late: float, near: float
) -> None:
    """The later the thread has woken for samples, the earlier it wakes before it acts.

    Beside busy threads it wakes late each time. The wait for the first sample does not count: it
    may have begun in another invocation, with a frozen sandbox in between.
    """
    clock = FakeClock()
    observed = Observed(clock, late=late)
    observed.kernel_timers = Timers()  # type: ignore[assignment]
    active[-1] = Invocation(plan(grace_period=30.0, samples=4), None, None, clock.now, 90.0, 0.0)
    active[-1].reschedule()

    observed.live_once(clock, waits=4)  # the last one is the end of the loop

    assert observed._sampling.near == pytest.approx(near)


@pytest.mark.parametrize("where", ["other thread", "same thread"])
def test_invocation_armed_during_sample_is_not_missed(
    registered: dict[int, Invocation], where: str
) -> None:
    """An invocation that is armed during a sample is seen, though it has not rung.

    It has read an earlier `wake_at` (order 2 of invocation.py).
    """
    clock = FakeClock()
    observed = Observed(clock)
    active[-1] = one = sampled(clock.now)

    def arm() -> None:
        one.is_open = where == "other thread"
        active[-2 if where == "other thread" else -1] = invocation(clock.now, 0.5)

    observed.at_store += [arm, lambda: None, lambda: None]  # the first store is the loop's own
    observed.live_once(clock, waits=3)

    assert observed.waits == [8.0, 1.0, 0.375]


def test_ended_invocation_is_not_sampled(
    registered: dict[int, Invocation],
) -> None:
    """The thread does not wake for samples of an ended invocation, and sleeps without limit."""
    clock = FakeClock()
    observed = Observed(clock)
    active[-1] = one = sampled(clock.now)
    observed.at_store += [lambda: setattr(one, "is_open", False), lambda: None, lambda: None]

    observed.live_once(clock, waits=3)

    assert observed.waits == [8.0, 1.0, math.inf]


def test_arming_publishes_invocation_before_reading_wake_at() -> None:
    """Arming stores the invocation in the table before it reads `wake_at`.

    This is the other half of the same order.
    """
    clock = FakeClock()
    seen: list[bool] = []

    class Reads(Observed):
        @property
        def wake_at(self) -> float:
            seen.append(invocation_of(threading.get_ident()) is not None)
            return -math.inf  # so it need not ring

        @wake_at.setter
        def wake_at(self, instant: float) -> None: ...

    watched = guard(lambda _e, _c: "ended", plan(), Reads(clock))

    assert watched({}, Context(5.0)) == "ended"
    assert seen == [True]


def test_normal_invocation_does_not_wake_the_thread() -> None:
    """Later invocations do not ring while the thread sleeps to an earlier deadline."""
    clock = FakeClock()
    observed = Observed(clock)
    observed._thread_id = -1  # as if the thread had been started
    with parts():
        observed.nudge = process_watchdog.nudge
    watched = guard(lambda _e, _c: "ended", plan(), observed)
    observed.wake_at = clock.now + 1.0

    for _ in range(1000):
        clock.advance(0.001)
        watched({}, Context(5.0))

    assert clock.alarm.rung == 0


@pytest.mark.parametrize(("wake_signal", "warnings"), [("SIGINT", 1), ("none", 0)])
def test_wake_signal_in_use_gives_one_warning(
    wake_signal: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A wake signal that is in use is logged once, unless none was wanted.

    Blocked calls are not interrupted then.
    """
    observed = Observed(FakeClock())
    observed._thread_id = -1  # as if the thread had been started
    watched = guard(lambda _e, _c: "ended", plan(wake_signal=wake_signal), observed)

    with caplog.at_level(logging.WARNING, "watchdog_lambda"):
        assert [watched({}, Context(5.0)) for _ in range(3)] == ["ended"] * 3

    assert caplog.text.count("no nudge (signal 2 is in use)") == len(caplog.records) == warnings


COUNT = """
import os, threading
from tests.support import Context
from watchdog_lambda import watch

def looked_at(task):
    with open(f"/proc/self/task/{task}/status") as status:
        values = dict(line.split(":", 1) for line in status)
    return values["State"].split()[0], int(values["voluntary_ctxt_switches"])

watched = watch(lambda _e, _c: None)
watched({}, Context(60.0))
[watchdog] = {int(t) for t in os.listdir("/proc/self/task")} - {threading.get_native_id()}
before = None
while before != ("S", looked_at(watchdog)[1]):  # a busy machine lets it go to sleep when it can
    before = looked_at(watchdog)
    threading.Event().wait(0.05)
for _ in range(100_000):
    watched({}, Context(60.0))
print(looked_at(watchdog)[1] - before[1])
"""


def test_many_invocations_never_wake_the_thread() -> None:
    """By the kernel's count, 100,000 invocations do not wake the thread once."""
    counted = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, timeout=60
    )

    assert int(counted.stdout) == 0


LAZY = """
import sys, time
from watchdog_lambda import LambdaTimeout, watch
from tests.support import Context

def ours():
    return {name for name in list(sys.modules) if name.startswith("watchdog_lambda")}

def handler(event, context):
    before = ours()
    try:
        time.sleep(30)
    except LambdaTimeout:
        return ours() - before

print(watch(handler)({}, Context(2.0)))
"""


def test_no_module_is_imported_at_a_timeout() -> None:
    """All modules are loaded before, also if Python 3.15 and later are told to import lazily."""
    done = subprocess.run(
        [sys.executable, "-X", "lazy_imports=all", "-c", LAZY],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stdout.splitlines()[-1:] == ["set()"], done.stderr


# ---- freeze and thaw ---------------------------------------------------------------------------


def test_old_deadline_does_not_fire_after_thaw(
    registered: dict[int, Invocation],
) -> None:
    """After an hour's freeze the deadline of an earlier invocation does not fire the next one."""
    clock = FakeClock()
    watchdog = Observed(clock)
    active[-1] = invocation(clock.now, 4.0)
    assert watchdog._look() == clock.now + 3.0
    del active[-1]

    clock.advance(3600.0)
    active[-1] = fresh = invocation(clock.now, 4.0)
    due = watchdog._look()

    assert fresh.firing is None
    assert due == clock.now + 3.0


def test_clock_stopped_during_freeze_is_harmless(
    registered: dict[int, Invocation],
) -> None:
    """If the monotonic clock stops during a freeze, the next invocation is due at its own time."""
    clock = FakeClock()
    watchdog = Observed(clock)
    active[-1] = invocation(clock.now, 4.0)
    watchdog._look()

    active[-1] = fresh = invocation(clock.now, 4.0)

    assert watchdog._look() == clock.now + 3.0
    assert fresh.firing is None


def test_stale_closed_entry_does_not_fire(
    registered: dict[int, Invocation],
) -> None:
    """A closed entry that a broken call has left in the table fires nothing.

    The thread does not wait for it or loop on it.
    """
    clock = FakeClock()
    watchdog = Observed(clock)
    active[-1] = stale = invocation(clock.now, 4.0)
    stale.is_open = False
    clock.advance(10.0)

    assert watchdog._look() == math.inf
    watchdog.live_once(clock)
    assert watchdog.waits == [math.inf]


# ---- the handler's threads ---------------------------------------------------------------------


def test_only_the_late_concurrent_invocation_is_interrupted() -> None:
    """Of four concurrent invocations only the late one is interrupted."""

    @watch(grace_period=0.02)
    def handler(loops: int, _context: object) -> str:
        for _ in range(loops):
            threading.Event().wait(0.001)
        return "ended"

    outcomes: dict[int, object] = {}

    def work(number: int, loops: int, seconds: float) -> None:
        try:
            outcomes[number] = handler(loops, Context(seconds))
        except LambdaTimeout as timeout:
            outcomes[number] = timeout

    workers = [
        threading.Thread(target=work, args=(n, *given))
        for n, given in enumerate([(20, 5.0), (20, 5.0), (100_000, 0.1), (20, 5.0)])
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(BOUND)

    assert [outcomes[n] for n in (0, 1, 3)] == ["ended"] * 3
    assert isinstance(outcomes[2], LambdaTimeout)


def test_injected_exception_carries_its_message() -> None:
    """In another thread the injected class arrives as the prepared instance, with its message."""
    caught: list[BaseException] = []

    @watch(grace_period=0.02)
    def handler(_event: object, _context: object) -> None:
        while True:
            pass

    def work() -> None:
        try:
            handler({}, Context(0.1))
        except LambdaTimeout as timeout:
            caught.append(timeout)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(BOUND)

    # On a busy machine it can be late.
    said = r"interrupted after 0\.\d s, 0\.\d s (before|after) the 0\.1 s limit, in "
    assert re.match(said, str(caught[0]))


def test_wake_signal_taken_over_by_user_is_not_used() -> None:
    """If user code takes over the wake signal, it gets no nudge and an injection lands."""
    watched = watch(grace_period=0.02)(lambda e, c: e())
    watched(lambda: None, Context(5.0))
    number = process_watchdog.nudge.number
    assert number is not None
    nudge_handler = signal.getsignal(number)

    def spin() -> None:
        while True:
            pass

    def user_handler(_signum: int, _frame: object) -> None:
        raise AssertionError("the watchdog sent a signal that is not its own")

    signal.signal(number, user_handler)
    process_watchdog._alarm.ring()
    eventually(
        lambda: (
            process_watchdog.kernel_timers._timer is None
            or not process_watchdog.kernel_timers._timer.is_set
        ),
        "the timer to stop",
    )
    try:
        with pytest.raises(LambdaTimeout):
            watched(spin, Context(0.1))
        assert signal.getsignal(number) is user_handler
    finally:
        signal.signal(number, nudge_handler)


def test_other_signals_and_timers_are_unchanged() -> None:
    """SIGALRM's timer runs on through a timeout, and no other signal's handler changes."""
    ticks: list[str] = []
    phase = ["before"]
    others = {
        s: signal.getsignal(s) for s in signal.valid_signals() if s != process_watchdog.nudge.number
    }
    signal.signal(signal.SIGALRM, lambda _s, _f: ticks.append(phase[0]))
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:

        @watch
        def handler(_event: object, _context: object) -> str:
            phase[0] = "during"
            try:
                block()
            except TimeoutError:
                phase[0] = "cleanup"
                threading.Event().wait(0.03)
            return "ended"

        threading.Event().wait(0.03)
        assert handler({}, Context(1.2)) == "ended"
        phase[0] = "after"
        threading.Event().wait(0.03)
        assert signal.getitimer(signal.ITIMER_REAL)[1] == pytest.approx(0.005)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    assert set(ticks) == {"before", "during", "cleanup", "after"}
    now = {s: signal.getsignal(s) for s in others if s != process_watchdog.nudge.number}
    assert now == {s: h for s, h in others.items() if s != process_watchdog.nudge.number}


def test_failed_thread_start_gives_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If no thread can be started, the log says so once, and the handlers run unwatched."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(daemon, "start_new_thread", refuse)
    # A fork hook would stay for the rest of the process, and start threads after other tests'
    # forks.
    monkeypatch.setattr(os, "register_at_fork", lambda **_hooks: None)
    limited = WatchdogThread(process_watchdog.clock, _report)
    limited.nudge = process_watchdog.nudge
    watched = guard(lambda _e, _c: "ended", plan(), limited)

    with caplog.at_level(logging.WARNING):
        assert watched({}, Context(5.0)) == "ended"
        assert watched({}, Context(5.0)) == "ended"

    assert [r.getMessage() for r in caplog.records] == [
        "invocations are not watched: no thread can be started (can't start new thread)"
    ]


# ---- fork --------------------------------------------------------------------------------------


def test_forked_child_ignores_parent_deadline() -> None:
    """In a child of fork the parent's deadline has no effect, and handlers can be watched."""

    def child() -> bytes:
        try:
            assert not under_way()
            assert landed_outside(0.15) == []  # the parent's deadline passes meanwhile
            watch(grace_period=0.02)(lambda _e, _c: block())({}, Context(0.1))
        except LambdaTimeout:
            return b"watched"
        except BaseException as error:
            return repr(error).encode()
        return b"not watched"

    said: list[bytes] = []

    @watch(grace_period=0.02)
    def handler(_event: object, _context: object) -> None:
        said.append(in_a_fork(child))
        block()

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.6))

    assert said == [b"watched"]


# ---- the user's signal handler during the package's code ---------------------------------------


def test_signal_handler_error_in_guard_leaves_no_invocation() -> None:
    """If a signal handler raises in the guard, no open invocation is left.

    A SIGALRM timeout that fires late does so.
    """

    class Recipe(Exception):
        """Raised by the user's own timer."""

    def raise_it(_signum: int, _frame: object) -> None:
        raise Recipe

    watched = watch(lambda _e, _c: "ended")
    # Start the thread first: it imports, and an import that is interrupted again and again can
    # leave one of CPython's locks taken.
    watched({}, Context(5.0))
    before = signal.signal(signal.SIGALRM, raise_it)
    outcomes: set[Any] = set()
    try:
        for round_ in range(20_000):
            try:
                # The timer fires before, during and after the call, in steps far smaller than its
                # length.
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + (round_ % 100) * 3e-7)
                outcomes.add(watched({}, Context(5.0)))
                while True:
                    pass
            except Recipe:
                outcomes.add(Recipe)
    finally:
        signal.signal(signal.SIGALRM, before)

    assert Recipe in outcomes
    assert outcomes <= {"ended", Recipe}
    assert not any(entry.is_open for entry in active.values())
    assert watched({}, Context(5.0)) == "ended"
    active.clear()


def test_thread_still_watches() -> None:
    """The thread still watches after all of the tests above."""
    with pytest.raises(LambdaTimeout):
        watch(grace_period=0.02)(lambda _e, _c: block())({}, Context(0.1))
    eventually(lambda: not process_watchdog.escalations, "the watchdog to finish")


def test_look_follows_every_pending_call() -> None:
    """A look follows each pending call, before the next one that it adds, and before a sleep."""
    order: list[str] = []

    class Thread(Observed):
        def _look(self) -> float:
            order.append("look")
            return super()._look()

    def first() -> None:
        order.append("first")
        watchdog.pending_calls.append(second)

    def second() -> None:
        order.append("second")

    clock = FakeClock()
    watchdog = Thread(clock)
    watchdog.pending_calls.append(first)
    watchdog.live_once(clock)

    assert order == ["first", "look", "second", "look"]


class FakeDump:
    """Stands in for the stack dump: records whether it is set, and can run code meanwhile."""

    def __init__(self) -> None:
        self.is_set = False
        self.meanwhile: Callable[[], None] = lambda: None

    def set(self, _timeline: object, _now: float, *, is_open: bool) -> None:
        self.meanwhile()
        self.is_set = is_open

    def close(self) -> None:
        self.is_set = False

    stop = close


@pytest.mark.parametrize("when", ["before", "while", "after"])
def test_no_stack_dump_for_ended_invocation(when: str) -> None:
    """No dump stays set for an invocation that ends before, while or after it is set."""
    clock = FakeClock()
    watchdog = WatchdogThread(clock, _report)
    words = FakeDump()
    watchdog.kernel_timers._timer = NoTimer()  # type: ignore[assignment]
    watchdog.kernel_timers._dump = words  # type: ignore[assignment]
    one = Invocation(plan(), None, None, clock.now, 8.0, clock.now + 7.0)
    active[-1] = one

    def end() -> None:
        one.is_open = False  # in the guard's order: close first, then look
        if watchdog.kernel_timers.dump_for is one:
            watchdog.kernel_timers.ends(one)
        active.pop(-1)

    try:
        watchdog._look()
        if when == "before":
            end()
        if when == "while":
            words.meanwhile = end
        watchdog.kernel_timers.set(one.due)
        if when == "after":
            assert words.is_set
            end()
    finally:
        active.pop(-1, None)

    assert not words.is_set
    assert watchdog.kernel_timers.dump_for is None


class Listening:
    """Records what the main thread asks of the process's kernel timers."""

    def __init__(self) -> None:
        self._kernel_timers = process_watchdog.kernel_timers
        self._main = threading.get_ident()
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if threading.get_ident() == self._main:
            self.asked.append(name)
        return getattr(self._kernel_timers, name)


def test_ended_timeout_stops_the_dump_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When a timeout ends, the handler's thread itself stops the dump.

    A long garbage collection can keep the watchdog from seeing the end, and use the processor time
    meanwhile.
    """
    kernel_timers = Listening()
    monkeypatch.setattr(process_watchdog, "kernel_timers", kernel_timers)

    @watch(grace_period=0.2)
    def handler(_event: object, _context: object) -> None:
        block()

    with pytest.raises(LambdaTimeout):
        handler({}, Context(0.8))

    assert kernel_timers.asked[-1] == "rest"


def test_no_nudge_for_ended_invocation_while_thread_is_starved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A later invocation gets no nudge for an ended one while the thread has no processor.

    The kernel's timer would ring at the old deadline, and then every 2 ms; the thread is held where
    it would look, from the first invocation's end on.
    """
    goes_on, look = threading.Event(), process_watchdog._look
    heard: list[int] = []

    def held() -> float:
        goes_on.wait(BOUND)
        return look()

    @watch(samples=0)
    def first(_event: object, _context: object) -> None:
        eventually(lambda: process_watchdog.wake_at < math.inf, "the thread to look")
        monkeypatch.setattr(process_watchdog, "_look", held)
        # So the second one is due no sooner than after 85 % of this one's limit.
        threading.Event().wait(began + 0.1 * LIMIT - time.monotonic())

    @watch(samples=0)
    def second(_event: object, _context: object) -> None:
        heard.append(process_watchdog.nudge.heard)
        threading.Event().wait(began + 0.77 * LIMIT - time.monotonic())
        heard.append(process_watchdog.nudge.heard)

    process_watchdog.wake_at = math.inf  # or it would not ring, if an earlier test has
    began = time.monotonic()
    try:
        first({}, Context(LIMIT))
        second({}, Context(LIMIT))
    finally:
        goes_on.set()
        monkeypatch.undo()

    assert heard[0] == heard[1]


LIMIT = 4.0
"""The time in seconds; an interrupt is due after three quarters of it."""
