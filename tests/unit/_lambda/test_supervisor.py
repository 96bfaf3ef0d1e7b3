"""Tests of a supervisor's decisions, with a simulated process."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit._lambda.page import begin
from watchdog_lambda import _report
from watchdog_lambda._engine.clock import wall
from watchdog_lambda._lambda import runtime_process, stack_files, supervisor
from watchdog_lambda._lambda.decision import LONGEST_SLEEP
from watchdog_lambda._lambda.runtime_process import Ended, RuntimeProcess
from watchdog_lambda._lambda.shared_state import (
    ANSWERING,
    FAILED,
    IDLE,
    INIT,
    OPEN,
    RECYCLED,
    Seen,
    SharedState,
)
from watchdog_lambda._lambda.supervisor import RING, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = "8ecd63d4-0f49-4a14-8a8d-b57c05f1e63d"
NO_PROCESS_LEFT = BlockingIOError(11, "Resource temporarily unavailable")


class Exited(BaseException):
    """Raised where the process would end."""


class Process:
    """The runtime's process, which starts a limited number of times and does not run."""

    pid = 99

    def __init__(self) -> None:
        self.starts: list[OSError | bool] = []
        self.did: list[Any] = []
        self.while_it_stops: Callable[[], object] = lambda: None
        self.stops = True
        self.ended: Any = None

    def start(self, _mask: object) -> bool:
        self.did.append("start")
        result = self.starts.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    def stop(self, within: float) -> bool:
        self.did.append(("stop", within))
        self.while_it_stops()
        return self.stops

    def go_on(self) -> None:
        self.did.append("go on")

    def end(self, *_since: object, has_ended: bool) -> None:
        self.did.append(("end", has_ended))

    def reap(self) -> Ended | None:
        self.did.append("reap")
        return cast("Ended | None", self.ended)

    def signal(self, number: int) -> None:
        self.did.append(("signal", number))


class Answers:
    """Records the answers."""

    kernel: Any = None

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.is_taken = True

    def forget(self) -> None:
        self.said.clear()

    def place(self, _stack: object) -> None:
        pass

    def timeout(self, seen: Any, _place: object) -> bool:
        self.said.append(("timeout", seen.request_id))
        return self.is_taken

    def report_timeout(self, *_given: object) -> None:
        self.said.append("record")

    def crash(self, seen: Any, *_given: object) -> bool:
        self.said.append(("crash", seen.request_id))
        return self.is_taken

    def init_crash(self, *_given: object, is_first: bool) -> None:
        self.said.append(("init", is_first))


class Api:
    """Records the requests for the next event."""

    def __init__(self, did: list[Any]) -> None:
        self.did = did

    def connect(self) -> str:
        return "connection"

    def ask_for_event(self, connection: str) -> None:
        self.did.append(("ask", connection))


class Files:
    """Files that have no stack."""

    def __init__(self) -> None:
        self.did: list[Any] = []

    def clear(self) -> None:
        self.did.append("clear")

    def ask_for_stuck(self, _kernel: object, pid: int, number: int, seconds: float) -> None:
        self.did.append(("ask", pid, number, seconds))

    def stuck(self) -> list[object]:
        return []

    crash = stuck

    def show_crash(self) -> None:
        self.did.append("show")


class Signals:
    """The kernel's signals: these, and then no more. It notes how long each was waited for."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = [*numbers]
        self.pauses: list[float] = []

    def wait_for_signal(self, waited_for: object, seconds: float) -> int:
        assert waited_for == supervisor.WAITED_FOR
        self.pauses.append(seconds)
        if not self._numbers:
            raise Exited("no more signals")
        return self._numbers.pop(0)


class Scene:
    """A supervisor with these stand-ins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
        self.state = SharedState()
        self.process, self.answers = Process(), Answers()
        api, self.files = Api(self.process.did), Files()
        parts = cast("Any", (api, self.answers, self.state, self.files))
        self.supervisor = Supervisor(*parts, environ=environ, mask=set())
        self.supervisor._process = cast("Any", self.process)
        self.failures: list[BaseException] = []
        self.now = 0.0
        monkeypatch.setattr(_report, "write_failure", self.failures.append)
        clock = SimpleNamespace(monotonic=lambda: self.now, pause=self.pause)
        monkeypatch.setattr(supervisor, "SystemClock", clock)

        def exit_(status: int) -> None:
            raise Exited(status)

        monkeypatch.setattr(os, "_exit", exit_)

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def open(self, seconds: float) -> Any:
        """Return an invocation with so much remaining time, as the supervisor reads it."""
        begin(self.state, REQUEST, wall() + seconds)
        seen = self.state.look()
        assert seen is not None
        return seen


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a scene for one test."""
    return Scene(monkeypatch)


# ---- starting ----------------------------------------------------------------------------------


def test_failure_to_start_first_process_raises(scene: Scene) -> None:
    """If the first process cannot be started, there is an error.

    No other process could run at the same time as the caller.
    """
    scene.process.starts = [NO_PROCESS_LEFT]

    with pytest.raises(BlockingIOError):
        scene.supervisor.serve()
    assert scene.failures == []


def test_new_process_is_started_once_the_last_has_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process can be started once the last one has ended.

    A handler may have used up the limit of processes.
    """
    scene.process.starts = [False, NO_PROCESS_LEFT, NO_PROCESS_LEFT, True]
    monkeypatch.setattr(Supervisor, "_attend", lambda _self: None)

    assert scene.supervisor.serve() is None
    assert scene.process.did == ["start", "start", "reap", "start", "reap", "start"]


@pytest.mark.parametrize("is_defect", [False, True], ids=["no process", "defect"])
def test_supervisor_that_cannot_continue_exits(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    is_defect: bool,  # noqa: FBT001
) -> None:
    """A supervisor that cannot go on logs why, ends the process that it watches, and exits.

    If it returned it would run the handler.
    """
    scene.process.starts = [False] + [NO_PROCESS_LEFT] * 1000

    def attend(_self: object) -> None:
        if is_defect:
            raise LookupError

    monkeypatch.setattr(Supervisor, "_attend", attend)
    with pytest.raises(Exited) as exited:
        scene.supervisor.serve()
    assert exited.value.args == (1,)
    assert [type(error) for error in scene.failures] == [
        LookupError if is_defect else BlockingIOError
    ]
    assert scene.now == pytest.approx(0.0 if is_defect else 2.0, abs=0.05)


def test_start_is_given_up_after_its_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails when its time is over is not tried again."""

    def start(_mask: object) -> bool:
        scene.now += 2.0
        raise NO_PROCESS_LEFT

    monkeypatch.setattr(scene.process, "start", start)

    with pytest.raises(BlockingIOError):
        scene.supervisor._start_again()
    assert scene.now == 2.0


def test_new_process_gets_nothing_of_the_last(scene: Scene) -> None:
    """A new process gets an empty page and empty files, and no fallback of the last one."""
    scene.open(30.0)
    scene.answers.said.append("fallback")
    scene.process.starts = [True]
    connection = cast("Any", "connection")
    scene.supervisor._next = connection

    assert scene.supervisor.serve() is connection
    assert scene.state.look() is None
    assert (scene.files.did, scene.answers.said) == (["clear"], [])


def test_only_the_first_process_counts_as_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first process is the first, and each gets the connection for its event."""
    seen: list[bool] = []
    connection = cast("Any", "connection")

    def attend(one: Supervisor) -> None:
        seen.append(one._is_first)
        one._next = connection

    monkeypatch.setattr(Supervisor, "_attend", attend)
    scene.process.starts = [False, False, True]

    assert scene.supervisor.serve() is connection
    assert seen == [True, False]


# ---- looking -----------------------------------------------------------------------------------


def attend(scene: Scene, *numbers: int) -> list[float]:
    """Supervise while these signals come; return how long each was waited for."""
    scene.answers.kernel = Signals(*numbers)
    with pytest.raises(Exited, match="no more signals"):
        scene.supervisor._attend()
    pauses: list[float] = scene.answers.kernel.pauses
    return pauses


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass on the wall clock."""
    monkeypatch.setattr(supervisor, "wall", lambda: wall() + seconds)


def test_supervisor_sleeps_long_before_the_first_invocation(scene: Scene) -> None:
    """Without an invocation the supervisor sleeps until something rings."""
    assert attend(scene, 0, RING) == [LONGEST_SLEEP] * 3


def test_supervisor_wakes_at_the_margin(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor wakes at the margin of an open invocation, or of one that may begin."""
    scene.open(30.0)
    later(monkeypatch, 10.0)
    assert attend(scene, 0)[1] == pytest.approx(19.75, abs=1.0)

    scene.state.store(ANSWERING)
    assert attend(scene, 0)[1] == pytest.approx(29.75)


@pytest.mark.parametrize("is_taken", [True, False])
def test_due_invocation_is_answered_for(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    is_taken: bool,  # noqa: FBT001
) -> None:
    """A due invocation is answered for, or else looked at again very soon."""
    seen: list[str] = []

    def answer_for(_self: object, one: Seen) -> bool:
        seen.append(one.request_id)
        return is_taken

    monkeypatch.setattr(Supervisor, "_answer_for", answer_for)
    scene.open(30.0)
    scene.state.give_up(REQUEST, has_reported=False)
    if is_taken:
        scene.answers.kernel = Signals(RING)
        scene.supervisor._attend()
    else:
        assert attend(scene, RING)[1] == pytest.approx(0.01)
    assert seen == [REQUEST]


def test_invocation_that_is_not_due_is_not_answered_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than a second before its margin an invocation is not answered for yet."""
    monkeypatch.setattr(Supervisor, "_answer_for", lambda *_: pytest.fail("too early"))
    scene.open(30.0)
    later(monkeypatch, 29.25)

    assert attend(scene, 0)[1] == pytest.approx(0.5, abs=0.25)


def test_end_is_passed_on_once_and_nothing_is_answered_for_after_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform's signals are passed on, each once. After that the process is left alone."""
    monkeypatch.setattr(Supervisor, "_answer_for", lambda *_: pytest.fail("it ends by itself"))
    scene.open(-0.5)
    attend(scene, signal.SIGTERM, signal.SIGTERM, signal.SIGINT)

    assert scene.process.did == [("signal", signal.SIGTERM), ("signal", signal.SIGINT)]


def test_end_of_the_process_is_taken_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process itself has ended, the supervisor takes over, and not if another child has."""
    ended: list[object] = []
    monkeypatch.setattr(Supervisor, "_take_over", lambda _self, one: ended.append(one))

    attend(scene, signal.SIGCHLD)
    assert (scene.process.did, ended) == (["reap"], [])

    scene.process.ended = object()
    scene.answers.kernel = Signals(signal.SIGCHLD)
    scene.supervisor._attend()
    assert ended == [scene.process.ended]


def seen_at(monkeypatch: pytest.MonkeyPatch, left: float, opened_at: float = 970.0) -> Seen:
    """Return an invocation that has so much time left on a wall clock that stands still."""
    monkeypatch.setattr(supervisor, "wall", lambda: 1000.0)
    return Seen(OPEN, REQUEST, "", opened_at, 1000.0 + left)


def test_answer_is_due_at_the_margin(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is due 250 ms before the deadline, or an eighth of a short invocation's time."""
    assert scene.supervisor._due_in(seen_at(monkeypatch, 20.0)) == 19.75
    assert scene.supervisor._due_in(seen_at(monkeypatch, 0.5, 999.5)) == 0.375
    assert scene.supervisor._due_in(seen_at(monkeypatch, -1.0)) == -1.25


def test_answer_is_due_within_a_short_grace_period(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is due halfway through a grace period that the handler has chosen shorter."""
    scene.state.set_grace_period(0.25)

    assert scene.supervisor._due_in(seen_at(monkeypatch, 20.0)) == 19.875
    scene.state.clear()
    assert scene.supervisor._due_in(seen_at(monkeypatch, 20.0)) == 19.75


def test_answer_is_due_if_the_watchdog_has_given_up(scene: Scene) -> None:
    """The answer is due at once if the watchdog has given up on the handler."""
    seen = scene.open(30.0)
    scene.state.give_up(REQUEST, has_reported=False)

    assert scene.supervisor._due_in(seen) == 0.0


def test_overdue_invocation_gets_a_second_of_its_own(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a freeze the runtime has a second to answer, once for each invocation."""
    seen = seen_at(monkeypatch, -1.125)
    assert scene.supervisor._due_in(seen) == 1.0
    scene.now = 0.25
    assert scene.supervisor._due_in(seen) == 0.75
    assert scene.supervisor._due_in(seen_at(monkeypatch, -1.125, 980.0)) == 1.0


# ---- answering ---------------------------------------------------------------------------------


def test_process_that_does_not_stop_goes_on(scene: Scene) -> None:
    """A process that does not stop in time goes on: nothing can be decided."""
    scene.process.stops = False

    assert scene.supervisor._answer_for(scene.open(0.2)) is False
    assert scene.process.did[1:] == ["go on"]
    assert scene.answers.said == []


def test_stuck_process_is_asked_for_its_stack(scene: Scene) -> None:
    """A stuck process has a quarter of the remaining time to write its stack."""
    scene.state.set_dump_signal(42)

    scene.supervisor._answer_for(scene.open(0.4))

    assert scene.files.did == [("ask", Process.pid, 42, pytest.approx(0.1, abs=0.02))]


def test_unreachable_api_leaves_the_request_to_the_new_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the next event cannot be requested, the new process does that, and reports the reason."""

    def connect(_self: object) -> str:
        raise ConnectionRefusedError

    monkeypatch.setattr(Api, "connect", connect)

    assert scene.supervisor._answer_for(scene.open(0.2))
    assert scene.process.did[1:] == [("end", False)]
    assert scene.supervisor._next is None


def test_next_event_is_requested_before_the_process_is_ended(scene: Scene) -> None:
    """The next event is requested before the process is ended.

    The caller need not wait while the kernel frees gigabytes.
    """
    seen = scene.open(0.2)

    assert scene.supervisor._answer_for(seen)
    assert scene.answers.said == [("timeout", REQUEST), "record"]
    stop, *then = scene.process.did
    assert stop == ("stop", pytest.approx(0.1, abs=0.02))
    assert then == [("ask", "connection"), ("end", False)]
    assert scene.supervisor._next is not None


def test_worker_requests_next_event_when_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several workers the next event is requested only when the new process is ready.

    Another worker serves it until then.
    """
    scene = Scene(monkeypatch, AWS_LAMBDA_MAX_CONCURRENCY="4")

    assert scene.supervisor._answer_for(scene.open(0.2))
    assert scene.process.did[1:] == [("end", False)]
    assert scene.supervisor._next is None


@pytest.mark.parametrize("kind", ["snap-start", "provisioned-concurrency"])
def test_new_process_gets_the_initialization_type(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A new process is told how the sandbox was initialized, but not that it was from a snapshot.

    Lambda would not answer a second request for the restore.
    """
    scene = Scene(monkeypatch, AWS_LAMBDA_INITIALIZATION_TYPE=kind)
    scene.supervisor._answer_for(scene.open(0.2))

    told = scene.supervisor._environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")
    assert told == (None if kind == "snap-start" else kind)


def test_late_process_still_gets_time_to_stop(scene: Scene) -> None:
    """The process gets time to stop however late it is.

    Otherwise stopping would be tried again and again, and nothing answered.
    """
    assert scene.supervisor._answer_for(scene.open(-0.5))
    assert scene.process.did[0] == ("stop", 0.05)


def test_returned_handler_answers_itself(scene: Scene) -> None:
    """If the handler's answer is on its way when the process stops, the supervisor sends none."""
    scene.process.while_it_stops = lambda: scene.state.store(ANSWERING)

    assert not scene.supervisor._answer_for(scene.open(0.2))
    assert scene.answers.said == []
    assert scene.process.did[1:] == ["go on"]


def test_next_invocation_gets_no_late_answer(scene: Scene) -> None:
    """An invocation that has begun by the time the process stops gets no late answer.

    The answer would be for the last invocation.
    """
    seen = scene.open(0.2)
    scene.process.while_it_stops = lambda: begin(scene.state, "the next", wall() + 3)

    assert not scene.supervisor._answer_for(seen)
    assert (scene.answers.said, scene.state.state) == ([], OPEN)
    assert scene.process.did[1:] == ["go on"]


def test_refused_answer_is_not_sent_again(scene: Scene) -> None:
    """A refused answer is not sent again.

    The handler goes on, and this invocation is not looked at any more.
    """
    seen = scene.open(0.2)
    scene.answers.is_taken = False

    assert not scene.supervisor._answer_for(seen)
    assert scene.process.did[1:] == ["go on"]
    assert scene.supervisor._due_in(seen) > 100


@pytest.mark.parametrize("is_first", [True, False])
def test_every_init_crash_is_logged(scene: Scene, is_first: bool) -> None:  # noqa: FBT001
    """Every crash in an init is logged, and the first one is posted.

    The platform accepts no more than one.
    """
    scene.supervisor._is_first = is_first
    scene.state.store(INIT)

    with pytest.raises(Exited):
        scene.supervisor._take_over(Ended(7, 0))
    assert scene.answers.said == [("init", is_first)]


REPLACED = [("ask", "connection"), ("end", True)]


@pytest.mark.parametrize(
    ("state", "passed_on", "is_taken", "said", "is_replaced"),
    [
        (OPEN, {signal.SIGTERM}, True, False, False),
        (FAILED, set(), True, False, False),
        (IDLE, set(), True, False, False),
        (RECYCLED, set(), True, False, True),
        (OPEN, set(), True, True, True),
        (OPEN, set(), False, True, False),
        (ANSWERING, set(), False, True, True),
    ],
)
def test_ended_process_is_replaced_or_its_end_is_mirrored(
    scene: Scene,
    state: int,
    passed_on: set[int],
    *,
    is_taken: bool,
    said: bool,
    is_replaced: bool,
) -> None:
    """A process is replaced if it was to be recycled, or if its caller has an answer.

    Otherwise the supervisor ends in the same way, without an answer if none is waited for.
    """

    def mirror(_kernel: object) -> None:
        raise Exited("mirrored")

    scene.open(30.0)
    scene.state.store(state)
    scene.supervisor._passed_on = passed_on
    scene.answers.is_taken = is_taken
    ended: Any = SimpleNamespace(mirror=mirror)

    if is_replaced:
        scene.supervisor._take_over(ended)
    else:
        with pytest.raises(Exited, match="mirrored"):
            scene.supervisor._take_over(ended)

    assert scene.process.did == (REPLACED if is_replaced else [])
    assert scene.answers.said == ([("crash", REQUEST)] if said else [])
    is_shown = not passed_on and state != FAILED
    assert scene.files.did == (["show"] if is_shown else [])


# ---- processes ---------------------------------------------------------------------------------

TICK = 0.01


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Return when each process was started, by pid."""
    found: dict[int, float] = {}
    monkeypatch.setattr(runtime_process, "started_at", found.get)
    return found


def test_orphan_started_after_first_event_is_the_handlers(
    processes: dict[int, float],
) -> None:
    """An orphan is the handler's if it began after the first event.

    Within a tick of the kernel's clock the order of pids decides. The new process's own
    children are excluded.
    """
    process = RuntimeProcess()
    process.pid = 60
    process._served_at, process._served_pid = 10.005, 30
    processes.update({29: 10.0, 31: 10.0, 40: 15.0, 59: 20.0, 60: 20.0, 61: 20.0, 70: 21.0})

    orphans = {pid for pid in processes if process._is_older(pid) and process._is_the_handlers(pid)}
    assert orphans == {31, 40, 59}
    assert not process._is_older(99), "a vanished process counts as older"


def test_process_without_events_has_no_orphans(
    processes: dict[int, float],
) -> None:
    """A process that has served no event has started no orphan.

    What runs was started by the init, and may be a user's daemon.
    """
    processes[40] = 15.0

    assert not RuntimeProcess()._is_the_handlers(40)


def test_unwritable_crash_line_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash whose line cannot be written, because standard error is closed, stops nothing."""
    files = stack_files.StackFiles()
    files.shows_crashes = True

    def write(_descriptor: int, _data: bytes) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", write)
    files.show_crash()
