"""Tests of SnapStart, with the runtime's own restore and the user's hooks around the snapshot.

AWS's emulator does not support it; the runtime is the real one, connected to :mod:`.runtime_api`.
SIGSTOP stands for the time between the snapshot and the restore. These tests cannot show memory
that is restored more than once, or a monotonic clock that has jumped.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import watchdog_lambda

from .runtime_api import RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT: Final = 2.0
FIRES_AT: Final = TIMEOUT * 3 / 4
SLACK: Final = 0.25

HANDLER: Final = """
import os, threading, time
from snapshot_restore_py import register_after_restore, register_before_snapshot

happened = []
register_before_snapshot(happened.append, "before, registered first")
register_before_snapshot(happened.append, "before, registered last")
register_after_restore(happened.append, "after, registered first")
register_after_restore(happened.append, "after, registered last")

def handler(event, context):
    if "hang" in event:
        time.sleep(event["hang"])
    return {
        "happened": happened, "pid": os.getpid(),
        "remaining_ms": context.get_remaining_time_in_millis(),
    }
"""
# The handler is loaded before the snapshot by calling it, as is recommended. So the watchdog's
# thread and timer are in the snapshot, and wait for a deadline in the middle of the invocation.
PRIMED: Final = """
import time
from snapshot_restore_py import register_before_snapshot
from watchdog_lambda import watch
import plain

handler = watch(plain.handler)

class Context:
    def __init__(self, seconds):
        self.until = time.monotonic() + seconds

    def get_remaining_time_in_millis(self):
        return (self.until - time.monotonic()) * 1000

@register_before_snapshot
def prime():
    handler({}, Context(2.4))
"""
BROKEN: Final = """
from snapshot_restore_py import register_after_restore
from plain import handler

@register_after_restore
def fail():
    raise OSError("no connection")
"""
WATCHED: Final = ("watchdog_lambda",)
PLAIN: Final = ("awslambdaric",)
POLLS_IN_THREAD: Final = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}


class Sandbox:
    """The process of one runtime, started for the snapshot."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._log = folder / "log"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def reports(self) -> list[dict[str, Any]]:
        lines = self.log.splitlines()
        return [json.loads(line) for line in lines if "watchdog.timeout" in line]

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def stay_stopped(self, seconds: float) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.pid, signal.SIGCONT)


@contextlib.contextmanager
def sandbox(
    api: RuntimeApi, folder: Path, *runtime: str, environment: dict[str, str] | None = None
) -> Iterator[Sandbox]:
    """Start a runtime whose init ends with a snapshot."""
    (folder / "plain.py").write_text(HANDLER, encoding="utf-8")
    (folder / "primed.py").write_text(PRIMED, encoding="utf-8")
    (folder / "broken.py").write_text(BROKEN, encoding="utf-8")
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *runtime],
            cwd=folder,
            env={
                **{name: os.environ[name] for name in kept if name in os.environ},
                "PYTHONPATH": str(Path(watchdog_lambda.__file__).parents[1]),
                "AWS_LAMBDA_RUNTIME_API": api.address,
                "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
                "AWS_LAMBDA_FUNCTION_NAME": "function",
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = Sandbox(folder, process)
    try:
        yield started
    except BaseException as error:
        error.add_note(f"What the function wrote:\n{started.log}")
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.mark.parametrize("environment", [{}, POLLS_IN_THREAD], ids=["image", "aws"])
@pytest.mark.parametrize("module", ["plain", "primed"])
def test_first_invocation_after_restore_has_its_own_deadline(
    tmp_path: Path, environment: dict[str, str], module: str
) -> None:
    """The first invocation after the restore has its own deadline, and the hooks run in order.

    A timer that was set before the snapshot fires nothing after it.
    """
    with (
        RuntimeApi(timeout=TIMEOUT) as api,
        sandbox(api, tmp_path, *WATCHED, f"{module}.handler", environment=environment) as started,
    ):
        api.wait_for_snapshot()
        if module == "plain":
            assert started.threads() == 1  # nothing of the package is in the snapshot
        started.stay_stopped(0.5)
        stuck = api.send({"hang": 60})
        api.restore()
        timed_out = stuck.answer(within=TIMEOUT + 5)
        after = api.invoke({})

        assert timed_out.kind == "error"
        assert timed_out.body["errorType"] == "LambdaTimeout"
        assert FIRES_AT - 0.05 < timed_out.seconds < FIRES_AT + SLACK
        [report] = started.reports()
        assert report["request_id"] == stuck.request_id
        assert after.body["happened"] == [
            "before, registered last",
            "before, registered first",
            "after, registered first",
            "after, registered last",
        ]
        assert after.body["pid"] == started.process.pid
        assert api.init_errors == api.restore_errors == []


def test_deadline_from_before_the_snapshot_does_not_fire(tmp_path: Path) -> None:
    """A deadline from before the snapshot has no effect.

    It passes during the snapshot or in the middle of the first invocation.
    """
    for seconds in (0.5, 2.5):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        with (
            RuntimeApi(timeout=3.0) as api,
            sandbox(api, folder, *WATCHED, "primed.handler") as started,
        ):
            api.wait_for_snapshot()
            started.stay_stopped(seconds)
            api.restore()
            undisturbed = api.invoke({"hang": 2.0})

            assert undisturbed.kind == "response"
            assert undisturbed.body["remaining_ms"] == pytest.approx(1000, abs=200)
            assert started.reports() == []


def test_failing_restore_hook_is_reported_as_without_the_package(tmp_path: Path) -> None:
    """A hook that fails after the restore gives the same error and status as without us."""
    told = []
    for runtime in (WATCHED, PLAIN):
        folder = tmp_path / runtime[0]
        folder.mkdir()
        with (
            RuntimeApi(timeout=TIMEOUT) as api,
            sandbox(api, folder, *runtime, "broken.handler") as started,
        ):
            api.wait_for_snapshot()
            api.restore()
            exit_status = started.process.wait(15)
            [error] = api.restore_errors
        told.append((exit_status, error.error_type, error.body["errorType"]))

    assert told[0] == told[1] == (65, "Runtime.AfterRestoreError", "OSError")
