"""Interrupts of handlers on uvloop and gevent."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import BOUND, Context, landed_outside
from watchdog_lambda import LambdaTimeout, _async, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Main = Callable[[], Coroutine[Any, Any, object]]

ROOT: Final = Path(__file__).resolve().parents[2]
seen: list[Any] = []


async def sleeps() -> None:
    try:
        await asyncio.sleep(30)
    finally:
        seen.append("cleaned")


async def runs_a_busy_callback() -> None:
    def spin() -> None:
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            pass

    asyncio.get_running_loop().call_soon(spin)
    await sleeps()


async def runs_a_busy_task() -> None:
    async def spin() -> None:
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            pass

    task = asyncio.create_task(spin())
    try:
        await sleeps()
    finally:
        if task.done():
            task.exception()  # otherwise the loop would log it later


async def has_a_task_that_swallows() -> None:
    async def swallow() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(30)
            except BaseException:
                seen.append("swallowed")

    task = asyncio.create_task(swallow())
    try:
        await asyncio.sleep(30)
    finally:
        seen.append("cleaned")
        del task


async def gathers() -> None:
    await asyncio.gather(asyncio.sleep(30), sleeps(), return_exceptions=True)
    await asyncio.sleep(30)


async def waits_for_a_thread() -> None:
    release = threading.Event()
    try:
        await asyncio.to_thread(release.wait, BOUND)
    finally:
        release.set()
        seen.append("cleaned")


MAINS: Final[tuple[Main, ...]] = (
    sleeps,
    runs_a_busy_callback,
    runs_a_busy_task,
    has_a_task_that_swallows,
    gathers,
    waits_for_a_thread,
)


@pytest.fixture
def uvloop() -> Iterator[Any]:
    """Install uvloop as the policy, so that the loop kept for async handlers is uvloop's."""
    module = pytest.importorskip("uvloop", reason="uvloop is not available")
    seen.clear()
    ident = threading.get_ident()
    kept = _async._kept.pop(ident, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module.install()
        yield module
        asyncio.set_event_loop_policy(None)
    loop = _async._kept.pop(ident, None)
    if loop is not None:
        loop.close()
    if kept is not None:
        _async._kept[ident] = kept


def time_out(handler: Callable[[Any, Any], object]) -> float:
    """Return the seconds that were left at the timeout; later, nothing lands and calls work."""
    context = Context(1.6)
    with pytest.raises(LambdaTimeout, match="interrupted after"):
        handler("hang", context)
    left = context.get_remaining_time_in_millis() / 1000
    # A cut task is logged where it is collected: here, and not in the watchdog's thread, for
    # which logging would make a thread object that stays.
    gc.collect()
    assert landed_outside() == []
    assert handler("ok", Context(5.0)) == "uvloop"
    return left


async def which_loop() -> str:
    return type(asyncio.get_running_loop()).__module__


@pytest.mark.parametrize("main", MAINS, ids=lambda main: main.__name__)
def test_async_handler_on_uvloop_is_interrupted(
    uvloop: object, main: Main, caplog: pytest.LogCaptureFixture
) -> None:
    """An async handler on uvloop is interrupted.

    The loop is C code without a frame of its own, and an error raised there would be lost.
    """

    @watch(grace_period=0.4)
    async def handler(event: str, _context: object) -> object:
        return await (which_loop() if event == "ok" else main())

    waits = main is has_a_task_that_swallows
    assert time_out(handler) >= (0.0 if waits else 0.15)
    assert "cleaned" in seen
    assert "Loop._read_from_self" not in caplog.text, "the interrupt landed where it is lost"


def test_task_left_in_uvloop_after_last_call_never_runs_again(uvloop: object) -> None:
    """A task that uvloop still has after last call never runs again.

    Neither its timer nor a cancellation wakes it.
    """
    turns: list[asyncio.Task[None] | None] = []

    async def stays() -> None:
        while True:
            turns.append(asyncio.current_task())
            try:
                await asyncio.sleep(2.0)  # beyond last call
            except BaseException:
                continue

    @watch(grace_period=0.4)
    async def handler(event: str, _context: object) -> object:
        if event == "hang":
            task = asyncio.create_task(stays())
            await asyncio.sleep(30)
            del task
        elif event == "wait":
            known = len(turns)
            assert turns[0] is not None
            assert not turns[0].done()
            turns[0].cancel()
            await asyncio.sleep(2.2)
            assert len(turns) == known
        return await which_loop()

    time_out(handler)

    assert len(turns) > 1, "the task was not cancelled"
    assert handler("wait", Context(30.0)) == "uvloop"


@pytest.mark.parametrize("main", MAINS, ids=lambda main: main.__name__)
@pytest.mark.parametrize("how", ["uvloop.run", "asyncio.run"])
def test_handler_that_runs_uvloop_is_interrupted(
    uvloop: Any, main: Main, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that calls ``uvloop.run``, or ``asyncio.run`` with its policy, is interrupted."""
    run = uvloop.run if how == "uvloop.run" else asyncio.run

    @watch(grace_period=0.4)
    def handler(event: str, _context: object) -> object:
        return run(which_loop() if event == "ok" else main())

    # asyncio.run waits for a task that swallows its cancellation, and for the executor's thread.
    waits = main in {waits_for_a_thread, has_a_task_that_swallows}
    assert time_out(handler) >= (0.0 if waits else 0.15)
    assert "cleaned" in seen
    assert "Loop._read_from_self" not in caplog.text


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_loop_connections_and_context_survive_timeouts(
    request: pytest.FixtureRequest, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Loop, connections and context survive an invocation or a timeout; leftover tasks do not."""
    if kind == "uvloop":
        request.getfixturevalue("uvloop")
    variable = contextvars.ContextVar("variable", default="unset")
    kept: dict[str, Any] = {}
    leftovers: list[asyncio.Task[None]] = []
    local, peer = socket.socketpair()

    @watch(grace_period=0.1)
    async def handler(event: str, _context: object) -> object:
        if not kept:
            kept["reader"], kept["writer"] = await asyncio.open_connection(sock=local)
        leftovers.append(asyncio.create_task(asyncio.sleep(30)))
        if event == "hang":
            await asyncio.sleep(30)
        if event == "close":
            kept["writer"].close()
            return await kept["writer"].wait_closed()
        kept["writer"].write(event.encode())
        await kept["writer"].drain()
        return variable.get()

    variable.set("outside")
    with peer:
        assert handler("one", Context(5.0)) == "outside"
        with pytest.raises(LambdaTimeout):
            handler("hang", Context(0.4))
        assert handler("two", Context(5.0)) == "outside"
        assert peer.recv(3) + peer.recv(3) == b"onetwo"
        handler("close", Context(5.0))

    assert [task.cancelled() for task in leftovers] == [True] * 4
    capfd.readouterr()


GEVENT: Final = """
import sys, time
import watchdog_lambda, watchdog_lambda._api
from gevent import monkey
monkey.patch_all()
import threading
import gevent, gevent.event, gevent.pool
from tests.support import Context
from watchdog_lambda import LambdaTimeout, watch

def swallow():
    for _ in range(3):
        try:
            gevent.sleep(30)
        except BaseException:
            pass

kinds = {
    "sleep": lambda: gevent.sleep(30),
    "patched sleep": lambda: time.sleep(30),
    "pool": lambda: gevent.pool.Pool(3).map(gevent.sleep, [30, 30]),
    "event": lambda: gevent.event.Event().wait(),
    "patched event": lambda: threading.Event().wait(30),
    "greenlet that swallows": lambda: gevent.joinall([gevent.spawn(swallow)]),
}
for name, kind in kinds.items():
    cleaned = []

    @watch(grace_period=0.2)
    def handler(event, context):
        if event == "ok":
            return "ok"
        try:
            kind()
        finally:
            cleaned.append(name)

    context = Context(0.8)
    try:
        handler("hang", context)
    except LambdaTimeout:
        pass
    else:
        raise AssertionError(name)
    assert context.get_remaining_time_in_millis() > 50, name
    assert cleaned == [name], name
    gevent.sleep(0.05)
    assert handler("ok", Context(5.0)) == "ok"
print("all")
"""

PATCHED_FIRST: Final = """
from gevent import monkey
monkey.patch_all()
from tests.support import Context
from watchdog_lambda import watch
print(watch(lambda event, context: "ok")({}, Context(5.0)))
"""


def gevent_script(text: str) -> subprocess.CompletedProcess[str]:
    """Run the script in its own process, because what gevent patches stays patched."""
    # gevent is not imported here: the interrupts of later tests would take its hub into account.
    if importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not available")
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND * 5,
    )


def test_handler_under_gevent_is_interrupted() -> None:
    """A handler is interrupted in gevent's sleeps, pools and events.

    The package is imported before gevent patches, as by the entrypoint.
    """
    done = gevent_script(GEVENT)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all"
    assert done.stdout.count("watchdog.timeout") == 12  # event and message of six timeouts


def test_gevent_patching_before_import_gives_warning() -> None:
    """If gevent patches before the import, a warning says to import the package first.

    The watchdog would be a greenlet, and its protection would be off without notice.
    """
    done = gevent_script(PATCHED_FIRST)

    assert done.stdout == "ok\n"
    assert "import watchdog_lambda before gevent.monkey.patch_all()" in done.stderr
