"""Each kind of stuck handler is answered in time, and the same process serves the next event."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from .harness import WAYS, Call, Way, bare, call, log_shown, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.emulator import Emulator

TIMEOUT = 2
GRACE_PERIOD = TIMEOUT / 4  # the default is 3 s, and never more than a quarter
SLACK = 0.25  # allowance for a busy machine; still well before last call

LOCATION = r"app\.py:\d+ \([\w<>]+\)"
MESSAGE = re.compile(
    r"interrupted after (\d+\.\d) s, (\d+\.\d) s before the (\d+\.\d) s limit, " + r"in " + LOCATION
)


@dataclass(frozen=True)
class Expected:
    """What the caller gets, and when."""

    answer: object = None
    """The handler's own; None: an error."""
    error: str = "LambdaTimeout"
    printed: str = ""
    """A line of the handler's cleanup."""
    takes_the_grace_period: bool = False
    """The cleanup lasts until 0.2 s before the hard deadline."""
    waits_for_last_call: bool = False
    """Interrupted once, it waits again where only last call may cut it."""


TIMED_OUT = Expected()
CLEANED_UP = Expected(printed="cleanup done")
SLOW_CLEANUP = Expected(printed="cleanup done", takes_the_grace_period=True)
LAST_CALLED = Expected(waits_for_last_call=True)
PARTIAL = Expected({"partial": True}, printed="cleanup done", takes_the_grace_period=True)

KINDS = {
    "sleep": TIMED_OUT,
    "busy": TIMED_OUT,
    "busy_in_try": CLEANED_UP,
    "regex": TIMED_OUT,
    "lock": TIMED_OUT,
    "lock_timeout": TIMED_OUT,
    "event_wait": TIMED_OUT,
    "event_wait_timeout": TIMED_OUT,
    "event_poll": TIMED_OUT,
    "condition": TIMED_OUT,
    "queue_get": TIMED_OUT,
    "queue_get_timeout": TIMED_OUT,
    "thread_join": TIMED_OUT,
    "recv": TIMED_OUT,
    "recv_timeout": TIMED_OUT,
    "accept": TIMED_OUT,
    "select_read": TIMED_OUT,
    "pipe_read": TIMED_OUT,
    "subprocess_run": TIMED_OUT,
    "subprocess_output": TIMED_OUT,
    "fork": TIMED_OUT,
    "future": TIMED_OUT,
    "pool": TIMED_OUT,
    "pool_map": TIMED_OUT,
    "pool_stuck": LAST_CALLED,
    "urllib3_get": TIMED_OUT,
    "urllib3_get_timeout": TIMED_OUT,
    "boto3_get": TIMED_OUT,
    "nested": Expected(printed="connection given back"),
    "swallow_asleep": TIMED_OUT,
    "swallow_asleep_briefly": TIMED_OUT,
    "swallow_busy": TIMED_OUT,
    "swallow_and_go_on": LAST_CALLED,
    "swallow_everything": Expected({"swallowed": 3}),
    "swallow_in_records": TIMED_OUT,
    "cleanup_finally": SLOW_CLEANUP,
    "cleanup_finally_busy": SLOW_CLEANUP,
    "cleanup_except": SLOW_CLEANUP,
    "cleanup_exit": SLOW_CLEANUP,
    "cleanup_caught": PARTIAL,
    "cleanup_after": PARTIAL,
    "own_error": Expected(error="OrderFailed"),
    "own_error_in_cleanup": Expected(error="OrderFailed"),
    "asyncio_run": CLEANED_UP,
    "asyncio_gather": CLEANED_UP,
    "asyncio_busy": CLEANED_UP,
    "asyncio_busy_task": TIMED_OUT,
    "asyncio_to_thread": LAST_CALLED,
    "asyncio_bare_loop": TIMED_OUT,
    "asyncio_kept_loop": CLEANED_UP,
    "logging_blocked": TIMED_OUT,
    "print_flood": TIMED_OUT,
}

# The way in which the handler was chosen affects its start and the thread from which the runtime
# polls, but not where it is stuck. So the second way is tried with one case of each kind.
EACH_SORT = [
    "sleep",
    "busy",
    "regex",
    "lock",
    "recv",
    "subprocess_run",
    "fork",
    "pool",
    "boto3_get",
    "swallow_asleep",
    "swallow_busy",
    "cleanup_finally",
    "own_error",
    "asyncio_run",
    "logging_blocked",
]
CASES = [("command", do) for do in KINDS] + [("setting", do) for do in EACH_SORT]


@pytest.fixture(scope="module", params=WAYS)
def shared(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """Start one function for all cases.

    Each case runs in the process that the last one has left.
    """
    with running(wrapped("app.handler", way=request.param, timeout=TIMEOUT)) as emulator:
        yield emulator


@pytest.fixture
def function(shared: Emulator) -> Emulator:
    """Return the shared function, started and warm."""
    if not shared.is_running:
        shared.close()
        shared.start()
    for module in ("urllib3", "boto3", "asyncio", "hashlib"):
        shared.invoke({"do": "load", "module": module})
    return shared


def time_out(function: Emulator, event: dict[str, object]) -> tuple[Call, dict[str, Any]]:
    """Make one call time out between two that succeed, and return it with its one report."""
    before = call(function, {"do": "ok"})
    timed_out = call(function, event)
    after = call(function, {"do": "ok"})

    answer, reports = timed_out.answer, [*timed_out.reports, *after.reports]
    assert "Runtime.ExitError" not in str(answer)
    assert before.answer == after.answer == {"ok": True, "pid": before.answer["pid"]}
    assert len(reports) == 1
    return timed_out, reports[0]


@pytest.mark.parametrize(("shared", "do"), CASES, indirect=["shared"])
def test_timeout_is_answered_in_time_by_the_same_process(function: Emulator, do: str) -> None:
    """A stuck handler's caller gets its answer or an error in time.

    The process serves the next call.
    """
    expected = KINDS[do]
    with log_shown(function, since=len(function.lines)):
        timed_out, report = time_out(function, {"do": do})

        if expected.answer is not None:
            assert timed_out.answer == expected.answer
            assert report["outcome"] == "returned"
        else:
            assert timed_out.answer.get("errorType") == expected.error
            assert report["outcome"] == "raised"
        if expected.error == "LambdaTimeout" and expected.answer is None:
            assert_message(timed_out.answer["errorMessage"])
        assert timed_out.lines.count(expected.printed) == (1 if expected.printed else 0)
        assert_in_time(timed_out.response.seconds, expected)
        assert_report(report, timed_out.request_id)


def assert_message(message: str) -> None:
    """Check that the message has the handler's time, the time before the limit, and the place."""
    found = MESSAGE.fullmatch(message)
    assert found is not None, message
    elapsed, before, limit = map(float, found.groups())
    # Exact to a tenth, and up to 50 ms later where a raise would have broken something.
    assert elapsed == pytest.approx(TIMEOUT - GRACE_PERIOD, abs=0.2)
    assert before == pytest.approx(GRACE_PERIOD, abs=0.2)
    assert limit == pytest.approx(TIMEOUT, abs=0.1)


def assert_in_time(seconds: float, expected: Expected) -> None:
    """Check that the answer came in the grace period, without an unnecessary delay."""
    earliest, latest = TIMEOUT - GRACE_PERIOD - 0.05, TIMEOUT - GRACE_PERIOD + SLACK
    if expected.takes_the_grace_period:
        earliest, latest = TIMEOUT - 0.25, TIMEOUT
    elif expected.waits_for_last_call:
        latest = TIMEOUT
    assert earliest < seconds < latest


def assert_report(report: dict[str, Any], request_id: str) -> None:
    """Check that one record says what happened, where and when."""
    assert report["event"] == report["message"] == "watchdog.timeout"
    assert report["request_id"] == request_id
    assert re.fullmatch(LOCATION, report["location"])
    # The stack has the user's frames only, without the runtime's and the package's.
    assert report["location"] in report["stack"]
    assert re.fullmatch(r"app\.py:\d+ \(handler\)", report["stack"][0])
    assert report["elapsed_ms"] >= (TIMEOUT - GRACE_PERIOD) * 1000 - 20
    assert report["remaining_ms"] > 0
    assert report["elapsed_ms"] + report["remaining_ms"] == pytest.approx(TIMEOUT * 1000, abs=50)
    assert report["grace_period_ms"] == pytest.approx(GRACE_PERIOD * 1000, abs=20)
    assert report["interrupts"]
    assert report["hooks"] == []


def test_caught_timeout_returns_the_handlers_answer(function: Emulator) -> None:
    """A handler that catches the interrupt can read its message, and chooses its own answer."""
    with log_shown(function, since=len(function.lines)):
        timed_out, report = time_out(function, {"do": "own_answer"})

        assert timed_out.answer["statusCode"] == 504
        assert_message(timed_out.answer["body"])
        assert report["outcome"] == "returned"


def test_report_includes_other_threads(function: Emulator) -> None:
    """The report has other threads' stacks by thread name.

    Handlers often wait for other threads.
    """
    with log_shown(function, since=len(function.lines)):
        _, report = time_out(function, {"do": "thread_join"})

        assert "Thread-loader" in report["threads"]
        assert any("(run)" in place for place in report["threads"]["Thread-loader"])
        assert "watchdog_lambda" not in str(report["threads"])


def test_normal_invocation_logs_nothing(function: Emulator) -> None:
    """An invocation in time logs only the platform's own lines."""
    with log_shown(function, since=len(function.lines)):
        quiet = call(function, {"do": "ok"})

        assert [line.split()[0] for line in quiet.lines] == ["START", "END", "REPORT"]


@pytest.mark.parametrize("way", WAYS)
def test_short_timeout_gets_a_shorter_grace_period(way: Way) -> None:
    """A function that has only 1 s is interrupted after three quarters of it.

    The default grace period of 3 s is cut to a quarter of the time.
    """
    function = wrapped("app.handler", way=way, timeout=1, warm_up={"do": "ok"})
    with running(function):
        timed_out, report = time_out(function, {"do": "sleep"})

        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert 0.7 < timed_out.response.seconds < 1
        assert report["grace_period_ms"] == pytest.approx(250, abs=10)


def test_grace_period_setting_is_respected() -> None:
    """A grace period that is less than a quarter of the time is used as it is set."""
    environment = {"WATCHDOG_LAMBDA_GRACE_PERIOD": "0.3"}
    function = wrapped("app.handler", environment=environment, warm_up={"do": "ok"})
    with running(function):
        timed_out, report = time_out(function, {"do": "sleep"})

        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert 1.65 < timed_out.response.seconds < 1.95
        assert report["grace_period_ms"] == pytest.approx(300, abs=1)


def test_lambda_kills_without_the_package() -> None:
    """The control: under the runtime alone Lambda kills the same handler."""
    with running(bare("app.handler", timeout=1, warm_up={"do": "ok"})) as function:
        killed = call(function, {"do": "sleep"})

        assert killed.response.body == "Task timed out after 1.00 seconds"
        assert killed.reports == []


@pytest.mark.parametrize("way", WAYS)
def test_disabled_watchdog_calls_the_handler_directly(way: Way) -> None:
    """With the watchdog disabled Lambda kills, as without the package."""
    environment = {"WATCHDOG_LAMBDA_DISABLED": "1"}
    function = wrapped(
        "app.handler", way=way, timeout=1, environment=environment, warm_up={"do": "ok"}
    )
    with running(function):
        killed = call(function, {"do": "sleep"})

        assert killed.response.body == "Task timed out after 1.00 seconds"
        assert killed.reports == []


def test_handler_timers_and_signals_keep_working() -> None:
    """A handler's own timer ticks before, during and after a timeout.

    Its SIGTERM handler runs, too.
    """
    with running(wrapped("own_signals.handler", warm_up={"do": "look"})) as function:
        before = call(function, {"do": "look"}).answer
        timed_out = call(function, {"do": "sleep"})
        after = call(function, {"do": "look"}).answer

        # It ticks every 50 ms: for 1.5 s until the interrupt, 0.2 s in the cleanup, 0.3 s in each
        # look.
        assert timed_out.answer["during"] == pytest.approx(30, abs=5)
        assert timed_out.answer["in_cleanup"] == pytest.approx(4, abs=2)
        for look in (before, after):
            assert look["ticks"] == pytest.approx(6, abs=3)
            assert look["interval"] == pytest.approx(0.05)
            assert look["own_handlers"] is True
        assert after["terms"] == before["terms"] + 1
        assert after["pid"] == before["pid"]
        assert len(timed_out.reports) == 1


@pytest.mark.parametrize("way", WAYS)
def test_handler_of_the_sigalrm_recipe_works_unchanged(way: Way) -> None:
    """A handler of the SIGALRM recipe works unchanged: ``except TimeoutError`` and ``finally`` run.

    The record has the format of the user's Logger.
    """
    with running(wrapped("recipe.handler", way=way, warm_up={"do": "ok"})) as function:
        timed_out, report = time_out(function, {"do": "sleep"})

        assert timed_out.answer == {"statusCode": 504, "body": "try again"}
        assert sum("order handler leaves" in line for line in timed_out.lines) == 1
        assert report["outcome"] == "returned"
        assert report["service"] == "orders"
        assert report["order_id"] == "17"


def test_unreachable_handler_is_reported_before_the_kill() -> None:
    """C code that does not check for signals cannot be interrupted.

    The log says where it was before Lambda kills.
    """
    with running(wrapped("app.handler", warm_up={"do": "ok"})) as function:
        killed = call(function, {"do": "blind"})
        after = call(function, {"do": "ok"})

        assert killed.response.body == "Task timed out after 2.00 seconds"
        [report] = killed.reports
        assert report["outcome"] == "stuck"
        assert re.fullmatch(r"app\.py:\d+ \(blind\)", report["location"])
        assert after.answer["ok"] is True
