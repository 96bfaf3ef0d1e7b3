"""C code that cannot be interrupted: last call answers for the handler, and ends or restarts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import log_schema

from .harness import WAYS, Way, call, running, wrapped

if TYPE_CHECKING:
    from tools.emulator import Emulator, Response

TIMEOUT = 8  # for the longest last call that there is: a start takes long on a busy machine
LOOK = {"do": "look"}
STUCK = {"do": "stuck"}

GAVE_UP = re.compile(
    r"gave up after 7\.\d s, 0\.\d s before the 8\.0 s limit, in "
    r"hard_to_stop\.py:\d+ \(be_blind\)"
)


def function(last_resort: str, *, way: Way = "command", **environment: str) -> Emulator:
    settings = {"WATCHDOG_LAMBDA_LAST_RESORT": last_resort, **environment}
    return wrapped(
        "hard_to_stop.handler", way=way, timeout=TIMEOUT, environment=settings, warm_up=LOOK
    )


def assert_gave_up(response: Response) -> None:
    body: Any = response.json()
    assert body["errorType"] == "LambdaTimeout"
    assert GAVE_UP.fullmatch(body["errorMessage"])
    assert "hard_to_stop.py" in "".join(body["stackTrace"])
    assert TIMEOUT - 0.6 < response.seconds < TIMEOUT


def record(emulator: Emulator, since: int) -> dict[str, Any]:
    line = emulator.wait_for_line(lambda text: "watchdog.timeout" in text, since=since)
    found: dict[str, Any] = json.loads(line.text)
    log_schema.check(found)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_restart_answers_and_serves_on_in_the_same_process(way: Way) -> None:
    """The caller gets the error before the hard deadline; the same pid serves the next calls."""
    with running(function("restart", way=way)) as emulator:
        before: Any = emulator.invoke(LOOK).json()
        timed_out = call(emulator, STUCK)
        after: Any = emulator.invoke(LOOK).json()
        again: Any = emulator.invoke(LOOK).json()

        assert_gave_up(timed_out.response)
        assert [r["outcome"] for r in timed_out.reports] == ["stuck"]
        assert timed_out.reports[0]["last_resort"] == "restart"
        assert after["pid"] == again["pid"] == before["pid"]
        assert (before["calls"], after["calls"], again["calls"]) == (2, 1, 2)


def test_restart_again_and_again() -> None:
    """A restarted runtime can be restarted; nothing is handed on twice, nothing gets lost."""
    with running(function("restart")) as emulator:
        first: Any = emulator.invoke(LOOK).json()
        for _ in range(2):
            assert_gave_up(emulator.invoke(STUCK))
        last: Any = emulator.invoke(LOOK).json()

        assert last == {**first, "calls": 1}


def test_restart_gives_the_new_program_what_the_first_one_was_given() -> None:
    """Directory, environment, signals, timers, descriptors; and ends the handler's children."""
    with running(function("restart")) as emulator:
        before: Any = emulator.invoke(LOOK).json()
        since = len(emulator.lines)
        assert_gave_up(
            emulator.invoke({**STUCK, "child": True, "away": True, "timer": TIMEOUT + 0.5})
        )
        child = emulator.wait_for_line(lambda text: text.startswith("child "), since=since)
        after: Any = emulator.invoke(LOOK).json()

        assert after == {**before, "calls": 1}
        assert not Path("/proc", child.text.split()[1]).exists()


def test_exit_answers_and_ends_the_process() -> None:
    """The caller gets the error before the hard deadline; the next call gets a new process."""
    with running(function("exit")) as emulator:
        before: Any = emulator.invoke(LOOK).json()
        since = len(emulator.lines)
        response = emulator.invoke({**STUCK, "child": True})
        after: Any = emulator.invoke(LOOK).json()

        assert response.status == 502  # the emulator's word for a process that has ended
        assert_gave_up(response)
        assert record(emulator, since)["last_resort"] == "exit"
        assert after["pid"] != before["pid"]
        assert after["calls"] == 1
        child = emulator.wait_for_line(lambda text: text.startswith("child "), since=since)
        assert not Path("/proc", child.text.split()[1]).exists()


def test_report_leaves_it_to_lambda() -> None:
    """The default: the record tells where it was, and Lambda kills."""
    with running(function("report")) as emulator:
        since = len(emulator.lines)
        response = emulator.invoke(STUCK)

        assert "Task timed out" in response.body
        found = record(emulator, since)
        assert found["outcome"] == "stuck"
        assert "last_resort" not in found


def test_a_restart_that_there_is_no_time_for_becomes_an_exit() -> None:
    """Killed in the middle of its start it would take the answer with it; the record says why."""
    with running(function("restart", WATCHDOG_LAMBDA_LAST_CALL="0.05")) as emulator:
        since = len(emulator.lines)
        response = emulator.invoke(STUCK)
        body: Any = response.json()

        assert body["errorType"] == "LambdaTimeout"
        assert record(emulator, since)["last_resort"].startswith("exit (a restart takes 0.")


FALLBACKS = """
import ctypes, json, os, time
from watchdog_lambda import watch

def partial(details):
    return {"partial": details.function_name, "pid": os.getpid()}

def failing(details):
    raise KeyError("secret")

def hanging(details):
    time.sleep(60)

def unfit(details):
    return object()

def stuck(event, context):
    if event is None:
        return "ok"
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)

constant = watch(last_resort="restart", fallback={"constant": 1})(stuck)
called = watch(last_resort="restart", fallback=partial)(stuck)
fails = watch(last_resort="restart", fallback=failing)(stuck)
hangs = watch(last_resort="restart", last_call=0.75, fallback=hanging)(stuck)
is_unfit = watch(last_resort="restart", fallback=unfit)(stuck)
"""


@pytest.mark.parametrize(
    ("name", "answer", "remark"),
    [
        ("constant", {"constant": 1}, ""),
        ("called", {"partial": "function"}, ""),
        ("fails", "LambdaTimeout", " (the fallback raised KeyError)"),
        ("hangs", "LambdaTimeout", " (the fallback did not return in time)"),
        ("is_unfit", "LambdaTimeout", " (the fallback raised FaultException)"),
    ],
)
def test_the_fallback_is_posted_if_it_works(
    tmp_path: Path, name: str, answer: Any, remark: str
) -> None:
    """Chosen in code; a fallback that fails or hangs costs nobody the error."""
    (tmp_path / "app.py").write_text(FALLBACKS, encoding="utf-8")
    # The one that hangs takes a third of what a restart has, so it gets more.
    timeout = 12 if name == "hangs" else TIMEOUT
    with running(wrapped(f"app.{name}", cwd=tmp_path, timeout=timeout)) as emulator:
        emulator.invoke(None)
        timed_out = call(emulator, {})
        body = timed_out.answer

        if isinstance(answer, dict):
            assert {key: body[key] for key in answer} == answer
        else:
            assert body["errorType"] == answer
        assert timed_out.reports[0]["last_resort"] == "restart" + remark
        assert "secret" not in emulator.log_text
        assert emulator.invoke(None).json() == "ok"


@pytest.mark.parametrize(
    ("warm_up", "first"),
    [
        # Counted by the processor's time for the main thread, and half of one is not enough.
        pytest.param(
            *(LOOK, 0.0), id="while the watchdog sleeps for another", marks=pytest.mark.alone
        ),
        pytest.param(None, 1.0, id="after a wait, in the one that it wakes for"),
    ],
)
def test_gil_held_leaves_all_stacks_in_the_log(warm_up: object, first: float) -> None:
    """Nothing in Python can act; faulthandler's dump needs no GIL, and comes before the kill."""
    with running(wrapped("hard_to_stop.handler", timeout=TIMEOUT, warm_up=warm_up)) as emulator:
        since = len(emulator.lines)
        response = emulator.invoke({"do": "hold the GIL", "first": first})
        dump = emulator.wait_for_line(lambda text: text.startswith("Current thread"), since=since)
        kill = emulator.wait_for_line(lambda text: "Sending SIGKILL" in text, since=since)
        lines = [line.text for line in emulator.lines[since:]]

        assert "Task timed out" in response.body
        assert any(re.search(r'hard_to_stop\.py", line \d+ in handler', line) for line in lines)
        # The former is timed for the invocation that the watchdog slept through, half-way from its
        # grace period to last call; the one that is killed began a little later. Never before the
        # grace period, of 2 s.
        assert 0.0 < kill.at - dump.at < (2.0 if warm_up else 0.3)
        assert dump.stream == "stdout"  # where the emulator puts both of the function's streams
