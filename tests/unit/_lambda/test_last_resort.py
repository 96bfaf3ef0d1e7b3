"""Tests of the last resort, which answers for a stuck handler and exits, on a still clock."""

from __future__ import annotations

import json
import sys
import threading
from _thread import get_ident
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.support import FakeClock, plan, services
from watchdog_lambda import TimeoutDetails
from watchdog_lambda._engine.invocation import Firing, Invocation
from watchdog_lambda._engine.stage import BoundedCall
from watchdog_lambda._lambda import fallback_answer, last_resort
from watchdog_lambda._lambda.last_resort import Exit
from watchdog_lambda._plan import NO_FALLBACK

if TYPE_CHECKING:
    from collections.abc import Callable

START, NOW, HARD = 1000.0, 1029.75, 1030.0
DETAILS = TimeoutDetails(
    deadline=HARD,
    elapsed=27.0,
    grace_period=3.0,
    stack=("app.py:12 (handler)", "app.py:41 (load_rows)"),
    location="app.py:41 (load_rows)",
)
JSON = "application/json"
ERROR = {"Content-Type": JSON, "Lambda-Runtime-Function-Error-Type": "LambdaTimeout"}


class ProcessExited(BaseException):
    """The process has ended; nothing may happen after that."""


class Scene:
    """A function of 30 s with a stuck handler, the Runtime API, and the process's functions."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.did: list[str] = []  # the steps, in order
        self.posted: list[tuple[str, str, bytes, dict[str, str], float]] = []
        self.refusal: Exception | None = None
        self.status = 202
        self.reported: list[tuple[object, ...]] = []
        self.failures: list[BaseException] = []
        self.no_thread: Exception | None = None
        self.is_hanging = False  # whether the fallback hangs

    # ---- the process -----

    def call(self, function: Callable[[], object], seconds: float) -> BoundedCall:
        """Run on the scene's clock; a call that hangs takes all of its time."""
        if self.no_thread is not None:
            raise self.no_thread
        call = BoundedCall(function)
        if self.is_hanging:
            self.clock.advance(max(0.0, seconds))
        else:
            call.run()
        return call

    def end_children(self, since: float) -> None:
        self.did.append(f"children since {since} end")

    def exit(self, code: int) -> NoReturn:
        self.did.append(f"exit {code}")
        raise ProcessExited

    # ---- the API -----

    def post(self, path: str, body: bytes, headers: dict[str, str], left: float) -> tuple[int, str]:
        if self.refusal is not None:
            raise self.refusal
        if self.status == 202:
            self.did.append("post")
            _, request_id, kind = path.split("/")
            self.posted.append((kind, request_id, body, headers, left))
        return self.status, "what Lambda says"

    # ---- the log -----

    def write(self, firing: Firing, outcome: str, last_resort: str | None = None) -> None:
        self.did.append("report")
        self.reported.append((outcome, START + firing.elapsed(), last_resort))

    def write_failure(self, error: BaseException) -> None:
        self.failures.append(error)

    # ---- what a test asks for -----

    def make(self) -> Exit:
        return Exit(self, 7.0)  # type: ignore[arg-type]

    def fire(self, *, fallback: object = NO_FALLBACK) -> Firing:
        context = SimpleNamespace(aws_request_id="request-1")
        made = plan(fallback=fallback, last_resort="exit")
        invocation = Invocation(made, {}, context, START, HARD - START, HARD)
        acts_with = services(self.clock, report=self)
        self.firing = invocation.firing = Firing(invocation, get_ident(), acts_with)
        self.firing.details = DETAILS
        self.firing.fired_at = 27.0
        return self.firing

    def act(self, resort: Exit | None = None) -> str | None:
        """Run the last resort, and return its result if the process goes on."""
        return (resort or self.make()).act(self.firing)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene()
    monkeypatch.setattr(fallback_answer, "call_bounded", scene.call)
    monkeypatch.setattr(last_resort, "end_children", scene.end_children)
    monkeypatch.setattr("os._exit", scene.exit)
    monkeypatch.delitem(sys.modules, "awslambdaric.lambda_runtime_client", raising=False)
    return scene


# ---- the answer --------------------------------------------------------------------------------


def test_exit_posts_the_error_before_exiting(scene: Scene) -> None:
    """An exit posts the error, then writes the record, ends the handler's children and exits."""
    scene.fire()

    with pytest.raises(ProcessExited):
        scene.act()

    assert scene.did == ["post", "report", "children since 7.0 end", "exit 1"]
    [(kind, request_id, error, headers, left)] = scene.posted
    assert (kind, request_id) == ("error", "request-1")
    assert headers == ERROR
    assert left == HARD - NOW
    assert json.loads(error) == {
        "errorType": "LambdaTimeout",
        "errorMessage": "gave up after 29.8 s, 0.2 s before the 30.0 s limit, in "
        "app.py:41 (load_rows)",
        "requestId": "request-1",
        "stackTrace": ["  app.py:12 (handler)\n", "  app.py:41 (load_rows)\n"],
    }
    assert scene.reported == [("stuck", NOW, "exit")]
    assert scene.failures == []


def test_unknown_facts_are_left_out(scene: Scene) -> None:
    """Unknown facts are left out.

    Nothing has looked at the handler, and it is later than planned.
    """
    scene.fire().details = None
    scene.clock.now = HARD + 1.25

    with pytest.raises(ProcessExited):
        scene.act()

    error = json.loads(scene.posted[0][2])
    assert error["errorMessage"] == (
        "gave up after 31.2 s, 0.0 s before the 30.0 s limit, in unknown"
    )
    assert error["stackTrace"] == []


def test_answer_has_the_events_header(scene: Scene) -> None:
    """The answer has the header that the event had.

    It is taken from awslambdaric's own frame, some frames out.
    """
    scene.fire()

    def handler() -> None:
        scene.act()

    def handle_event_request(invocation_id: str) -> None:
        handler()
        raise AssertionError(invocation_id)

    with pytest.raises(ProcessExited):
        handle_event_request("invocation-9")

    assert scene.posted[0][3] == {"Lambda-Runtime-Invocation-Id": "invocation-9", **ERROR}


def test_nothing_is_posted_without_a_request_id(scene: Scene) -> None:
    """An invocation without a request id cannot be answered.

    Nothing is posted, and the process goes on.
    """
    scene.fire().invocation.context = SimpleNamespace()

    assert scene.act() == "the context has no aws_request_id"
    assert scene.did == []


def test_returned_handler_answers_itself(scene: Scene) -> None:
    """If the handler has ended in time, it answers for itself and nothing is logged."""
    scene.fire().invocation.is_open = False

    assert scene.act() is None
    assert scene.did == []


def has_been_given_back(firing: Firing) -> bool:
    """Return whether another thread can claim the answer; this one could in any case."""
    claimed: list[bool] = []
    other = threading.Thread(target=lambda: claimed.append(firing.claim_answer()))
    other.start()
    other.join()
    return claimed == [True]


def test_refused_answer_is_left_to_the_handler(scene: Scene) -> None:
    """If the answer is refused the process goes on, and the handler can still answer for itself."""
    scene.fire()
    scene.refusal = ConnectionRefusedError("connection refused")

    assert scene.act() == "the answer could not be posted: connection refused"
    scene.refusal, scene.status = None, 403
    assert scene.act() == "the answer could not be posted: 403 what Lambda says"
    assert scene.did == []
    assert has_been_given_back(scene.firing)


@pytest.mark.parametrize(
    ("status", "is_accepted"), [(199, False), (200, True), (299, True), (300, False)]
)
def test_answer_is_accepted_by_any_status_of_success(
    scene: Scene,
    status: int,
    is_accepted: bool,  # noqa: FBT001
) -> None:
    """The process ends if the answer is accepted, by whatever status of success."""
    scene.fire()
    scene.status = status

    if is_accepted:
        with pytest.raises(ProcessExited):
            scene.act()
    else:
        assert scene.act() == f"the answer could not be posted: {status} what Lambda says"
    assert has_been_given_back(scene.firing) is not is_accepted


def test_reported_timeout_is_not_reported_again(scene: Scene) -> None:
    """A timeout that has been reported is not reported again, and the process ends all the same."""
    scene.fire().report("stuck")
    scene.did.clear()
    scene.reported.clear()

    with pytest.raises(ProcessExited):
        scene.act()

    assert scene.did == ["post", "children since 7.0 end", "exit 1"]


# ---- the fallback ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fallback",
    [{"statusCode": 504}, lambda details: {"statusCode": 504 if details is DETAILS else 500}],
    ids=["value", "callable"],
)
def test_fallback_value_is_posted(fallback: object, scene: Scene) -> None:
    """A fallback's value is posted as JSON if the runtime is not awslambdaric."""
    scene.fire(fallback=fallback)

    with pytest.raises(ProcessExited):
        scene.act()

    body = json.dumps({"statusCode": 504}).encode()
    answer = "response", "request-1", body, {"Content-Type": JSON}, HARD - NOW
    assert scene.posted == [answer]
    assert scene.reported == [("stuck", NOW, "exit")]


@pytest.mark.parametrize("body", ["marshalled", b"marshalled"])
def test_fallback_is_marshalled_as_by_the_runtime(
    body: str | bytes, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fallback's value is marshalled as the runtime would do it.

    The user's own marshaller is used if there is one.
    """
    given: list[object] = []

    def marshal_response(value: object) -> tuple[str | bytes, str]:
        given.append(value)
        return body, "text/odd"

    marshaller = SimpleNamespace(marshal_response=marshal_response)
    client = SimpleNamespace(LambdaRuntimeClient=SimpleNamespace(marshaller=marshaller))
    monkeypatch.setitem(sys.modules, "awslambdaric.lambda_runtime_client", client)
    scene.fire(fallback=None)

    with pytest.raises(ProcessExited):
        scene.act()

    assert given == [None], "null was not taken for an answer"
    assert scene.posted[0][2:4] == (b"marshalled", {"Content-Type": "text/odd"})


def test_error_is_posted_if_the_fallback_fails(scene: Scene) -> None:
    """If the fallback fails the error is posted, and the record has the reason."""

    def fallback(_details: object) -> None:
        raise KeyError("statusCode")

    scene.fire(fallback=fallback)

    with pytest.raises(ProcessExited):
        scene.act()

    assert scene.posted[0][0] == "error"
    assert scene.reported == [("stuck", NOW, "exit (the fallback raised KeyError)")]


def test_hanging_fallback_leaves_time_for_the_error(scene: Scene) -> None:
    """A fallback that hangs gets a third of the remaining time, so that the error can be posted."""
    scene.fire(fallback=lambda _details: {})
    scene.is_hanging = True

    with pytest.raises(ProcessExited):
        scene.act()

    waited_until = NOW + (HARD - NOW) / 3
    assert scene.posted[0][0] == "error"
    assert scene.posted[0][4] == pytest.approx(HARD - waited_until)
    [(_, now, said)] = scene.reported
    assert (now, said) == (
        pytest.approx(waited_until),
        "exit (the fallback did not return in time)",
    )


def test_fallback_gets_no_time_after_the_hard_deadline(scene: Scene) -> None:
    """After the hard deadline a fallback gets no time, if Lambda has not killed the process."""
    scene.fire(fallback=lambda _details: {})
    scene.is_hanging = True
    scene.clock.now = HARD + 3.0

    with pytest.raises(ProcessExited):
        scene.act()

    assert scene.clock.now == HARD + 3.0


def test_fallback_is_not_called_without_a_thread(scene: Scene) -> None:
    """If no thread can be started the fallback is not called, and the error is posted."""
    scene.fire(fallback=lambda _details: {})
    scene.no_thread = RuntimeError("can't start new thread")

    with pytest.raises(ProcessExited):
        scene.act()

    assert scene.posted[0][0] == "error"
    assert scene.reported == [("stuck", NOW, "exit (no thread could be started for the fallback)")]


# ---- the start ---------------------------------------------------------------------------------


def test_failing_exit_still_ends_the_process(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If leaving fails the process ends all the same, because it has been answered for.

    The log has the error.
    """
    error = OSError("no /proc")

    def fail(_spared: set[int]) -> None:
        raise error

    monkeypatch.setattr(last_resort, "end_children", fail)
    scene.fire()

    with pytest.raises(ProcessExited):
        scene.act()

    assert scene.did == ["post", "report", "exit 1"]
    assert scene.failures == [error]
