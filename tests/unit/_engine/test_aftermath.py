"""What is decided after a timeout: hooks, what may be broken, and who is asked to replace it."""

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
    """Replaces the process, or says why it cannot."""

    def __init__(self, why_not: str | None = None) -> None:
        self._why_not = why_not
        self.left: list[float] = []

    def before_next_event(self, left: float) -> str | None:
        self.left.append(left)
        return self._why_not


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has hooks and recovering libraries of its own, and nothing left over."""
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
    """One that has ended."""
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


# ---- what may be broken ------------------------------------------------------------------------


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
def test_what_is_suspected(firing: Any, reason: str | None) -> None:
    """One known library on the way is enough: it sees to what it uses itself."""
    assert decided(firing) == reason


def test_what_still_works_is_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """In addition to all the rest; one of each kind is enough."""
    monkeypatch.setattr(aftermath, "threads_at_work", lambda *_: ["Thread-1", "Thread-2"])
    monkeypatch.setattr(aftermath, "children_at_work", lambda *_: ["71 (sleep)", "72 (sleep)"])

    assert decided(timeout("auto", "pymysql")) == (
        "interrupted in pymysql; thread Thread-1 still works; process 71 (sleep) still works"
    )


def test_users_say_that_a_library_recovers() -> None:
    """By its top-level package."""
    recovers("pymysql", "mylib")
    assert decided(timeout("auto", "pymysql")) is None


@pytest.mark.parametrize("name", ["my.lib", "", 7, "my-lib"])
def test_what_is_no_package_is_refused(name: Any) -> None:
    """With one that would do."""
    with pytest.raises(ConfigurationError, match=r'use for example recovers\("mylib"\)'):
        recovers(name)


def test_where_it_cannot_be_the_record_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is kept."""
    monkeypatch.setattr(aftermath, "renewal", Renewal("no fork"))
    assert decided(timeout("always")) == "not recycled: RECYCLE=always (no fork)"

    monkeypatch.setattr(aftermath, "renewal", None)
    assert decided(timeout("always")) == f"not recycled: RECYCLE=always ({aftermath.NOT_LAMBDAS})"


def test_what_is_left_is_the_platforms_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``TIMEOUT`` that is shorter ends the invocation, and not the sandbox."""
    renewal = Renewal()
    monkeypatch.setattr(aftermath, "renewal", renewal)
    told = timeout("always")
    told.invocation.context = FakeContext(900.0)

    decided(told)
    decided(timeout("always"))

    assert renewal.left == [pytest.approx(900.0, abs=BOUND), 2.5]


# ---- hooks -------------------------------------------------------------------------------------


def test_hooks_run_the_last_registered_first_and_none_stops_another() -> None:
    """Each leaves a record."""

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


def test_last_call_cuts_them_short() -> None:
    """The caller's answer waits for them."""

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
def test_a_hook_knows_better(setting: str, wish: str, reason: str | None) -> None:
    """But for a setting that says never, or always."""
    firing = timeout(setting, "pymysql")
    getattr(firing.details, wish)()

    assert decided(firing) == reason


def test_a_wish_is_no_part_of_the_details() -> None:
    """They are equal to those without one, and as frozen as ever."""
    details, same = timeout().details, timeout().details
    details.recycle()

    assert details == same
    assert "_wish" not in repr(details)
    with pytest.raises(AttributeError):
        details.elapsed = 3.0


@pytest.mark.parametrize("hook", [None, "drop", lambda: None])
def test_what_is_no_hook_is_refused(hook: Any) -> None:
    """At once."""
    with pytest.raises(ConfigurationError, match="after_timeout"):
        after_timeout(hook)


# ---- what still works --------------------------------------------------------------------------


def test_a_thread_of_the_users_code_is_at_work() -> None:
    """Not one that was there before, and not a pool's that waits for work."""
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


def test_a_child_is_at_work_until_it_has_ended() -> None:
    """A zombie does nothing any more."""
    now = SystemClock.since_boot()
    with subprocess.Popen(["sleep", "60"]) as child:
        assert f"{child.pid} (sleep)" in children_at_work(now - 1.0)
        assert children_at_work(now + 60.0) == []
        child.kill()
        child.wait()
    assert children_at_work(now - 1.0) == []


def test_the_libraries_of_a_landing_are_those_that_the_users_code_has_called() -> None:
    """Innermost first, each once; a framework that has called the code is none."""
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
    assert libraries_in(stack[3:], code) == (), "in the view itself"
    assert libraries_in(stack[:3], code) == ()


def test_the_standard_librarys_clients_are_libraries_and_the_rest_of_it_is_none() -> None:
    """A connection that the user keeps is in the middle of its protocol, too, a pool at work."""
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
