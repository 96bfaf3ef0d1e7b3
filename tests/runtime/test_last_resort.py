"""At last call the watchdog answers for C code that cannot be interrupted, and ends the process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import log_schema

from .harness import Way, call, running, wrapped

if TYPE_CHECKING:
    from tests.runtime.emulator import Emulator, Response

TIMEOUT = 8  # allows for the longest last call, because a start takes long on a busy machine
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


def test_exit_answers_and_ends_the_process() -> None:
    """With exit the caller gets the error before the hard deadline.

    The next call is served by a new process.
    """
    with running(function("exit")) as emulator:
        before: Any = emulator.invoke(LOOK).json()
        since = len(emulator.lines)
        response = emulator.invoke({**STUCK, "child": True})
        after: Any = emulator.invoke(LOOK).json()

        assert response.status == 502  # the emulator's answer for a process that has ended
        assert_gave_up(response)
        assert record(emulator, since)["last_resort"] == "exit"
        assert after["pid"] != before["pid"]
        assert after["calls"] == 1
        child = emulator.wait_for_line(lambda text: text.startswith("child "), since=since)
        assert not Path("/proc", child.text.split()[1]).exists()


def test_report_leaves_the_kill_to_lambda() -> None:
    """By default the record says where the handler was, and Lambda kills the process."""
    with running(function("report")) as emulator:
        since = len(emulator.lines)
        response = emulator.invoke(STUCK)

        assert "Task timed out" in response.body
        found = record(emulator, since)
        assert found["outcome"] == "stuck"
        assert "last_resort" not in found


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

constant = watch(last_resort="exit", fallback={"constant": 1})(stuck)
called = watch(last_resort="exit", fallback=partial)(stuck)
fails = watch(last_resort="exit", fallback=failing)(stuck)
hangs = watch(last_resort="exit", last_call=0.75, fallback=hanging)(stuck)
is_unfit = watch(last_resort="exit", fallback=unfit)(stuck)
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
def test_last_resort_posts_fallback_or_error(
    tmp_path: Path, name: str, answer: Any, remark: str
) -> None:
    """A fallback that was given in code is posted.

    If it fails or hangs, the caller gets the error.
    """
    (tmp_path / "app.py").write_text(FALLBACKS, encoding="utf-8")
    with running(wrapped(f"app.{name}", cwd=tmp_path, timeout=TIMEOUT)) as emulator:
        emulator.invoke(None)
        timed_out = call(emulator, {})
        body = timed_out.answer

        if isinstance(answer, dict):
            assert {key: body[key] for key in answer} == answer
        else:
            assert body["errorType"] == answer
        assert timed_out.reports[0]["last_resort"] == "exit" + remark
        assert "secret" not in emulator.log_text
        assert emulator.invoke(None).json() == "ok"


@pytest.mark.parametrize(
    ("warm_up", "first"),
    [
        # The timer counts the main thread's processor time, and half a processor is not enough.
        pytest.param(*(LOOK, 0.0), id="in a later invocation, at once", marks=pytest.mark.alone),
        pytest.param(None, 1.0, id="in the first invocation, after a wait"),
    ],
)
def test_held_gil_leaves_all_stacks_in_the_log(warm_up: object, first: float) -> None:
    """If C code holds the GIL, faulthandler dumps all stacks before the kill.

    No Python code can run then, and the dump needs no GIL.
    """
    with running(wrapped("hard_to_stop.handler", timeout=TIMEOUT, warm_up=warm_up)) as emulator:
        since = len(emulator.lines)
        response = emulator.invoke({"do": "hold the GIL", "first": first})
        dump = emulator.wait_for_line(lambda text: text.startswith("Current thread"), since=since)
        kill = emulator.wait_for_line(lambda text: "Sending SIGKILL" in text, since=since)
        lines = [line.text for line in emulator.lines[since:]]

        assert "Task timed out" in response.body
        assert any(re.search(r'hard_to_stop\.py", line \d+ in handler', line) for line in lines)
        # The dump is timed for the invocation that the watchdog slept through, half-way from its
        # grace period to last call; the invocation that is killed began a little later. It must not
        # come before the grace period, of 2 s.
        assert 0.0 < kill.at - dump.at < (2.0 if warm_up else 0.3)
        assert dump.stream == "stdout"  # the emulator writes both of the function's streams to it
