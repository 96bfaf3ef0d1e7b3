"""Forks in a watched handler: the thread steps aside from 3.12 on, and comes back.

Each scene is played in a process of its own, forked from this one, for the kernel's count must be
of the handler's thread and the watchdog alone.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import traceback
import warnings
from _thread import start_new_thread
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support import BOUND, Context, FakeClock, block, eventually, in_a_fork, plan
from tests.threads.gates import Gate, NoTimer, SilentNudge, parts
from watchdog_lambda import Interrupt, LambdaTimeout, shutdown_hook, watch
from watchdog_lambda._engine import fork as fork_module
from watchdog_lambda._engine import watchdog
from watchdog_lambda._engine.invocation import Invocation, active
from watchdog_lambda._engine.watchdog import WatchdogThread, thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from watchdog_lambda._engine.clock import Alarm

warns = pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12 and later warn of threads")


def play(scene: Callable[[], object]) -> None:
    """Run a scene in a child with one thread; fail as it fails."""

    def child() -> bytes:
        try:
            scene()
        except BaseException:
            return traceback.format_exc().encode()
        return b"played"

    said = in_a_fork(child).decode()
    assert said == "played", said


def fork() -> int:
    """Fork a child that ends at once, and reap it."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@contextmanager
def warned_of() -> Iterator[list[str]]:
    """Every warning, as a text, however often it comes."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [str(warning.message) for warning in caught]


@contextmanager
def starts() -> Iterator[list[int]]:
    """The watchdog threads that are started, as their ids."""
    started: list[int] = []
    real = start_new_thread

    def start(run: Callable[[], None], arguments: tuple[()]) -> int:
        started.append(real(run, arguments))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watchdog, "start_new_thread", start)
        yield started


# ---- alone with the watchdog -------------------------------------------------------------------


@warns
def test_a_fork_in_a_handler_is_warned_of_for_other_threads_only() -> None:
    """Ten forks are silent, the handler is watched on; with a thread of the handler's one warns."""

    def scene() -> None:
        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            with starts() as started, warned_of() as warned:
                for _ in range(10):
                    fork()
            assert warned == []
            assert len(started) == 10
            block()

        with pytest.raises(LambdaTimeout):
            handler({}, Context(1.0))

        never = threading.Event()
        other = threading.Thread(target=never.wait)
        other.start()
        with starts() as started, warned_of() as warned:
            watch(lambda _e, _c: fork())({}, Context(5.0))
        assert len(warned) == 1
        assert "multi-threaded" in warned[0]
        assert started == []  # ours ran before, and has been left alone
        never.set()
        other.join(BOUND)

    play(scene)


@warns
def test_a_fork_between_invocations_leaves_the_start_to_the_next_one() -> None:
    """Nothing is to be watched then; what comes next is."""

    def scene() -> None:
        watch(lambda _e, _c: None)({}, Context(60.0))
        with starts() as started, warned_of() as warned:
            fork()
            assert started == []
            assert thread.wake_at == math.inf
            with pytest.raises(LambdaTimeout):
                watch(grace_period=0.02)(lambda _e, _c: block())({}, Context(0.1))
        assert warned == []
        assert len(started) == 1

    play(scene)


@warns
def test_off_the_main_thread_it_is_left_alone_and_the_deadline_holds() -> None:
    """The main thread is another one, so that the warning comes anyway."""

    def scene() -> None:
        outcomes: list[object] = []

        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            with starts() as started, warned_of() as warned:
                fork()
            outcomes.extend((len(started), len(warned)))
            while True:
                pass

        def work() -> None:
            try:
                handler({}, Context(0.2))
            except LambdaTimeout as timeout:
                outcomes.append(type(timeout))

        worker = threading.Thread(target=work)
        worker.start()
        worker.join(BOUND)
        assert outcomes == [0, 1, LambdaTimeout]

    play(scene)


@warns
def test_without_a_nudge_it_is_started_by_the_fork_itself() -> None:
    """Nothing would have the main thread start it behind the fork, where no signal may be used."""

    def scene() -> None:
        @watch(grace_period=0.02, wake_signal="none")
        def handler(_event: object, _context: object) -> None:
            with starts() as started, warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of 3.13.0 to 3.13.9
                fork()
            assert len(started) == 1
            while True:
                pass

        # This process has the parent's nudge.
        thread.nudge.number = None
        with pytest.raises(LambdaTimeout):
            handler({}, Context(0.2))

    play(scene)


def test_a_child_is_not_the_invocation_and_can_fork_and_watch_itself() -> None:
    """It has no watchdog until it watches; then it has one of its own, which steps aside too."""

    def child() -> bytes:
        try:
            assert not active
            assert fork_module._threads() == 1

            @watch(grace_period=0.02)
            def handler(_event: object, _context: object) -> None:
                with warned_of() as warned:
                    fork()
                assert warned == []
                block()

            handler({}, Context(0.1))
        except LambdaTimeout:
            return b"watched"
        except BaseException:
            return traceback.format_exc().encode()
        return b"not watched"

    def scene() -> None:
        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            said = in_a_fork(child).decode()
            assert said == "watched", said
            block()

        with pytest.raises(LambdaTimeout):
            handler({}, Context(0.6))

    play(scene)


@warns
def test_subprocess_has_the_thread_step_aside_for_a_preexec_fn_only() -> None:
    """Without one it runs no hooks: nothing of Python's is called in the child."""

    def scene() -> None:
        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> list[int]:
            counts = []
            for function in (None, os.getpid):
                with starts() as started, warned_of() as warned:
                    subprocess.run(["true"], check=True, preexec_fn=function)
                assert warned == []
                counts.append(len(started))
            return counts

        assert handler({}, Context(5.0)) == [0, 1]

    play(scene)


# ---- at dangerous points -----------------------------------------------------------------------


@warns
def test_a_firing_under_way_goes_on_after_the_fork() -> None:
    """Its state outlives the thread: the second interrupt comes, and the hooks not once more."""

    def scene() -> None:
        thread.standby._timer = NoTimer()  # type: ignore[assignment]  # it would start the thread as well
        hooks: list[int] = []
        shutdown_hook(lambda details: hooks.append(1))

        @watch(grace_period=0.2)
        def handler(_event: object, _context: object) -> None:
            try:
                block()
            except LambdaTimeout:
                pass
            assert thread.courses
            with starts() as started, warned_of() as warned:
                fork()
            assert warned == []
            assert len(started) == 1
            try:
                block()
            except Interrupt:
                hooks.append(2)
                raise

        with pytest.raises(LambdaTimeout):
            handler({}, Context(0.8))
        assert hooks == [1, 2]

    play(scene)


class HeldAlarm:
    """Holds the watchdog between its last look and its sleep, until it is rung."""

    def __init__(self, real: Alarm) -> None:
        self._real = real
        self._gate = Gate()
        self.wanted_at_ring: list[bool] = []

    def ring(self) -> None:
        self.wanted_at_ring.append(thread._aside.is_wanted)
        self._real.ring()
        self._gate.open()

    def wait(self, seconds: float) -> None:
        self._gate.hold()
        self._real.wait(seconds)

    def wait_until_held(self) -> None:
        self._gate.wait_until_reached()


@warns
@pytest.mark.parametrize("is_rung", [False, True])
def test_a_fork_finds_the_thread_about_to_sleep(*, is_rung: bool) -> None:
    """The request comes before the ring, so the thread sees it when it wakes, rung twice or not."""

    def scene() -> None:
        alarm = HeldAlarm(thread._alarm)
        thread._alarm = alarm

        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            alarm.wait_until_held()
            if is_rung:
                alarm._real.ring()
            alarm.wanted_at_ring.clear()
            with starts() as started, warned_of() as warned:
                fork()
            assert alarm.wanted_at_ring == [True]
            assert warned == []
            assert len(started) == 1
            block()

        with pytest.raises(LambdaTimeout):
            handler({}, Context(0.4))

    play(scene)


@warns
def test_a_thread_that_does_not_come_to_its_end_in_time_lives_on() -> None:
    """The fork is bounded, and warned of; the request is taken back, and no second thread runs."""

    def scene() -> None:
        gate = Gate()
        real = thread._look

        def look() -> float:
            gate.hold()
            return real()

        thread._look = look  # type: ignore[method-assign]

        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            gate.wait_until_reached()
            with warned_of() as warned:
                fork()
            assert len(warned) == 1
            assert not thread._aside.is_wanted
            gate.open()
            block()

        with starts() as started, pytest.raises(LambdaTimeout):
            handler({}, Context(0.4))
        assert len(started) == 1

    play(scene)


@warns
def test_two_forks_at_once_leave_one_thread() -> None:
    """The second finds the thread gone, and has it back while the first still waits."""

    def scene() -> None:
        gate = Gate()
        real = fork_module._threads
        counted: list[int] = []

        def count() -> int:
            if threading.current_thread() is first:
                counted.append(real())
                if len(counted) == 1:
                    return 2  # as if the second came only now
                gate.hold()
            return real()

        first = threading.Thread(target=fork)
        second = threading.Thread(target=fork)

        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> None:
            fork_module._threads = count
            fork_module.PATIENCE = 2 * BOUND
            first.start()
            gate.wait_until_reached()
            eventually(lambda: thread._thread_id is None, "the thread to end")
            second.start()
            second.join(BOUND)
            gate.open()
            first.join(BOUND)
            assert not first.is_alive()
            block()

        with starts() as started, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(LambdaTimeout):
                handler({}, Context(0.6))
        assert len(started) == 2
        eventually(lambda: real() == 2, "this thread and one watchdog to be left")

    play(scene)


@warns
def test_a_fork_in_a_hook_leaves_the_thread_alone() -> None:
    """A hook's own thread is one that CPython warns of, whatever the watchdog does."""

    def scene() -> None:
        counted: list[int] = []
        warned: list[str] = []

        def hook(_details: object) -> None:
            with starts() as started, warned_of() as texts:
                fork()
            counted.append(len(started))
            warned.extend(texts)

        shutdown_hook(hook)
        with pytest.raises(LambdaTimeout):
            # Half a second, of which the hook has most: a fork takes long on a busy machine.
            watch(hook_budget=0.35, last_call=0.1)(lambda _e, _c: block())({}, Context(2.0))
        assert counted == [0]
        assert len(warned) == 1

    play(scene)


@warns
def test_no_interrupt_lands_before_the_childs_pid_is_stored() -> None:
    """What brings the thread back is a nudge in its place right behind the fork: it lands none."""

    def scene() -> None:
        gate = Gate()

        @watch(grace_period=0.2, interrupt="base")
        def handler(_event: object, _context: object) -> int:
            assert gate.passed.wait(BOUND)  # an interrupt is due, and nobody nudges
            return fork()

        with parts(nudge=SilentNudge(gate)):
            assert handler({}, Context(0.8)) > 0

    play(scene)


def test_each_thread_looks_before_it_ends() -> None:
    """Asked to end before it has begun, or else a handler that forks and forks is never late."""
    clock = FakeClock()
    watchdog = WatchdogThread(clock)
    waits: list[float] = []
    clock.alarm.wait = waits.append  # type: ignore[assignment, method-assign]
    late = Invocation(plan(), None, None, clock.now, clock.now + 8.0, clock.now + 7.0)
    clock.advance(7.5)
    active[-1] = late
    try:
        watchdog._aside.is_wanted = True
        watchdog._run()
    finally:
        del active[-1]

    assert late.firing is not None
    assert len(waits) == 1
    assert watchdog.wake_at == math.inf


def test_a_thread_that_ends_while_a_second_fork_counts_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or else what is left of the request looks like a thread that lives on: none is started."""
    watchdog = WatchdogThread(FakeClock())
    watchdog._thread_id = -1

    def count() -> int:
        if watchdog._aside._is_gone():
            return 1
        watchdog._aside.is_wanted = True  # by the first fork, while this one is in here
        assert watchdog._aside.leaves()
        return 2

    monkeypatch.setattr(fork_module, "_threads", count)
    watchdog._aside.before()

    assert watchdog._aside._is_gone()
    assert not watchdog._aside.is_wanted


@warns
def test_a_nudge_that_has_met_a_fork_has_the_next_one_leave_the_thread_alone() -> None:
    """Interrupts land in no frame of ours, and in a loop of forks they would meet no other."""

    def scene() -> None:
        real = fork_module._threads
        nudged: list[object] = []
        # Longer than a busy machine takes for a thread's end, and for two forks.
        fork_module.PATIENCE = fork_module._STAND_BY = BOUND

        def count() -> int:
            if not nudged:
                nudged.append(thread._decide(sys._getframe(1)))
            return real()

        @watch(grace_period=0.02)
        def handler(_event: object, _context: object) -> list[int]:
            fork_module._threads = count
            counts = []
            for _ in range(2):
                with starts() as started, warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    fork()
                counts.append(len(started))
            return counts

        assert handler({}, Context(5.0)) == [1, 0]
        assert nudged == [None]

    play(scene)


@warns
def test_a_handler_that_does_nothing_but_fork_is_interrupted() -> None:
    """Each thread looks before it ends; and it is left alone once a nudge has met a fork."""

    def scene() -> None:
        begun: list[float] = []

        def handler(_event: object, _context: object) -> None:
            begun.append(thread.clock.monotonic())
            while True:
                fork()

        warnings.simplefilter("ignore", DeprecationWarning)  # in this process of the scene's
        with pytest.raises(LambdaTimeout):
            watch(grace_period=0.4, last_call=0.1)(handler)({}, Context(1.6))
        assert thread.clock.monotonic() < begun[0] + 1.5

    play(scene)
