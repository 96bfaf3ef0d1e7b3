"""Tests of the fixtures as users have them, in a separate pytest with its usual plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import threading

from watchdog_lambda import shutdown_hook, watch

flushed = []

@shutdown_hook
def flush(details):
    flushed.append(details.location)

def load_rows():
    threading.Event().wait()

@watch
def handler(event, context):
    try:
        load_rows()
    except TimeoutError as timeout:
        return str(timeout)
"""

TESTS = """
import threading

import app
import pytest

from watchdog_lambda import shutdown_hook
from watchdog_lambda._hooks import shared
from watchdog_lambda.testing import expire

@pytest.mark.parametrize("turn", range(6))
def test_out_of_time(turn, monkeypatch, watchdog_context, watchdog_timeouts):
    monkeypatch.setattr(app, "load_rows", expire)

    answer = app.handler({}, watchdog_context)

    assert answer.startswith("interrupted after 27.0 s, 3.0 s before the 30.0 s limit, in app.py:")
    [record] = watchdog_timeouts
    assert record["outcome"] == "returned"
    assert [hook["outcome"] for hook in record["hooks"]] == ["ok"]
    assert len(app.flushed) >= 1

@pytest.mark.parametrize("turn", range(2))
def test_own_hook(turn, monkeypatch, watchdog_context, watchdog_clock, watchdog_hooks):
    ran = []
    shutdown_hook(before=10.0)(lambda details: ran.append(turn))
    monkeypatch.setattr(app, "load_rows", lambda: watchdog_clock.advance(28.0))

    app.handler({}, watchdog_context)

    assert ran == [turn]

def test_no_hook_is_left():
    assert len(shared.snapshot()) == 1
"""

HANGS = """
import signal
import threading

import app

from watchdog_lambda.testing import FakeContext, expire

def test_hangs():
    app.handler({}, FakeContext(600.0))

def test_next(monkeypatch, watchdog_context):
    monkeypatch.setattr(app, "load_rows", expire)
    assert app.handler({}, watchdog_context).startswith("interrupted after 27.0 s")
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0  # pytest-timeout's own, still set
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    return tmp_path


def run(
    project: Path, tests: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run pytest on `tests` in the project's folder."""
    (project / "test_app.py").write_text(tests)
    # The variables of the surrounding test run must not be inherited.
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env=environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-n", "2"),
        ("--timeout=5", "--timeout-method=signal"),
        ("--timeout=5", "--timeout-method=thread"),
        ("-n", "2", "--timeout=5", "--timeout-method=signal"),
        ("-s", "-p", "no:faulthandler"),
    ],
    ids=" ".join,
)
def test_fixtures_work_with_usual_plugins(project: Path, arguments: tuple[str, ...]) -> None:
    """The fixtures work by default, in parallel, and with both methods of pytest-timeout."""
    done = run(project, TESTS, *arguments)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout


def test_fixtures_work_without_a_nudge(project: Path) -> None:
    """Without a nudge an interrupt is injected on the main thread, too.

    It lands in the same place.
    """
    done = run(project, TESTS, WATCHDOG_LAMBDA_WAKE_SIGNAL="none")

    assert done.returncode == 0, done.stdout + done.stderr


def test_pytest_timeout_signal_method_fails_the_hanging_test(project: Path) -> None:
    """pytest-timeout's signal fails a test whose handler hangs, even in ``except TimeoutError``.

    The next test runs, and pytest-timeout still works.
    """
    done = run(project, HANGS, "--timeout=1", "--timeout-method=signal")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert re.search(r"Failed: Timeout \(>1(\.0)?s\) from pytest-timeout", done.stdout)
    assert "watchdog.timeout" not in done.stdout.partition("FAILURES")[2]


def test_pytest_timeout_thread_method_ends_the_run(project: Path) -> None:
    """pytest-timeout's thread method ends the run with a dump of all stacks.

    A handler and a watchdog do not prevent it.
    """
    done = run(project, HANGS, "--timeout=1", "--timeout-method=thread")

    assert done.returncode == 1
    assert "Timeout" in done.stdout + done.stderr
    assert "load_rows" in done.stdout + done.stderr


def test_pytest_lists_the_fixtures(project: Path) -> None:
    """pytest lists each fixture with its purpose."""
    done = run(project, "", "--fixtures")

    for name in ("context", "clock", "timeouts", "hooks"):
        assert re.search(rf"^watchdog_{name} .*\n    \S", done.stdout, re.MULTILINE), name


def test_unused_plugin_has_no_side_effects(project: Path) -> None:
    """A test run that uses no fixture has no additional thread, signal handler or import."""
    done = run(
        project,
        """
import signal, sys, threading

def test_nothing():
    assert "watchdog_lambda.pytest_plugin" in sys.modules
    unwanted = {"watchdog_lambda.testing", "aws_lambda_powertools", "asyncio", "ctypes"}
    if sys.version_info >= (3, 14):
        unwanted.remove("asyncio")  # pdb imports it, and pytest that
    assert not unwanted & sys.modules.keys()
    assert "watchdog_lambda._process" not in sys.modules  # which has the thread
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL
""",
        # These modules import them themselves.
        *("-p", "no:xdist", "-p", "no:hypothesispytest"),
        *("-p", "no:anyio", "-p", "no:unraisableexception"),
    )

    assert done.returncode == 0, done.stdout + done.stderr
