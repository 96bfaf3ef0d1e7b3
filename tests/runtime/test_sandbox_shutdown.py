"""With SIGTERM=1 hooks run when Lambda ends the sandbox, idle or busy, in both kinds of images."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests import log_schema
from tests.runtime.emulator import EmulatorError

from .harness import WAYS, Way, running, wrapped

if TYPE_CHECKING:
    from tests.runtime.emulator import Emulator

OK = {"do": "ok"}
EVENT = "watchdog.sandbox_shutdown"


def function(way: Way = "command", **environment: str) -> Emulator:
    """Make a function in a custom image (``command``) or one of AWS's (``setting``)."""
    settings = {"WATCHDOG_LAMBDA_SIGTERM": "1", **environment}
    return wrapped("ending.handler", way=way, timeout=4, environment=settings, warm_up=OK)


def end(emulator: Emulator, *, busy: bool = False) -> list[str]:
    """End the sandbox as Lambda does, and return what the function wrote meanwhile."""
    since = len(emulator.lines)
    if busy:
        caller = threading.Thread(target=invoke_until_the_end, args=(emulator,))
        caller.start()
        emulator.wait_for_line(lambda text: text == "busy", since=since)
    emulator.close()
    if busy:
        caller.join(10)
    return [line.text for line in emulator.lines[since:]]


def invoke_until_the_end(emulator: Emulator) -> None:
    with contextlib.suppress(EmulatorError):
        emulator.invoke({"do": "sleep"})


def report(lines: list[str]) -> dict[str, Any]:
    found = [json.loads(line) for line in lines if EVENT in line]
    assert len(found) == 1
    log_schema.check(found[0])
    return dict(found[0])


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("way", WAYS)
def test_shutdown_hooks_run_before_the_process_exits(way: Way, busy: bool) -> None:  # noqa: FBT001
    """The hooks run in reverse order of registration, and the process ends before it is killed.

    A hook that fails stops no other, and one line has their outcomes.
    """
    with running(function(way)) as emulator:
        lines = end(emulator, busy=busy)

    assert [line for line in lines if line.startswith("hook: ")] == [
        "hook: fail",
        "hook: close_pool",
    ]
    hooks = report(lines)["hooks"]
    assert [(hook["name"], hook["outcome"]) for hook in hooks] == [
        ("ending.fail", "raised"),
        ("ending.close_pool", "ok"),
    ]
    assert not any("secret" in line for line in lines)
    assert not any("SIGKILL" in line for line in lines)


@pytest.mark.parametrize("way", WAYS)
def test_hanging_hook_does_not_block_other_hooks(way: Way) -> None:
    """A hook that hangs leaves time for the others, and the process ends before it is killed.

    All of them share 400 ms.
    """
    with running(function(way, HANG="1")) as emulator:
        lines = end(emulator)

    outcomes = {hook["name"]: hook["outcome"] for hook in report(lines)["hooks"]}
    assert outcomes == {
        "ending.hang": "timed-out",
        "ending.fail": "raised",
        "ending.close_pool": "ok",
    }
    assert not any("SIGKILL" in line for line in lines)


@pytest.mark.parametrize("own", ["return", "exit"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("way", WAYS)
def test_user_sigterm_handler_runs_as_well(way: Way, busy: bool, own: str) -> None:  # noqa: FBT001
    """The user's SIGTERM handler runs once, in addition to the hooks.

    Its thread is in the handler, waits in Python, or waits in C.
    """
    with running(function(way, OWN=own)) as emulator:
        lines = end(emulator, busy=busy)

    assert lines.count("own handler: SIGTERM") == 1
    if own == "return":
        assert "hook: close_pool" in lines
        # The user's handler has not ended the process, so Lambda kills it.
        assert any("SIGKILL" in line for line in lines)


def test_child_processes_can_be_terminated() -> None:
    """A forked child can be terminated by SIGTERM, although it inherits our signal handler.

    The parent does not take the child's SIGTERM for its own.
    """
    with running(function()) as emulator:
        assert emulator.invoke({"do": "terminate a child"}).json() == {"exit code": -15}
        assert EVENT not in emulator.log_text
        assert emulator.invoke(OK).status == 200


def test_supervisor_registers_the_extension_once() -> None:
    """The supervisor registers the extension once.

    The process that it starts anew listens for the signal, and does not register again.
    """
    settings = {"WATCHDOG_LAMBDA_SIGTERM": "1", "WATCHDOG_LAMBDA_LAST_RESORT": "supervise"}
    with running(
        wrapped("hard_to_stop.handler", timeout=4, environment=settings, warm_up={"do": "look"})
    ) as emulator:
        before: Any = emulator.invoke({"do": "look"}).json()
        emulator.invoke({"do": "stuck"})
        after: Any = emulator.invoke({"do": "look"}).json()
        lines = end(emulator)

    assert (after["pid"] != before["pid"], after["parent"]) == (True, before["parent"])
    assert after["ours"] == []
    assert "no extension could be registered" not in emulator.log_text
    assert not any("SIGKILL" in line for line in lines)


def test_hook_without_the_setting_gives_warning() -> None:
    """Without the setting a hook for the sandbox's end never runs, and registering it warns."""
    with running(wrapped("ending.handler", timeout=4, warm_up=OK)) as emulator:
        lines = end(emulator)

    assert "sandbox_shutdown_hook(ending.close_pool) never runs" in emulator.log_text
    assert "WATCHDOG_LAMBDA_SIGTERM=1" in emulator.log_text
    assert not any(line.startswith("hook: ") for line in lines)
