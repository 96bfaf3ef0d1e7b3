"""What is decided after a timeout: the hooks, what may be broken, and whether to recycle."""

from __future__ import annotations

import concurrent.futures
import http.client
import socket
import subprocess
import sys
import threading
import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import BOUND
from watchdog_lambda import (
    ConfigurationError,
    LambdaTimeout,
    TimeoutDetails,
    after_timeout,
    recovers,
)
from watchdog_lambda._cpython.leftovers import children_at_work, threads_at_work
from watchdog_lambda._cpython.source import SourceMap
from watchdog_lambda._engine import aftermath
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._engine.rungs import libraries_in
from watchdog_lambda.testing import FakeContext

if TYPE_CHECKING:
    from collections.abc import Iterator

seen: list[Any] = []


class Renewal:
    """Stands in for what replaces the process, or says why it cannot."""

    def __init__(self, why_not: str | None = None) -> None:
        self._why_not = why_not
        self.left: list[float] = []

    def before_next_event(self, left: float) -> str | None:
        self.left.append(left)
        return self._why_not


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test its own hooks and recovering libraries, and no threads or children at work."""
    seen.clear()
    monkeypatch.setattr(aftermath, "recovering", set(aftermath.recovering))
    monkeypatch.setattr(aftermath, "renewal", Renewal())
    monkeypatch.setattr(aftermath, "threads_at_work", lambda *_: [])
    monkeypatch.setattr(aftermath, "children_at_work", lambda *_: [])
    yield
    for hook in aftermath.hooks.snapshot():
        aftermath.hooks.remove(hook.key)


def timeout(
    recycle: str = "auto",
    *libraries: str,
    severed: tuple[str, ...] = (),
    unended: tuple[str, ...] = (),
    landed: bool = True,
) -> Any:
    """Return a firing whose timeout has ended."""
    record = SimpleNamespace(libraries=libraries, landed_at=1.0 if landed else None)
    return SimpleNamespace(
        invocation=SimpleNamespace(
            plan=SimpleNamespace(settings=SimpleNamespace(recycle=recycle)),
            context=None,
        ),
        details=TimeoutDetails(deadline=30.0, elapsed=27.0, grace_period=3.0),
        policy=SimpleNamespace(records=[record]),
        severed=list(severed),
        unended=list(unended),
        timeline=SimpleNamespace(limit=30.0),
        code=None,
        after=[],
        recycled=None,
        elapsed=lambda: 27.5,
    )


def decided(firing: Any) -> str | None:
    aftermath.decide(firing)
    recycled: str | None = firing.recycled
    return recycled


# ---- which libraries, threads and processes are suspected --------------------------------------


@pytest.mark.parametrize(
    ("firing", "reason"),
    [
        (timeout(), None),
        (timeout("auto", "urllib3", "requests"), None),
        (timeout("auto", "pymysql"), "interrupted in pymysql"),
        (timeout("auto", "cffi", "pymysql"), "interrupted in cffi"),
        (timeout("auto", "pymysql", landed=False), None),
        (timeout("auto", "cffi", "redis"), None),
        (timeout(severed=("10.0.0.5:5432",)), "severed 10.0.0.5:5432"),
        (timeout(unended=("refuse", "other")), "task refuse did not end"),
        (timeout("always"), "RECYCLE=always"),
        (timeout("never", "pymysql", severed=("10.0.0.5:5432",)), None),
    ],
)
def test_landing_in_unrecovering_library_is_suspected(firing: Any, reason: str | None) -> None:
    """A landing is not suspected if one of its libraries is known to recover."""
    assert decided(firing) == reason


def test_running_threads_and_children_are_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and processes that still work are reported with the library, one of each kind."""
    monkeypatch.setattr(aftermath, "threads_at_work", lambda *_: ["Thread-1", "Thread-2"])
    monkeypatch.setattr(aftermath, "children_at_work", lambda *_: ["71 (sleep)", "72 (sleep)"])

    assert decided(timeout("auto", "pymysql")) == (
        "interrupted in pymysql; thread Thread-1 still works; process 71 (sleep) still works"
    )


def test_declared_recovering_library_is_not_suspected() -> None:
    """A library that the user declares with ``recovers()`` is not suspected any more."""
    recovers("pymysql", "mylib")
    assert decided(timeout("auto", "pymysql")) is None


@pytest.mark.parametrize("name", ["my.lib", "", 7, "my-lib"])
def test_invalid_package_name_is_refused(name: Any) -> None:
    """``recovers()`` rejects what is not a package's name, and its message shows a valid call."""
    with pytest.raises(ConfigurationError, match=r'use for example recovers\("mylib"\)'):
        recovers(name)


def test_record_says_why_the_process_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process cannot be replaced it is kept, and the record says why."""
    monkeypatch.setattr(aftermath, "renewal", Renewal("no fork"))
    assert decided(timeout("always")) == "not recycled: RECYCLE=always (no fork)"

    monkeypatch.setattr(aftermath, "renewal", None)
    assert decided(timeout("always")) == f"not recycled: RECYCLE=always ({aftermath.NOT_LAMBDAS})"


def test_remaining_time_comes_from_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time left comes from the context: a shorter ``TIMEOUT`` does not end the sandbox."""
    renewal = Renewal()
    monkeypatch.setattr(aftermath, "renewal", renewal)
    told = timeout("always")
    told.invocation.context = FakeContext(900.0)

    decided(told)
    decided(timeout("always"))

    assert renewal.left == [pytest.approx(900.0, abs=BOUND), 2.5]


# ---- hooks -------------------------------------------------------------------------------------


def test_hooks_run_in_reverse_order_despite_errors() -> None:
    """After-timeout hooks run in reverse order, and each has a record, also one that raises."""

    @after_timeout
    def first(details: TimeoutDetails) -> None:
        seen.append(details)

    @after_timeout
    def second(_details: TimeoutDetails) -> None:
        seen.append("second")
        raise SystemExit(3)

    firing = timeout()
    aftermath.run_hooks(firing)

    assert seen == ["second", firing.details]
    assert [record.outcome for record in firing.after] == ["raised", "ok"]
    assert firing.after[0].error.startswith("SystemExit in ")
    assert first.__name__ in firing.after[1].name


def test_last_call_ends_hanging_hooks() -> None:
    """Last call ends a hook that hangs, because the caller's answer waits for the hooks."""

    @after_timeout
    def hangs(_details: TimeoutDetails) -> None:
        raise LambdaTimeout

    firing = timeout()
    with pytest.raises(LambdaTimeout):
        aftermath.run_hooks(firing)

    assert [record.outcome for record in firing.after] == ["timed-out"]
    assert hangs.__name__ in firing.after[0].name


@pytest.mark.parametrize(
    ("setting", "wish", "reason"),
    [
        ("auto", "recycle", "an after_timeout hook has asked for it"),
        ("auto", "keep", None),
        ("never", "recycle", None),
        ("always", "keep", "RECYCLE=always"),
    ],
)
def test_hook_wish_overrides_library_check(setting: str, wish: str, reason: str | None) -> None:
    """A hook's wish overrides the library check, but not a setting of "never" or "always"."""
    firing = timeout(setting, "pymysql")
    getattr(firing.details, wish)()

    assert decided(firing) == reason


def test_hook_wish_does_not_affect_details_equality() -> None:
    """A hook's wish changes neither the equality nor the repr of the details, which stay frozen."""
    details, same = timeout().details, timeout().details
    details.recycle()

    assert details == same
    assert "_wish" not in repr(details)
    with pytest.raises(AttributeError):
        details.elapsed = 3.0


@pytest.mark.parametrize("hook", [None, "drop", lambda: None])
def test_invalid_hook_is_refused(hook: Any) -> None:
    """``after_timeout`` rejects what cannot be called with the details when it is registered."""
    with pytest.raises(ConfigurationError, match="after_timeout"):
        after_timeout(hook)


# ---- threads, processes and libraries at work --------------------------------------------------


def test_thread_started_by_the_invocation_is_at_work() -> None:
    """A thread that the invocation started is at work unless it has ended; older ones are not."""
    now = SystemClock.since_boot()
    done = threading.Event()
    thread = threading.Thread(target=lambda: done.wait(BOUND), name="working")
    thread.start()
    code = SourceMap([])
    try:
        assert threads_at_work(code, now - 1.0) == ["working"]
        assert threads_at_work(code, now + 60.0) == []
    finally:
        done.set()
        thread.join()
    idle = threading.Thread(target=threading.Event().wait, args=(0.0,))
    idle.start()
    idle.join()
    assert threads_at_work(code, now - 1.0) == []


def test_child_is_at_work_until_it_has_ended() -> None:
    """A child counts as at work until it has ended; one that was there before does not count."""
    now = SystemClock.since_boot()
    with subprocess.Popen(["sleep", "60"]) as child:
        assert f"{child.pid} (sleep)" in children_at_work(now - 1.0)
        assert children_at_work(now + 60.0) == []
        child.kill()
        child.wait()
    assert children_at_work(now - 1.0) == []


def test_landing_libraries_are_those_called_by_user_code() -> None:
    """Libraries are listed innermost first, once each; a framework outside user code is not."""
    code = SourceMap(["/opt/app/site-packages", "/opt/app"])
    installed = "/opt/app/site-packages"
    stack = [
        (f"{installed}/urllib3/connection.py", 1, "f"),
        (f"{installed}/urllib3/pool.py", 1, "f"),
        (f"{installed}/six.py", 1, "f"),
        ("/opt/app/app.py", 1, "view"),
        (f"{installed}/framework.py", 1, "f"),
        ("/opt/app/app.py", 1, "handler"),
        (f"{installed}/datadog/wrapper.py", 1, "f"),
    ]

    assert libraries_in(stack, code) == ("urllib3", "six")
    assert libraries_in(stack[3:], code) == (), "the framework outside user code counts"
    assert libraries_in(stack[:3], code) == ()


def test_standard_library_clients_count_as_libraries() -> None:
    """A standard library client that is in the middle of a protocol is a library, as is a pool."""
    code = SourceMap([*sys.path, "/opt/app"])
    own = ("/opt/app/app.py", 1, "handler")
    waiting = [(threading.__file__, 1, "wait")]
    connection = [(socket.__file__, 1, "readinto"), (http.client.__file__, 1, "begin")]
    opened = [*connection, (urllib.request.__file__, 1, "open")]

    assert libraries_in([*waiting, own], code) == ()
    assert libraries_in([*connection, own], code) == ("http",)
    assert libraries_in([*opened, own], code) == ("http", "urllib")
    future = (concurrent.futures.Future.result.__code__.co_filename, 1, "result")
    assert libraries_in([*waiting, future, own], code) == ("concurrent",)
