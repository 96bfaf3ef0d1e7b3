"""The watchdog thread's looks, and what other threads ask of it, without a real thread.

The fake clock stands still decades ahead. If the process's own thread looks meanwhile, it finds
nothing of these tests due.
"""

from __future__ import annotations

import _thread
import dis
import logging
import math
import os
import sys
import threading
from _thread import get_ident
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND, FakeAlarm, FakeClock, SilentReport, eventually, plan
from watchdog_lambda import LambdaTimeout, TimeoutDetails
from watchdog_lambda._cpython import clauses, stacks
from watchdog_lambda._engine import daemon
from watchdog_lambda._engine import nudged as nudged_module
from watchdog_lambda._engine import watchdog as module
from watchdog_lambda._engine.current import active, invocation_of
from watchdog_lambda._engine.invocation import Invocation
from watchdog_lambda._engine.kernel_timers import IDLE_PERIOD, LATE_BY
from watchdog_lambda._engine.services import Services
from watchdog_lambda._engine.snapshot import attribute
from watchdog_lambda._engine.watchdog import WatchdogThread
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda.errors import prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType, ModuleType

START = float(1 << 30)
GRACE_AT, HARD = START + 7.0, START + 8.0
DETAILS = TimeoutDetails(deadline=HARD, elapsed=7.0, grace_period=1.0)
ELSEWHERE = -2
"""The id of a thread that does not exist."""


class Nudge:
    """A stand-in for the nudge: it has a number, and reaches the threads that the test names."""

    def __init__(self) -> None:
        self.number: int | None = 10
        self.refusal = "no signal is free"  # the reason, if there is no number
        self.wanted: list[object] = []
        self.reached: list[int] = []
        self.moved = 0

    def install(self, wanted: object) -> None:
        self.wanted.append(wanted)

    def reaches(self, ident: int) -> bool:
        return ident in self.reached

    def move_to_this_thread(self) -> None:
        self.moved += 1


class KernelTimers:
    """Records what is asked of the kernel's timers."""

    def __init__(self, did: list[object]) -> None:
        self._did = did
        self.near_at = 0.0

    def equip(self) -> None:
        self._did.append("equip")

    def forget(self) -> None:
        self._did.append("forget")

    def keep(self) -> None:
        self._did.append("keep")

    def rest(self) -> None:
        self._did.append("rest")

    def put_off(self, acts_at: float) -> None:
        self._did.append(("put off", acts_at))

    def choose(self, invocations: Iterable[Invocation], _seen_at: float | None = None) -> None:
        self._did.append(("choose", *invocations))

    def set(self, acts_at: float, stale_at: float = math.inf, _near: float = 0.0) -> float:
        self._did.append(("set", min(acts_at, stale_at)))
        return self.near_at or acts_at


class Pace:
    """Records whether the switch interval is short."""

    def __init__(self) -> None:
        self.is_quick = False

    def quicken(self) -> None:
        self.is_quick = True

    def relax(self) -> None:
        self.is_quick = False


class Watched(WatchdogThread):
    """A watchdog whose parts only record their calls; the test runs its thread's loop."""

    def __init__(self) -> None:
        self.did: list[object] = []
        self.looks: list[Callable[[], object]] = []
        """What happens just after a look, one look after the other."""
        self.ran = threading.Event()
        self.fake = FakeClock(START)
        self.silent = SilentReport()
        super().__init__(self.fake, self.silent)
        self.nudge: Any = Nudge()
        self.kernel_timers: Any = KernelTimers(self.did)
        self._pace: Any = Pace()
        self._thread_id = -1  # as if the thread had been started
        self.fake.alarm.wait = self._wait  # type: ignore[method-assign]

    def _wait(self, seconds: float) -> bool:
        """End the loop where the thread would go to sleep."""
        self.did.append(("wait", seconds))
        self._goes_on = seconds == daemon.SHORT_PAUSE
        return False

    def _look(self) -> float:
        assert self.did.count("look") < 9, "the thread looks without end"
        self.did.append("look")
        earliest = super()._look()
        if self.looks:
            self.looks.pop(0)()
        return earliest

    def live(self) -> list[object]:
        """Run the thread's loop until it would sleep, and return what it did."""
        self.did.clear()
        self._goes_on = True
        self._run()
        return [what for what in self.did if not isinstance(what, tuple) or what[0] != "choose"]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(os, "register_at_fork", lambda **_hooks: None)
    return Watched()


@pytest.fixture(autouse=True)
def no_invocation_stays_active() -> Iterator[None]:
    yield
    active.clear()
    prepared.clear()


def invocation(
    *, due: float = GRACE_AT, registries: tuple[HookRegistry, ...] = (), **settings: Any
) -> Invocation:
    """Return an invocation of a function of 8 s, with a grace period of 1 s."""
    made = plan(*registries, grace_period=1.0, **settings)
    return Invocation(made, None, None, START, HARD - START, due)


def under_way(one: Invocation, ident: int = ELSEWHERE) -> Invocation:
    active[ident] = one
    return one


@contextmanager
def failing(name: str, error: BaseException, where: ModuleType = module) -> Iterator[None]:
    """Have a function of the module raise this error."""

    def fail(*_given: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, fail)
        yield


@pytest.fixture
def failures(watched: Watched) -> list[BaseException]:
    """Return the failures that were reported."""
    return watched.silent.failures


# ---- waking ------------------------------------------------------------------------------------


def test_waking_thread_sets_the_kernel_timer(watched: Watched) -> None:
    """The thread that wakes the watchdog sets the kernel's timer for it.

    Its handler may hold the GIL from the first instruction on.
    """
    one = invocation()

    watched.wake(one)

    assert watched.did == [("choose", one), ("set", GRACE_AT)]
    assert watched.fake.alarm.rung == 1
    assert watched.nudge.wanted == [], "a signal is installed already"


def test_timers_are_equipped_in_the_nudged_thread(watched: Watched) -> None:
    """The kernel's timers are equipped in the main thread, once the signal is installed."""
    watched.nudge.reached = [get_ident()]

    watched.wake(invocation())

    assert watched.did[0] == "equip"


def test_invocation_chooses_the_signal(watched: Watched) -> None:
    """The invocation chooses the signal, and each one tries until a signal is installed."""
    watched.nudge.number = None

    watched.wake(invocation(wake_signal="none"))
    watched.wake(invocation(wake_signal="auto"))

    assert watched.nudge.wanted == [None, "auto"]


def test_every_invocation_rings_until_one_was_on_the_main_thread(watched: Watched) -> None:
    """Every invocation rings until one has run on the main thread.

    Only that thread can install the signal; afterwards it does not matter whether it could.
    """
    watched.nudge.number = None
    one = under_way(invocation())
    on_a_thread(lambda: watched.wake(one))
    watched.live()
    before = watched.wake_at

    watched.wake(one)
    on_a_thread(lambda: watched.wake(one))
    watched.live()

    assert (before, watched.wake_at) == (math.inf, GRACE_AT)


NO_NUDGE = (
    "blocked calls are not interrupted: no nudge (no signal is free); "
    "leave WATCHDOG_LAMBDA_WAKE_SIGNAL out, or name a signal that has no handler"
)


def test_missing_nudge_is_logged_once(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """A missing nudge is logged once, after the main thread has tried to install it."""
    caplog.set_level(logging.WARNING)
    watched.nudge.number = None
    on_a_thread(lambda: watched.wake(invocation()))
    before = caplog.messages[:]

    watched.wake(invocation())
    watched.wake(invocation())

    assert before == []
    assert caplog.messages == [NO_NUDGE]


def test_installed_or_unwanted_nudge_is_not_logged(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged if the nudge is not wanted, or is installed at the first attempt."""
    caplog.set_level(logging.WARNING)
    watched.nudge.number = None
    watched.wake(invocation(wake_signal="none"))
    watched.nudge.install = lambda _wanted: setattr(watched.nudge, "number", 10)
    watched.wake(invocation())

    assert watched.nudge.number == 10
    assert caplog.messages == []


def on_a_thread(work: Callable[[], object]) -> None:
    worker = threading.Thread(target=work)
    worker.start()
    worker.join(BOUND)


def test_wake_reserves_memory(watched: Watched) -> None:
    """A wake reserves memory for a MemoryError, at least an arena, and again after its use."""
    arena = 1 << 20
    watched.wake(invocation())
    had = [len(watched._ballast or b"")]

    watched._ballast = None
    watched.wake(invocation())
    had.append(len(watched._ballast or b""))

    assert min(had) >= arena


# ---- starting ----------------------------------------------------------------------------------


def test_new_watchdog_sleeps_until_the_first_invocation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new watchdog starts its thread at the first invocation, and sleeps until that is due."""
    started: dict[Callable[[], None], tuple[()]] = {}
    clock = FakeClock(START)
    watchdog = WatchdogThread(clock, SilentReport())
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        watchdog._goes_on = False
        return False

    clock.alarm.wait = wait  # type: ignore[method-assign]
    monkeypatch.setattr(os, "register_at_fork", lambda **_hooks: None)
    monkeypatch.setattr(daemon, "start_new_thread", started.setdefault)  # C code, starts nothing
    first = under_way(invocation(wake_signal="none"))
    assert first.due < watchdog.wake_at

    watchdog.wake(first)
    [life] = started
    life()

    assert waits == [7.0]
    assert not watchdog._living.locked()


class Startable(Watched):
    """A watchdog whose thread can be started, and only records that it was."""

    def __init__(self) -> None:
        super().__init__()
        self._thread_id = None
        self.preloaded: list[str] = []

    def _run(self) -> None:
        self.did.append("runs")
        self.ran.set()

    def preload(self) -> None:
        self.preloaded.append("watchdog")


@pytest.fixture
def startable(watched: Watched, caplog: pytest.LogCaptureFixture) -> Startable:
    caplog.set_level(logging.WARNING)
    return Startable()


def test_first_invocation_starts_the_thread(
    startable: Startable, caplog: pytest.LogCaptureFixture
) -> None:
    """The first invocation starts the thread, once, without a warning."""
    startable.wake(invocation())
    assert startable.ran.wait(BOUND)
    startable.wake(invocation())
    startable._start()

    assert startable._thread_id is not None
    assert startable.did.count("runs") == 1
    assert startable.preloaded == ["watchdog"]
    assert is_free(startable._starting)
    assert caplog.messages == []


def is_free(lock: Any) -> bool:
    """Return whether another thread could take the lock now."""
    had: list[bool] = []

    def take() -> None:
        had.append(lock.acquire(False))
        if had[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return had[0]


class Recipe(Exception):
    """Raised by a user's signal handler."""


def raise_after_call(function: Callable[[], object], behind: int) -> bool:
    """Call the function, and raise after its call number `behind`; return whether it makes so many.

    CPython looks at signals after a call, before its result is stored.
    """
    calls = [0, -1]

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_name not in {"_start", "equip"}:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            code, before = frame.f_code.co_code, calls[1]
            calls[1] = frame.f_lasti
            if before >= 0 and dis.opname[code[before]].startswith("CALL"):
                calls[0] += 1
                if calls[0] == behind:
                    raise Recipe
        return trace

    old = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 needs this in the frame where tracing begins
    sys.settrace(trace)
    try:
        function()
    except Recipe:
        return True
    finally:
        sys.settrace(old)
    return False


@pytest.mark.untraced
def test_start_can_be_interrupted_after_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a signal handler's error breaks off a start after any call, the next start succeeds."""
    monkeypatch.setattr(os, "register_at_fork", lambda **_hooks: None)
    broken = 0
    while True:
        startable = Startable()
        if not raise_after_call(startable._start, broken + 1):
            break
        broken += 1
        assert is_free(startable._starting), f"after call {broken}"
        startable._start()
        assert startable.ran.wait(BOUND)
        assert startable._thread_id is not None
        assert startable._is_fork_safe

    assert broken >= 7


def test_second_watchdog_thread_ends_at_once() -> None:
    """If two threads run the watchdog's loop, the second one ends at once."""
    watchdog = Watched()
    entered: list[int] = []
    goes_on = threading.Event()

    def watch() -> None:
        entered.append(get_ident())
        goes_on.wait(BOUND)

    watchdog._watch = watch  # type: ignore[method-assign]
    threads = [threading.Thread(target=watchdog._run) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: sum(t.is_alive() for t in threads) == 1, "the other thread to end")
    assert len(entered) == 1
    goes_on.set()
    for thread in threads:
        thread.join(BOUND)

    assert len(entered) == 1
    assert not watchdog._living.locked()


def test_fork_hooks_are_registered_once(
    startable: Startable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork hooks are registered once, however often the thread is started."""
    hooks: list[dict[str, object]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **given: hooks.append(given))
    monkeypatch.setattr(daemon, "start_new_thread", {}.setdefault)  # C code, starts nothing

    for _ in range(2):
        startable._thread_id = None
        startable._start()

    assert hooks == [{"after_in_child": startable._after_fork}]


def test_missing_nudge_is_not_logged_without_a_thread(
    startable: Startable, caplog: pytest.LogCaptureFixture
) -> None:
    """If the thread cannot be started, the log says that nothing is watched, and no more."""
    startable.nudge.number = None
    with failing("start_new_thread", RuntimeError("can't start new thread"), daemon):
        startable.wake(invocation())

    [said] = caplog.messages
    assert said.startswith("invocations are not watched")


def test_wake_during_start_does_not_wait(startable: Startable) -> None:
    """A wake does not wait while another thread starts the watchdog, which will see its ring."""
    starting, goes_on = threading.Event(), threading.Event()

    def start() -> None:
        with startable._starting:
            starting.set()
            goes_on.wait(BOUND)

    other = threading.Thread(target=start)
    other.start()
    assert starting.wait(BOUND)
    try:
        startable.wake(invocation())
    finally:
        goes_on.set()
        other.join()

    assert startable._thread_id is None
    assert startable.fake.alarm.rung == 1


def test_patched_threads_are_logged(
    startable: Startable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If gevent has replaced ``start_new_thread``, the log says what to import first."""

    class Spawn:
        """Neither a C function nor, for tests/traced.py, a Python function."""

        def __call__(self, *_: object) -> int:
            return 7

    monkeypatch.setattr(daemon, "start_new_thread", Spawn())

    startable._start()

    [message] = caplog.messages
    assert "before gevent.monkey.patch_all()" in message


@pytest.mark.parametrize("error", [RuntimeError("no more"), ImportError("no ctypes")])
def test_failed_thread_start_is_logged_once_and_retried(
    startable: Startable, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """If no thread can be started, the log says so once, and the next invocation tries again."""
    with failing("start_new_thread", error, daemon):
        startable.wake(invocation())
        startable.wake(invocation())
    refused = startable._thread_id
    startable.wake(invocation())

    assert startable.ran.wait(BOUND)
    assert (refused, startable._thread_id is None) == (None, False)
    [message] = caplog.messages
    assert message.startswith("invocations are not watched:")
    assert str(error) in message


def test_no_thread_is_started_without_the_gil(
    startable: Startable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the GIL no thread is started, and the log says so once.

    This is for what is watched without a decorator, which would have refused it.
    """
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)

    startable.wake(invocation())
    startable.wake(invocation())

    assert startable._thread_id is None
    [message] = caplog.messages
    assert message.startswith("invocations are not watched:")
    assert "set PYTHON_GIL=1" in message


def test_free_threaded_build_with_gil_is_watched(
    startable: Startable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A free-threaded build that runs with the GIL is watched; awslambdaric's client enables it."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)

    startable.wake(invocation())

    assert startable.ran.wait(BOUND)
    assert caplog.messages == []


def interpreter(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Have the interpreter appear as the main one or a sub-interpreter of that CPython version."""
    version, _, which = kind.partition(" ")
    if version == "3.13":
        monkeypatch.setattr(_thread, "_is_main_interpreter", lambda: which == "main", raising=False)
        return
    monkeypatch.delattr(_thread, "_is_main_interpreter", raising=False)
    current = 0 if which == "main" else 1
    asked = SimpleNamespace(get_current=lambda: current, get_main=lambda: 0)
    monkeypatch.setitem(sys.modules, "_xxsubinterpreters", asked)
    if which == "unknown":
        monkeypatch.setitem(sys.modules, "_xxsubinterpreters", None)


@pytest.mark.parametrize(
    ("kind", "starts"),
    [
        ("3.13 main", True),
        ("3.13 sub", False),
        ("3.11 main", True),
        ("3.11 sub", False),
        ("3.11 unknown", True),
    ],
)
def test_no_thread_is_started_in_a_sub_interpreter(
    startable: Startable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    *,
    starts: bool,
) -> None:
    """In a sub-interpreter no thread is started: it would keep the interpreter from ending."""
    interpreter(monkeypatch, kind)

    startable._start()

    assert startable._thread_id is not None if starts else startable._thread_id is None
    assert len(caplog.messages) == (0 if starts else 1)
    assert not starts or startable.ran.wait(BOUND)


def test_every_part_is_preloaded(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is loaded at the start.

    An import while the watchdog fires could wait for a lock that the handler holds.
    """
    ready: list[str] = []
    for part in (clauses, stacks):
        monkeypatch.setattr(part, "preload", lambda name=part.__name__: ready.append(name))

    watched.preload()

    assert ready == [part.__name__ for part in (clauses, stacks)]
    assert watched.silent.preloaded == 1
    assert watched.injector.available


# ---- hooks that are registered later -----------------------------------------------------------


def test_reschedule_outdates_running_timeouts(watched: Watched) -> None:
    """When a hook is registered, a timeout under way looks at its stages again."""
    one = under_way(invocation())
    course = watched.escalations[one] = SimpleNamespace(is_outdated=False)  # type: ignore[assignment]

    watched.reschedule()

    assert course.is_outdated
    assert (watched.fake.alarm.rung, one.due, watched.did) == (1, GRACE_AT, [])


def test_reschedule_advances_the_due_time(watched: Watched) -> None:
    """When an early hook is registered, an invocation becomes due earlier, and the timer is set."""
    registry = HookRegistry()
    one = under_way(invocation(registries=(registry,)))
    key = registry.add("early", print, before=5.0)

    watched.reschedule()
    registry.remove(key)

    assert one.due == START + 3.0
    assert watched.did == [("choose", one), ("set", START + 3.0)]


def test_reschedule_ignores_finished_timeouts(watched: Watched) -> None:
    """When a hook is registered, a timeout that is over stays as it is."""
    one = under_way(invocation(due=START))
    one.firing = SimpleNamespace()  # type: ignore[assignment]

    watched.reschedule()

    assert (one.due, watched.did, watched.fake.alarm.rung) == (START, [], 0)


# ---- the child of a fork -----------------------------------------------------------------------


def test_forked_child_starts_afresh(watched: Watched) -> None:
    """The child of a fork has no thread and no invocation, and its locks and alarm are new."""
    one = under_way(invocation())
    one.firing = SimpleNamespace()  # type: ignore[assignment]
    watched.escalations[one] = SimpleNamespace()  # type: ignore[assignment]
    prepared[ELSEWHERE] = LambdaTimeout()
    alarms = [FakeAlarm()]
    watched.fake.make_alarm = alarms.pop  # type: ignore[method-assign]
    watched._starting.acquire()
    watched._living.acquire()
    watched._pace.quicken()
    watched.last_resort = SimpleNamespace(margin=lambda _seconds: 0.0)
    watched.wake_at = GRACE_AT
    fresh = alarms[0]

    watched._after_fork()

    assert (one.firing, active, prepared, watched.escalations) == (None, {}, {}, {})
    assert is_free(watched._starting)
    assert not watched._living.locked()
    assert not watched._pace.is_quick
    assert (watched._thread_id, watched.wake_at) == (None, math.inf)
    last_resort: object = watched.last_resort
    assert last_resort is None
    assert (watched.did, watched.nudge.moved) == (["forget"], 1)
    assert watched._alarm is fresh


# ---- the thread's life -------------------------------------------------------------------------


def test_thread_sleeps_until_something_is_due(watched: Watched) -> None:
    """The thread looks, sets the kernel's timer and sleeps until something is due."""
    watched._has_met_main = True
    watched.fake.now = START + 2.0
    under_way(invocation())

    assert watched.live() == ["rest", "look", ("set", GRACE_AT), ("wait", 5.0)]
    assert watched.wake_at == GRACE_AT


def test_kernel_timer_is_not_set_for_samples(watched: Watched) -> None:
    """The kernel's timer is set for the grace period and not for samples.

    So a handler that ends in time is never nudged.
    """
    watched._has_met_main = True
    one = under_way(invocation(due=START + 4.0, samples=24))

    assert watched.live() == ["rest", "look", ("set", GRACE_AT), ("wait", 4.0)]
    assert (watched.wake_at, watched.acts_at) == (START + 4.0, GRACE_AT)
    watched.fake.now = START + 4.0
    assert watched.live() == ["rest", "look", ("set", GRACE_AT), ("wait", 0.125)]
    assert (one.firing, one.due) == (None, START + 4.0 + 0.125)
    watched.fake.now = GRACE_AT
    watched.live()
    assert one.firing is not None
    samples = one.firing.samples
    assert samples is not None
    assert samples.taken == 24


def test_samples_go_on_between_an_early_stage_and_the_grace_period(watched: Watched) -> None:
    """After an early stage the thread wakes for samples; the timer stays at the grace period."""
    registry = HookRegistry()
    key = registry.add("early", lambda _details: None, before=6.0)
    watched._has_met_main = True
    one = under_way(invocation(due=START + 2.0, registries=(registry,), samples=24))
    watched.fake.now = START + 2.0
    watched.live()
    assert one.firing is not None
    stage = one.firing.stages[0]
    eventually(stage.has_ended, "the early hook to run")
    watched.fake.now = START + 4.0

    try:
        assert watched.live()[-2:] == [("set", GRACE_AT), ("wait", 0.125)]
    finally:
        registry.remove(key)
    assert one.firing.samples is not None
    assert one.firing.samples.taken == 1


def test_no_look_before_the_grace_period_without_samples(watched: Watched) -> None:
    """Without samples the thread does not look at the stack before the grace period."""
    one = under_way(invocation(samples=0))
    watched.fake.now = GRACE_AT

    watched.live()

    assert one.firing is not None
    assert one.firing.samples is None


def test_idle_process_is_not_nudged(watched: Watched) -> None:
    """The kernel's timer is set only for the time until the thread wakes.

    When nothing is under way at that time, it is set to infinity.
    """
    watched._has_met_main = True
    watched.wake(invocation(due=START + 4.0))

    assert watched.live()[-2:] == [("set", GRACE_AT), ("wait", 4.0)]
    watched.fake.now = START + 4.0
    assert watched.live()[-2:] == [("set", math.inf), ("wait", math.inf)]


@pytest.mark.parametrize(
    ("due", "is_open", "has_fired", "looks"),
    [
        (GRACE_AT - 1.0, True, False, 2),
        (GRACE_AT - 1.0, False, False, 1),
        (GRACE_AT - 1.0, True, True, 1),
        (GRACE_AT, True, False, 1),
        (GRACE_AT, False, False, 1),
        (GRACE_AT + 1.0, True, False, 1),
        (GRACE_AT + 1.0, False, False, 1),
        (GRACE_AT + 1.0, True, True, 1),
    ],
)
def test_earlier_invocation_after_a_look_is_seen(
    due: float, *, is_open: bool, has_fired: bool, looks: int, watched: Watched
) -> None:
    """An invocation that appears after a look and is due earlier is looked at without a ring.

    One that has ended or is over is ignored, or the thread would look without end.
    """
    under_way(invocation())
    late = invocation(due=due)
    late.is_open = is_open
    if has_fired:
        late.firing = SimpleNamespace(is_over=True)  # type: ignore[assignment]
    watched.looks.append(lambda: under_way(late, ELSEWHERE - 1))

    did = watched.live()

    assert did.count("look") == looks
    assert did[-1] == ("wait", (due if looks == 2 else GRACE_AT) - START)


def test_pending_calls_run_in_order_with_a_look_after_each(watched: Watched) -> None:
    """Pending calls are made in order, each followed by a look.

    So a time that a test moves is never compared with one that it has not moved.
    """
    watched.pending_calls += [
        lambda: watched.did.append("one"),
        lambda: watched.did.append("other"),
    ]

    assert watched.live()[:6] == ["rest", "one", "look", "rest", "other", "look"]
    assert watched.did.count("look") == 2
    assert watched.pending_calls == []


def test_memory_error_frees_the_reserve_and_retries(
    watched: Watched,
) -> None:
    """After a MemoryError the thread frees its reserve and tries again after a short pause.

    The pause is shorter than the time that the kernel's timer allows, and later looks have none.
    """
    watched.wake(under_way(invocation()))
    had: list[bool] = []

    def fail() -> None:
        had.append(watched._ballast is not None)
        raise MemoryError

    watched.looks += [fail, lambda: had.append(watched._ballast is not None)]
    did = watched.live()
    afterwards = watched.live()

    assert had == [True, False]
    assert did[:3] == ["rest", "look", ("wait", daemon.SHORT_PAUSE)]
    assert did[3:] == afterwards == ["rest", "look", ("set", GRACE_AT), ("wait", 7.0)]
    assert 0.0 < daemon.SHORT_PAUSE < IDLE_PERIOD


@pytest.mark.parametrize("failure", [RuntimeError, RecursionError, SystemExit])
def test_thread_survives_errors(watched: Watched, failure: type[BaseException]) -> None:
    """The thread survives any error, after a pause, and reports each kind once.

    If it ended, no later invocation would be watched.
    """
    under_way(invocation())

    def fail() -> None:
        raise failure

    watched.looks += [fail, fail, lambda: None]
    did = watched.live()

    assert did[:6] == ["rest", "look", ("wait", daemon.SHORT_PAUSE)] * 2
    assert did[6:] == ["rest", "look", ("set", GRACE_AT), ("wait", 7.0)]
    assert [type(told) for told in watched.silent.failures] == [failure]


def test_thread_survives_errors_of_the_report(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread survives an error of the report itself, and reports the next failure.

    That happens where nothing can be called for a while.
    """
    failures = iter([RecursionError(), KeyError()])

    def fail() -> None:
        raise next(failures)

    def write_failure(error: BaseException) -> None:
        told.append(error)
        if len(told) == 1:
            fail()

    told: list[BaseException] = []
    monkeypatch.setattr(watched.silent, "write_failure", write_failure)

    watched.looks.append(fail)
    did = watched.live()

    assert [type(error) for error in told] == [RecursionError, KeyError]
    assert did.count(("wait", daemon.SHORT_PAUSE)) == 2


# ---- a look ------------------------------------------------------------------------------------


def chosen(watched: Watched) -> object:
    return [what for what in watched.did if what != "look"]


def test_look_returns_the_earliest_due_time(watched: Watched) -> None:
    """A look returns when the first invocation is due, and acts on none that is not."""
    first, later = under_way(invocation(due=GRACE_AT)), invocation(due=GRACE_AT + 0.5)
    under_way(later, ELSEWHERE - 1)
    watched.fake.now = GRACE_AT - 0.001

    assert watched._look() == GRACE_AT
    assert chosen(watched) == [("choose", first, later)]
    assert (first.firing, later.firing, watched.escalations) == (None, None, {})
    assert not watched._pace.is_quick


def test_due_invocation_is_acted_on(watched: Watched) -> None:
    """An invocation is acted on from its due time on, at each look until it has concluded."""
    watched.last_resort = SimpleNamespace(margin=lambda _seconds: 0.0)
    one = under_way(invocation())
    watched.fake.now = GRACE_AT

    due = watched._look()

    assert one.firing is not None
    assert (one.firing.thread_id, one.firing.fired_at) == (ELSEWHERE, GRACE_AT - START)
    tools: Any = one.firing.services
    assert (tools.clock, tools.alarm) == (watched.fake, watched.fake.alarm)
    assert (tools.nudge, tools.injector) == (watched.nudge, watched.injector)
    assert tools.last_resort is watched.last_resort
    assert watched._pace.is_quick
    assert GRACE_AT < due == one.due
    firing, course = one.firing, watched.escalations[one]
    one.is_open = False
    firing.is_concluded = True
    assert watched._look() == math.inf, "a timeout that had begun was due again"
    assert (one.firing, firing.is_over, course in watched.escalations.values()) == (
        firing,
        True,
        False,
    )
    assert not watched._pace.is_quick


def test_switch_interval_is_short_only_while_urgent(watched: Watched) -> None:
    """The switch interval is short only while the course of a timeout is urgent.

    Between an early stage and the grace period it is not.
    """
    one = under_way(invocation())
    urgent = [True, False]
    watched.escalations[one] = SimpleNamespace(step=lambda: GRACE_AT - START, is_urgent=urgent.pop)  # type: ignore[assignment]

    watched._look()
    after_an_early_stage = watched._pace.is_quick
    watched._look()

    assert (after_an_early_stage, watched._pace.is_quick) == (False, True)


@pytest.mark.parametrize(
    ("near_at", "waits", "is_quick"), [(START + 6.0, 6.0, False), (math.inf, 7.0, True)]
)
def test_thread_looks_again_shortly_before_it_acts(
    watched: Watched, near_at: float, waits: float, *, is_quick: bool
) -> None:
    """Shortly before it acts the thread looks once more, and then shortens the switch interval."""
    under_way(invocation())
    watched.kernel_timers.near_at, watched._has_met_main = near_at, True

    assert watched.live()[-2:] == [("set", GRACE_AT), ("wait", waits)]
    assert watched._pace.is_quick is is_quick
    assert watched.wake_at == GRACE_AT


def test_ended_invocation_is_dropped(watched: Watched) -> None:
    """The course of an ended invocation is dropped, so that its frames do not stay alive."""
    one, other = under_way(invocation()), under_way(invocation(), ELSEWHERE - 1)
    watched.fake.now = GRACE_AT
    watched._look()
    del active[ELSEWHERE]

    watched._look()

    assert one not in watched.escalations
    assert other in watched.escalations


def test_invocation_ending_just_before_acting_gets_no_stage(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invocation that ends just before it is acted on has a firing but no stage.

    The firing is published first, and then the thread checks whether it is still open.
    """
    one = under_way(invocation())

    def ends(*given: Any) -> Services:
        one.is_open = False
        return Services(*given)

    monkeypatch.setattr(module, "Services", ends)
    watched.fake.now = GRACE_AT

    assert watched._look() == math.inf
    assert one.firing is not None
    assert (one.firing.stages, watched.escalations) == ([], {})
    assert one.due == GRACE_AT


def test_failing_timeout_is_reported_and_given_up(
    watched: Watched, failures: list[BaseException]
) -> None:
    """A timeout that fails to begin is reported once and given up, and no hook runs."""
    one = under_way(invocation())
    error = KeyError()
    watched.fake.now = GRACE_AT

    with failing("Escalation", error):
        assert watched._look() == math.inf
    assert watched._look() == math.inf

    assert (failures, watched.escalations) == ([error], {})
    assert one.firing is not None
    assert (one.firing.is_over, one.firing.stages) == (True, [])


def test_failing_course_is_reported_and_given_up(
    watched: Watched, failures: list[BaseException]
) -> None:
    """A course whose step fails is reported and given up."""
    one = under_way(invocation())
    watched.fake.now = GRACE_AT
    watched._look()
    error = KeyError()

    def fail() -> None:
        raise error

    watched.escalations[one] = SimpleNamespace(step=fail)  # type: ignore[assignment]

    assert watched._look() == math.inf
    assert (failures, watched.escalations) == ([error], {})


def test_failing_firing_does_not_keep_the_thread_busy(
    watched: Watched, failures: list[BaseException]
) -> None:
    """A firing that cannot be made is reported once, and the thread sleeps.

    Further attempts would take the handler's time.
    """
    under_way(invocation())
    watched.fake.now = GRACE_AT
    error = KeyError()

    with failing("Firing", error):
        did = watched.live()
        watched.live()

    assert did == ["rest", "look", ("set", math.inf), ("wait", math.inf)]
    assert failures == [error]


def test_memory_error_delays_the_timeout(watched: Watched, failures: list[BaseException]) -> None:
    """After a MemoryError the timeout begins at the next look, without a report."""
    under_way(invocation())
    watched.fake.now = GRACE_AT

    with failing("Escalation", MemoryError()), pytest.raises(MemoryError):
        watched._look()

    assert failures == []
    assert GRACE_AT < watched._look() < math.inf


def test_idle_thread_sleeps_until_the_last_due_time(watched: Watched) -> None:
    """An idle thread sleeps until the last invocation would have been due, then without limit.

    So short invocations in between need not ring.
    """
    assert watched._look() == math.inf
    assert chosen(watched) == [("choose",)], "nothing has rung"
    watched.wake(invocation())
    watched.did.clear()

    assert watched._look() == GRACE_AT
    assert chosen(watched) == ["keep"]
    watched.did.clear()
    watched.fake.now = GRACE_AT
    assert watched._look() == math.inf
    assert chosen(watched) == [("choose",)]


def test_running_invocation_takes_precedence_over_ended_one(watched: Watched) -> None:
    """The next wake-up is that of an invocation under way, not a later one of an ended one."""
    watched.wake(invocation(due=GRACE_AT + 0.5))
    under_way(invocation())

    assert watched._look() == GRACE_AT


# ---- a nudge -----------------------------------------------------------------------------------


def nudged(watched: Watched, frame: FrameType | None = None) -> BaseException | None:
    """Return what a nudge raises in this frame of a thread that the watchdog has seen blocked."""
    invocation = invocation_of(get_ident())
    if invocation is not None and invocation.firing is not None:
        invocation.firing.looks_blocked = True
    return watched._decide(frame or sys._getframe())


def about_to_be_interrupted(watched: Watched) -> Invocation:
    """Return an invocation of this thread in which an interrupt is due."""
    one = under_way(invocation(), get_ident())
    watched.fake.now = GRACE_AT
    watched._look()
    assert one.firing is not None
    one.firing.policy.start(DETAILS)
    return one


def test_due_interrupt_lands_in_the_nudged_frame(watched: Watched) -> None:
    """An interrupt that is due lands in the nudged frame, without waiting."""
    about_to_be_interrupted(watched)

    assert type(nudged(watched)) is LambdaTimeout
    assert watched.fake.now == GRACE_AT


def test_early_or_late_nudge_does_nothing(watched: Watched) -> None:
    """A nudge does nothing without an invocation here, after its end, or without a frame."""
    under_way(invocation(), ELSEWHERE)
    nobodys = nudged(watched)
    one = about_to_be_interrupted(watched)
    frameless = watched._decide(None)
    one.is_open = False
    closed = nudged(watched)

    assert (nobodys, frameless, closed) == (None, None, None)
    assert watched.fake.alarm.rung == 0


def package_frame() -> FrameType:
    """Return a frame of the package, seen through a property that the package reads."""
    frames: list[FrameType] = []

    class Context:
        @property
        def name(self) -> str:
            frames.append(sys._getframe(1))
            return ""

    attribute(Context(), "name")
    [frame] = frames
    return frame


def test_nudge_in_package_frame_lands_nothing(watched: Watched) -> None:
    """A nudge in a frame of the package lands nothing, though an interrupt is due."""
    about_to_be_interrupted(watched)

    assert nudged(watched, package_frame()) is None
    assert watched.fake.alarm.rung == 0


def test_memory_error_in_nudge_frees_the_reserve(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a MemoryError in a nudge the reserve is freed, and the next nudge lands.

    The handler does not get the MemoryError.
    """
    one = about_to_be_interrupted(watched)
    watched.wake(one)

    def no_memory(*_given: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(nudged_module, "land", no_memory)
        assert nudged(watched) is None

    assert watched._ballast is None
    assert type(nudged(watched)) is LambdaTimeout


def test_nudge_without_invocation_starts_no_thread(startable: Startable) -> None:
    """A nudge without an invocation starts no thread."""
    assert nudged(startable) is None
    assert startable._thread_id is None


def test_nudge_in_package_frame_does_not_wait(watched: Watched) -> None:
    """A nudge in a frame of the package does not wait for a watchdog that is late."""
    under_way(invocation(), get_ident())
    watched.fake.now = GRACE_AT + 1.0

    assert nudged(watched, package_frame()) is None
    assert (watched.fake.alarm.rung, watched.fake.now) == (0, GRACE_AT + 1.0)


# ---- the kernel's nudge, for a thread that is late ---------------------------------------------


def caught_up(*stages: object) -> Any:
    """Return a stand-in for a firing in which interrupts may land once its stages are over."""
    return SimpleNamespace(
        stages=stages,
        elapsed=lambda: 7.0,
        timeline=SimpleNamespace(grace_at=7.0),
        policy=SimpleNamespace(is_waiting=False),
        cpu_time=math.inf,
    )


@pytest.fixture
def lands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a KeyError land whenever an interrupt is due."""
    monkeypatch.setattr(nudged_module, "land", lambda _firing, _frame: KeyError())


@pytest.mark.parametrize(
    ("now", "hooks_run", "may_land", "has_caught_up"),
    [
        (6.999, False, False, True),
        (6.999, True, False, False),
        (7.0, False, False, False),
        (7.0, False, True, True),
        (7.0, True, True, False),
    ],
)
def test_watchdog_has_caught_up_when_interrupts_may_land(
    now: float, *, hooks_run: bool, may_land: bool, has_caught_up: bool, watched: Watched
) -> None:
    """The watchdog has caught up when the stages due are over and interrupts may land."""
    one = invocation()
    firing = one.firing = caught_up(
        SimpleNamespace(is_over=lambda: True), SimpleNamespace(is_over=lambda: not hooks_run)
    )
    firing.elapsed = lambda: now
    firing.policy.is_waiting = not may_land

    assert nudged_module.has_caught_up(one, watched.fake) is has_caught_up


class LateAlarm:
    """A watchdog that runs only while a nudge pauses, and acts at the n-th ring."""

    def __init__(self, watched: Watched, one: Invocation, rings: int) -> None:
        self._watched, self._one, self._rings = watched, one, rings
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1
        if self.rung == self._rings:
            self._one.firing = caught_up()


@pytest.mark.usefixtures("lands")
@pytest.mark.parametrize(
    ("late_by", "rings"),
    [(0.0, 0), (LATE_BY * 0.45, 0), (LATE_BY * 0.5, 3), (LATE_BY * 0.7, 3), (LATE_BY, 3)],
)
def test_nudge_waits_for_a_late_watchdog(watched: Watched, late_by: float, rings: int) -> None:
    """A nudge lets a late watchdog act first, but not one that has just become due."""
    one = under_way(invocation(), get_ident())
    watched._alarm = late = LateAlarm(watched, one, 3)  # type: ignore[assignment]
    watched.fake.now = GRACE_AT + late_by

    error = nudged(watched)

    assert late.rung == rings
    assert isinstance(error, KeyError) is bool(rings)
    assert 0.0 <= watched.fake.now - (GRACE_AT + late_by) <= 0.01, "the nudge waited too long"


def test_nudge_wait_for_the_watchdog_is_bounded(
    watched: Watched,
) -> None:
    """A nudge waits for the watchdog as long as the hook budget, and a little more."""
    under_way(invocation(hook_budget=0.25), get_ident())
    watched._alarm = FakeAlarm()
    watched.fake.now = GRACE_AT + 1.0

    assert nudged(watched) is None

    waited = watched.fake.now - (GRACE_AT + 1.0)
    assert waited == pytest.approx(0.25 + 0.02, abs=0.002)


@pytest.mark.usefixtures("lands")
def test_nudge_waits_for_running_hooks(watched: Watched) -> None:
    """A nudge waits for running hooks before an interrupt lands."""
    one = under_way(invocation(), get_ident())
    over_at = watched.fake.now + 0.0025
    one.firing = caught_up(SimpleNamespace(is_over=lambda: watched.fake.now >= over_at))

    assert isinstance(nudged(watched), KeyError)
    assert watched.fake.alarm.rung == 3
    assert watched.fake.now == pytest.approx(over_at, abs=0.001)
