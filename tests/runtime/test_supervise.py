"""A supervisor answers for a handler that hangs or dies in any way, and the sandbox is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests import log_schema

from .harness import WAYS, Call, Way, call, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.runtime.emulator import Emulator

TIMEOUT: Final = 3
LOOK: Final = {"do": "look"}
CRASH: Final = "watchdog.crash"
CRASHES: Final = int(os.environ.get("CRASHES", "100"))
"""The number of crashes in a row in one sandbox."""
AT_ONCE: Final = 1.0
"""The number of seconds that count as at once on a busy machine."""


def function(
    handler: str = "handler",
    *,
    way: Way = "command",
    command: Sequence[str] = (),
    **environment: str,
) -> Emulator:
    settings = {
        "WATCHDOG_LAMBDA_LAST_RESORT": "supervise",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008",
        **environment,
    }
    return wrapped(
        f"dying.{handler}",
        way=way,
        command=command,
        timeout=TIMEOUT,
        environment=settings,
        warm_up=LOOK,
    )


def crashes(emulator: Emulator, since: int = 0) -> list[dict[str, Any]]:
    """Return the records of crashes, checked against their schema."""
    found = [json.loads(line.text) for line in emulator.lines[since:] if CRASH in line.text]
    for record in found:
        log_schema.check(record)
    return found


def look(emulator: Emulator) -> dict[str, Any]:
    answer: Any = emulator.invoke(LOOK).json()
    assert isinstance(answer, dict)
    return answer


def assert_same_sandbox(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Check that another process of the same supervisor has taken over, with nothing left over."""
    assert after["pid"] != before["pid"]
    assert after["supervisor"] == before["supervisor"]
    assert after["calls"] == 1
    assert after["descriptors"] <= before["descriptors"]
    assert after["group"] == after["pid"]


def assert_gave_up(timed_out: Call, place: str) -> None:
    answer = timed_out.answer
    assert answer["errorType"] == "LambdaTimeout"
    assert re.fullmatch(
        rf"gave up after 2\.\d s, 0\.[0-3] s before the 3\.0 s limit, in {place}",
        answer["errorMessage"],
    )
    assert TIMEOUT - 0.3 < timed_out.response.seconds < TIMEOUT


@pytest.mark.parametrize(
    ("do", "place"),
    [
        ("sum", r"dying\.py:\d+ \(<lambda>\)"),
        ("sorted", r"dying\.py:\d+ \(<lambda>\)"),
        ("json", r"dying\.py:\d+ \(<lambda>\)"),
        ("deadlock with the GIL", r"dying\.py:\d+ \(deadlock\)"),
        ("deadlock", r"dying\.py:\d+ \(deadlock\)"),
        ("swallow", r"dying\.py:\d+ \(swallow\)"),
    ],
)
def test_every_kind_of_hang_is_answered_before_the_limit(do: str, place: str) -> None:
    """Each way to hang is answered before the limit with the place, and gives one record.

    The next call is served by the same sandbox.
    """
    with running(function()) as emulator:
        before = look(emulator)
        timed_out = call(emulator, {"do": do})
        after = look(emulator)

        assert_gave_up(timed_out, place)
        assert_same_sandbox(before, after)
        emulator.wait_for_line(lambda text: "watchdog.timeout" in text)
        [record] = [json.loads(x.text) for x in emulator.lines if "watchdog.timeout" in x.text]
        log_schema.check(record)
        assert (record["outcome"], record["last_resort"]) == ("stuck", "supervise")
        assert re.fullmatch(place, record["location"])
        # Where the watchdog can act, the record is its own, with the interrupts.
        is_own = "nothing in the process could act" not in record.get("obstacle", "")
        assert is_own == (do in {"deadlock", "swallow"})
        assert bool(record["interrupts"]) == (do == "swallow")


@pytest.mark.parametrize(
    ("do", "message", "place"),
    [
        ("segfault", "killed by SIGSEGV after 0.2 s", r" in dying\.py:\d+ \(crash\)"),
        ("segfault elsewhere", "killed by SIGSEGV after 0.2 s", r" in dying\.py:\d+ \(crash\)"),
        ("abort", "killed by SIGABRT after 0.2 s", r" in dying\.py:\d+ \(handler\)"),
        ("exit", "exited with status 7 after 0.2 s", ""),
        ("sys.exit", "exited with status 3 after 0.2 s", ""),
        ("terminate", "killed by SIGTERM after 0.2 s", ""),
        ("exit at exit", "killed by SIGABRT after 0.2 s", ""),
        (
            "kill",
            "killed by SIGKILL after 0.2 s",
            r", memory peaked at \d+ of 3008 MB",
        ),
    ],
)
def test_every_kind_of_death_is_answered_at_once(do: str, message: str, place: str) -> None:
    """Each way to die is answered at once, with the signal or status and the place if it is known.

    The next call is served by the same sandbox.
    """
    with running(function()) as emulator:
        before = look(emulator)
        crashed = call(emulator, {"do": do, "after": 0.2})
        after = look(emulator)

        answer = crashed.answer
        assert answer["errorType"] == "RuntimeCrash"
        seconds = re.escape(message).replace(r"0\.2", r"\d\.\d")
        assert re.fullmatch(seconds + place, answer["errorMessage"]), answer["errorMessage"]
        assert ("dying.py" in "".join(answer["stackTrace"])) == place.startswith(" in")
        assert crashed.response.seconds < 0.2 + AT_ONCE
        assert_same_sandbox(before, after)
        emulator.wait_for_line(lambda text: CRASH in text)
        [record] = crashes(emulator)
        assert (record["request_id"], record["outcome"]) == (crashed.request_id, "answered")


def test_hang_during_interpreter_exit_is_answered() -> None:
    """A hang in C code that runs at the exit is answered, without a place.

    No Python code runs any more.
    """
    with running(function()) as emulator:
        before = look(emulator)
        timed_out = call(emulator, {"do": "hang at exit"})
        after = look(emulator)

        assert_gave_up(timed_out, "unknown")
        assert_same_sandbox(before, after)


def test_hang_between_invocations_is_left_to_the_platform() -> None:
    """A hang between two invocations is left to the platform.

    The next event has been delivered to the process, and the supervisor does not know of it.
    """
    with running(function()) as emulator:
        before = look(emulator)
        answer: Any = emulator.invoke({"do": "deadlock with the GIL", "idle": True}).json()
        assert answer["pid"] == before["pid"]
        emulator.wait_for_line(lambda text: "going to" in text)
        killed = emulator.invoke(LOOK)
        after = look(emulator)

        assert "Task timed out" in killed.body
        assert after["supervisor"] != before["supervisor"]


def test_entrypoint_script_starts_a_supervisor() -> None:
    """The entrypoint script replaces the shell by a runtime with a supervisor."""
    script = str(Path(__file__).parents[2] / "bootstrap" / "entrypoint.sh")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with running(function(command=("sh", script, "dying.handler"), PATH=path)) as emulator:
        before = look(emulator)
        crashed = call(emulator, {"do": "segfault"})
        after = look(emulator)
        timed_out = call(emulator, {"do": "sum"})
        again = look(emulator)

        assert crashed.answer["errorType"] == "RuntimeCrash"
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert_same_sandbox(before, after)
        assert_same_sandbox(after, again)


@pytest.mark.parametrize("way", WAYS)
def test_handler_is_supervised_by_command_and_setting(way: Way) -> None:
    """A handler is supervised both as the image's command and by the setting.

    With the setting the runtime polls from another thread.
    """
    with running(function(way=way)) as emulator:
        before = look(emulator)
        crashed = call(emulator, {"do": "segfault"})
        after = look(emulator)
        timed_out = call(emulator, {"do": "sum"})
        again = look(emulator)

        assert crashed.answer["errorType"] == "RuntimeCrash"
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert_same_sandbox(before, after)
        assert_same_sandbox(after, again)


@pytest.mark.parametrize("do", ["sum", "segfault", "exit"])
def test_death_while_sending_the_answer_is_answered_once(do: str) -> None:
    """A process that dies while its answer is sent is answered for once.

    Here the platform has taken nothing of its answer. One that hangs there is left to the
    platform.
    """
    with running(function("answering")) as emulator:
        before = look(emulator)
        answer = call(emulator, {"do": do})
        if do == "sum":
            # The state says that an answer is being sent, so only the platform can end this.
            assert "Task timed out" in answer.response.body
            return
        assert answer.answer["errorType"] == "RuntimeCrash"
        assert_same_sandbox(before, look(emulator))


@pytest.mark.parametrize(("do", "said"), [("segfault", "SIGSEGV"), ("exit", "exit status 7")])
def test_death_between_invocations_is_left_to_the_platform(do: str, said: str) -> None:
    """If the process dies between two invocations, the supervisor ends with the same status.

    No caller waits for an answer then.
    """
    with running(function()) as emulator:
        before = look(emulator)
        emulator.invoke({"do": do, "idle": True})
        emulator.wait_for_line(lambda text: "exited" in text and "runtime-" in text)
        assert emulator.invoke(LOOK).body  # the emulator notices the end only now
        after = look(emulator)

        assert after["supervisor"] != before["supervisor"]
        assert crashes(emulator) == []
        words = {"SIGSEGV": "segmentation fault"}.get(said, said)
        assert any(words in line.text for line in emulator.lines)


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("segfault", r"killed by SIGSEGV in its init in dying\.py:\d+ \(crash\)"),
        ("exit", "exited with status 7 in its init"),
    ],
)
def test_crash_in_init_is_reported_with_location(do: str, message: str) -> None:
    """A crash in init is reported with the place, and the supervisor starts no new process."""
    emulator = wrapped(
        "dying.handler",
        timeout=TIMEOUT,
        environment={"WATCHDOG_LAMBDA_LAST_RESORT": "supervise", "DIE_IN_INIT": do},
    )
    with running(emulator):
        body: Any = json.loads(emulator.invoke(LOOK).body)
        assert body["errorType"] == "Runtime.ExitError"
        assert re.fullmatch(message, body["errorMessage"])
        emulator.wait_for_line(lambda text: CRASH in text)
        record = crashes(emulator)[0]
        assert (record["outcome"], record["request_id"], record["elapsed_ms"]) == ("init", "", None)


def test_error_in_init_is_posted_by_the_runtime() -> None:
    """An error in init is posted once, by the runtime itself."""
    environment = {"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"}
    with running(wrapped("missing.handler", environment=environment)) as emulator:
        body: Any = json.loads(emulator.invoke(LOOK).body)

        assert body["errorType"] == "Runtime.ImportModuleError"
        assert crashes(emulator) == []


@pytest.mark.parametrize(
    ("handler", "answer"), [("constant", {"constant": 1}), ("called", "LambdaTimeout")]
)
def test_static_fallback_is_posted_for_timeout_only(handler: str, answer: object) -> None:
    """A fallback that is a value is posted for a timeout, but never for a crash.

    A callable cannot be called where no Python code runs.
    """
    with running(function(handler)) as emulator:
        timed_out = call(emulator, {"do": "sum"}).answer
        crashed = call(emulator, {"do": "exit"}).answer

        assert (timed_out if isinstance(answer, dict) else timed_out["errorType"]) == answer
        assert crashed["errorType"] == "RuntimeCrash"
        assert look(emulator)["calls"] == 1


def test_callable_fallback_is_called_at_last_call() -> None:
    """A callable fallback is called at last call where the watchdog can run.

    Longer timeouts leave enough time for it.
    """
    emulator = wrapped(
        "dying.called",
        timeout=6,
        environment={"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"},
        warm_up=LOOK,
    )
    with running(emulator):
        timed_out = call(emulator, {"do": "deadlock"})

        assert timed_out.answer == {"asked": "function"}
        [record] = timed_out.reports
        assert (record["outcome"], record["last_resort"]) == ("stuck", "supervise")


@pytest.mark.parametrize("do", ["deadlock", "segfault"])
def test_processes_started_by_the_handler_are_ended(do: str) -> None:
    """All processes that the handler has started are ended.

    This includes those in a session of their own.
    """
    with running(function()) as emulator:
        look(emulator)
        since = len(emulator.lines)
        call(emulator, {"do": do, "child": True})
        line = emulator.wait_for_line(lambda text: text.startswith("child "), since=since)
        look(emulator)

        session = line.text.split()[1]
        until = time.monotonic() + 5
        while members(session) and time.monotonic() < until:
            time.sleep(0.01)
        assert members(session) == []


def members(session: str) -> list[str]:
    """Return the processes of a session that have not ended."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if of == session and state != "Z":
            found.append(path.parent.name)
    return found


def test_runtime_ends_with_its_supervisor() -> None:
    """If the supervisor is killed, the runtime's process ends too.

    The platform starts both anew.
    """
    with running(function()) as emulator:
        before = look(emulator)
        os.kill(before["supervisor"], signal.SIGKILL)
        until = time.monotonic() + 5
        while Path(f"/proc/{before['pid']}/stat").exists() and time.monotonic() < until:
            time.sleep(0.01)

        assert not Path(f"/proc/{before['pid']}").exists()
        emulator.invoke(LOOK)  # the emulator notices the end only now
        assert look(emulator)["supervisor"] != before["supervisor"]


def test_crash_after_crash_leaves_nothing_behind() -> None:
    """Repeated crashes leave no descriptor and no process behind. The supervisor hardly grows."""
    with running(function()) as emulator:
        before = look(emulator)
        supervisor = before["supervisor"]
        memory, descriptors = resident_kb(supervisor), open_descriptors(supervisor)
        for number in range(CRASHES):
            answer: Any = emulator.invoke({"do": "exit" if number % 2 else "segfault"}).json()
            assert answer["errorType"] == "RuntimeCrash"
        after = look(emulator)

        assert_same_sandbox(before, after)
        # The connection on which the last process got its first event stays open until the next
        # event.
        assert open_descriptors(supervisor) <= descriptors + 1
        assert resident_kb(supervisor) < memory + 1024
        assert children_of(supervisor) == [after["pid"]]


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"RssAnon:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


def open_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in text.split()]
