"""The package's lines show nothing of event, context, environment, locals or errors' messages.

Each source has a canary of its own. Every line of a function's log is searched for all of them,
whether the package, the runtime or the emulator has written it. Canaries are expected in these
places, because the user has decided to write there:

- the message of an error that leaves the handler. The runtime writes it, with or without us, and
  hands it to the caller;
- what the handler prints.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests import events
from tests.cli.support import run

from .harness import HANDLERS, running, wrapped

if TYPE_CHECKING:
    from tests.runtime.emulator import Emulator

CANARIES = {
    name: f"canary-{name}-5b1d7f"
    for name in ("secret", "context", "environment", "local", "message", "batch")
}
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": CANARIES["environment"],
    "AWS_SESSION_TOKEN": CANARIES["environment"],
    "DATABASE_PASSWORD": CANARIES["environment"],
    "WATCHDOG_LAMBDA_METRICS_NAMESPACE": "Orders",
    "WATCHDOG_LAMBDA_SIGTERM": "1",
}
RUNTIMES_OWN = ("[ERROR]", "Traceback")
NONE = dict.fromkeys(CANARIES, "none")


def event(do: str, canaries: dict[str, str] | None = None) -> dict[str, Any]:
    known = CANARIES if canaries is None else canaries
    return {"do": do, **known, "batch": events.sqs(*[known["batch"]] * 3)}


def function(handler: str, *, timeout: int = 2, **environment: str) -> Emulator:
    return wrapped(
        f"leaky.{handler}",
        timeout=timeout,
        environment={**ENVIRONMENT, **environment},
        warm_up=event("ok", NONE),
    )


def found(lines: list[str]) -> list[tuple[str, str]]:
    """Return each canary that was found, with its line.

    Lines that the user has decided to write are left out.
    """
    return [
        (name, line)
        for line in lines
        for name, canary in CANARIES.items()
        if canary in line and not (name == "message" and line.startswith(RUNTIMES_OWN))
    ]


def records(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if '"watchdog.timeout"' in line]


def test_search_finds_every_canary() -> None:
    """The control: with a handler that prints all it knows, the search finds every canary."""
    with running(function("plain")) as emulator:
        answer = emulator.invoke(event("print"))
        lines = [line.text for line in emulator.lines]

    assert {name for name, _ in found(lines)} == set(CANARIES)
    assert any(line.startswith("[ERROR]") and CANARIES["message"] in line for line in lines)
    assert json.loads(answer.body)["errorMessage"] == CANARIES["message"]


@pytest.mark.parametrize("handler", ["plain", "falls_back"])
def test_no_secret_is_logged_however_invocation_ends(handler: str) -> None:
    """No secret is found for any end of an invocation, of the process or of the sandbox.

    Handlers return, raise, swallow, drop the interrupt, process a batch and get stuck.
    """
    emulator = function(handler)
    paths = ["sleep", "answer", "swallow", "drop", "make an error of it", "batch", "stuck"]
    with running(emulator):
        answers = {do: emulator.invoke(event(do)).body for do in paths}
        emulator.invoke(event("exit"))
        emulator.invoke(event("ok"))
        emulator.close()  # runs the hooks of the sandbox's end, whose errors quote the event
        lines = [line.text for line in emulator.lines]

    outcomes = [record["outcome"] for record in records(lines)]
    assert len(outcomes) == len(paths), outcomes
    assert {"returned", "raised", "stuck"} <= set(outcomes)
    assert any('"watchdog.sandbox_shutdown"' in line for line in lines)
    assert sum('"RemainingTime"' in line for line in lines) == len(paths)
    assert found(lines) == []
    failed = json.loads(answers["batch"])["batchItemFailures"]
    assert [item["itemIdentifier"] for item in failed] == ["message-1", "message-2"]
    allowed = {"swallow", "make an error of it"}  # the messages of the handler's own errors
    for do, answer in answers.items():
        told = [name for name, canary in CANARIES.items() if canary in answer]
        assert told == [] or (do in allowed and told == ["message"]), (do, answer)


@pytest.mark.parametrize(
    ("last_resort", "handler", "timeout"),
    [("exit", "plain", 2), ("exit", "falls_back", 2), ("supervise", "falls_back", 4)],
)
def test_last_resort_shows_no_secret(last_resort: str, handler: str, timeout: int) -> None:
    """The answer that is posted for a stuck handler and the next process's log show no secret."""
    emulator = function(handler, timeout=timeout, WATCHDOG_LAMBDA_LAST_RESORT=last_resort)
    with running(emulator):
        answer = emulator.invoke(event("stuck")).body
        emulator.invoke(event("ok"))
        lines = [line.text for line in emulator.lines]

    [record] = records(lines)
    assert record["outcome"] == "stuck"
    assert record["last_resort"].startswith(last_resort)
    assert found(lines) == []
    assert not any(canary in answer for canary in CANARIES.values())


def test_stack_dump_shows_no_secret() -> None:
    """faulthandler's dump, made when C code keeps the GIL, has places of code and no secret."""
    emulator = wrapped("leaky.plain", timeout=2, environment=ENVIRONMENT)
    with running(emulator):
        # This is the first invocation of its process, so that the monotonic timer is set besides
        # the one of processor time, which comes late on a busy machine.
        emulator.invoke(event("hold the GIL"))
        lines = [line.text for line in emulator.lines]

    assert any(line.startswith("Current thread") for line in lines)
    assert found(lines) == []


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_invoke_command_shows_no_secret(as_json: bool) -> None:  # noqa: FBT001
    """`invoke` shows the answer and the function's lines, and nothing secret besides."""
    options = ["--json"] if as_json else []
    done = run(
        "invoke",
        "leaky.plain",
        *("--path", str(HANDLERS), "--event", json.dumps(event("sleep"))),
        *("--timeout", "0.6", "--emulator", "none", *options),
        **ENVIRONMENT,
    )

    output = done.stdout + done.stderr
    assert "watchdog.timeout" in output
    assert found(output.splitlines()) == []


def test_check_command_shows_no_secret() -> None:
    """`check` reads the environment for the settings, and shows only these."""
    done = run("check", "leaky.plain", "--path", str(HANDLERS), "--timeout", "3", **ENVIRONMENT)

    assert "METRICS_NAMESPACE" in done.stdout
    assert found((done.stdout + done.stderr).splitlines()) == []
