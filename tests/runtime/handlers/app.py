"""A handler with every way of being stuck, chosen by the event: ``{"do": "sleep"}``.

All of them run in one process, so each must leave it in a state in which the next one works.
Nothing here uses the watchdog, as users' code does not. Libraries are imported by the kinds that
use them, because the loaded modules affect what a timeout does.
"""

# These handlers are as bad as code found in practice, on purpose; their names say what they do.
# ruff: noqa: PLC0415, S110

from __future__ import annotations

import logging
import os
import queue
import re
import select
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    class Context(Protocol):
        """The part of Lambda's context that these handlers use."""

        def get_remaining_time_in_millis(self) -> int:
            """Return the time until the hard deadline."""


Event = dict[str, Any]
FOREVER = 60.0  # longer than every timeout in these tests
KINDS: dict[str, Callable[[Event, Context], object]] = {}


def handler(event: Event, context: Context) -> object:
    """Do what the event says."""
    return KINDS[event["do"]](event, context)


def kind(function: Callable[[Event, Context], object]) -> Callable[[Event, Context], object]:
    KINDS[function.__name__] = function
    return function


@kind
def ok(event: Event, context: Context) -> object:
    """Answer at once."""
    return {"ok": True, "pid": os.getpid()}


@kind
def load(event: Event, context: Context) -> object:
    """Import a library while no deadline runs, because the import would use up the next one."""
    __import__(event["module"])
    return ok(event, context)


# Handlers that are asleep, blocked or busy.


@kind
def sleep(event: Event, context: Context) -> object:
    time.sleep(FOREVER)
    return "done"


@kind
def busy(event: Event, context: Context) -> object:
    x = 0
    while True:
        x += 1


@kind
def busy_in_try(event: Event, context: Context) -> object:
    x = 0
    try:
        while x >= 0:
            x += 1
    finally:
        print("cleanup done")
    return x


@kind
def regex(event: Event, context: Context) -> object:
    """Hold the GIL in C code that checks for signals now and then."""
    return re.match(r"(a+)+$", "a" * 40 + "b") is None


@kind
def lock(event: Event, context: Context) -> object:
    held = threading.Lock()
    with held:
        return held.acquire()


@kind
def lock_timeout(event: Event, context: Context) -> object:
    held = threading.Lock()
    with held:
        return held.acquire(timeout=FOREVER)


@kind
def event_wait(event: Event, context: Context) -> object:
    return threading.Event().wait()


@kind
def event_wait_timeout(event: Event, context: Context) -> object:
    return threading.Event().wait(FOREVER)


@kind
def event_poll(event: Event, context: Context) -> object:
    """Wait in small pieces, so that most of the time is spent in ``threading``'s own code."""
    never = threading.Event()
    while not never.wait(0.0001):
        pass
    return "done"


@kind
def condition(event: Event, context: Context) -> object:
    changed = threading.Condition()
    with changed:
        changed.wait()
    return "done"


@kind
def queue_get(event: Event, context: Context) -> object:
    return queue.Queue[int]().get()


@kind
def queue_get_timeout(event: Event, context: Context) -> object:
    return queue.Queue[int]().get(timeout=FOREVER)


@kind
def thread_join(event: Event, context: Context) -> object:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="Thread-loader")
    thread.start()
    try:
        thread.join()
    finally:
        stop.set()
    return "done"


@kind
def recv(event: Event, context: Context) -> object:
    here, there = socket.socketpair()
    with here, there:
        return here.recv(1)


@kind
def recv_timeout(event: Event, context: Context) -> object:
    with silent_server() as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(FOREVER)
        return client.recv(1)


@kind
def accept(event: Event, context: Context) -> object:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.accept()[1]


@kind
def select_read(event: Event, context: Context) -> object:
    here, there = socket.socketpair()
    with here, there:
        return select.select([here], [], [])


@kind
def pipe_read(event: Event, context: Context) -> object:
    reader, writer = os.pipe()
    try:
        return os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


@kind
def subprocess_run(event: Event, context: Context) -> object:
    return subprocess.run(["sleep", str(FOREVER)], check=True).returncode


@kind
def subprocess_output(event: Event, context: Context) -> object:
    return subprocess.run(["sleep", str(FOREVER)], check=True, capture_output=True).returncode


@kind
def fork(event: Event, context: Context) -> object:
    child = os.fork()
    if child == 0:
        time.sleep(FOREVER)
        os._exit(0)
    try:
        return os.waitpid(child, 0)[1]
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


# Handlers that wait for a pool.


@kind
def future(event: Event, context: Context) -> object:
    stop = threading.Event()
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        return pool.submit(stop.wait).result()
    finally:
        stop.set()
        pool.shutdown(wait=False)


@kind
def pool(event: Event, context: Context) -> object:
    """Wait again at the block's end, for work that the handler's own cleanup releases."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as executor:
        try:
            return executor.submit(stop.wait).result()
        finally:
            stop.set()


@kind
def pool_stuck(event: Event, context: Context) -> object:
    """Wait again at the block's end, for work that outlives the deadline."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(time.sleep, 4).result()


@kind
def pool_map(event: Event, context: Context) -> object:
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=4) as executor:
        try:
            return list(executor.map(stop.wait, [FOREVER] * 8))
        finally:
            stop.set()


# Handlers with libraries that take a TimeoutError for a network fault.


@contextmanager
def silent_server() -> Iterator[int]:
    """Take connections and never answer. The kernel accepts them as long as the socket listens."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@kind
def urllib3_get(event: Event, context: Context) -> object:
    import urllib3

    with silent_server() as port, urllib3.PoolManager() as http:
        return http.request("GET", f"http://127.0.0.1:{port}/").status


@kind
def urllib3_get_timeout(event: Event, context: Context) -> object:
    import urllib3

    with silent_server() as port, urllib3.PoolManager(timeout=FOREVER) as http:
        return http.request("GET", f"http://127.0.0.1:{port}/").status


@kind
def boto3_get(event: Event, context: Context) -> object:
    import boto3
    from botocore.config import Config

    with silent_server() as port:
        table = boto3.client(
            "dynamodb",
            region_name="eu-west-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",  # noqa: S106 - there must be one; it is not checked
            endpoint_url=f"http://127.0.0.1:{port}",
            config=Config(proxies={}),
        )
        return table.get_item(TableName="orders", Key={"id": {"S": "1"}})


class StorageError(Exception):
    """The error that a library makes of every error beneath it."""


@kind
def nested(event: Event, context: Context) -> object:
    """Go through generators, exit stacks, and two libraries that each wrap, log and retry."""

    def fetch() -> Iterator[bytes]:
        with silent_server() as port, ExitStack() as stack:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.settimeout(FOREVER)
            stack.callback(print, "connection given back")
            yield client.recv(1)

    def load_rows() -> list[bytes]:
        try:
            return [*fetch()]
        except OSError as error:  # TimeoutError included
            raise StorageError("rows could not be loaded") from error

    def persist(attempts: int) -> list[bytes]:
        for attempt in range(attempts):
            try:
                return load_rows()
            except Exception:
                logging.getLogger("storage").exception("attempt %d failed", attempt)
                time.sleep(0.01)
        return []

    return len(persist(attempts=1000))


# Handlers that swallow the interrupt.


@kind
def swallow_asleep(event: Event, context: Context) -> object:
    while True:
        try:
            time.sleep(FOREVER)
        except Exception:
            pass


@kind
def swallow_asleep_briefly(event: Event, context: Context) -> object:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            pass


@kind
def swallow_busy(event: Event, context: Context) -> object:
    def work() -> int:
        return sum(n * n for n in range(1000))

    while True:
        try:
            work()
        except Exception:
            pass


@kind
def swallow_and_go_on(event: Event, context: Context) -> object:
    """Go on with the next step after an interrupt. This looks like a cleanup at first."""
    try:
        time.sleep(FOREVER)
    except Exception:
        pass
    time.sleep(FOREVER)
    return "done"


@kind
def swallow_everything(event: Event, context: Context) -> object:
    """Swallow every interrupt, three times, and finish."""
    swallowed = 0
    while swallowed < 3:
        try:
            time.sleep(FOREVER)
        except BaseException:
            swallowed += 1
    return {"swallowed": swallowed}


@kind
def swallow_in_records(event: Event, context: Context) -> object:
    """Take any exception for one bad record and go on with the next, as batch processors do."""
    failures = []
    for record in range(1000):
        try:
            time.sleep(FOREVER)
        except Exception:
            failures.append(record)
    return failures


# Handlers whose cleanup takes nearly all of the grace period.


def clean_up(context: Context) -> None:
    """Take until 0.2 s before the hard deadline, shortly before last call."""
    time.sleep(max(0.0, context.get_remaining_time_in_millis() / 1000 - 0.2))
    print("cleanup done")


@kind
def cleanup_finally(event: Event, context: Context) -> object:
    try:
        time.sleep(FOREVER)
    finally:
        clean_up(context)
    return "done"


@kind
def cleanup_finally_busy(event: Event, context: Context) -> object:
    """Clean up in bytecode, where an interrupt lands at once."""
    try:
        time.sleep(FOREVER)
    finally:
        rounds = 0
        while context.get_remaining_time_in_millis() > 200:
            rounds += 1
        print("cleanup done")
    return "done"


@kind
def cleanup_except(event: Event, context: Context) -> object:
    try:
        time.sleep(FOREVER)
    except TimeoutError:
        clean_up(context)
        raise
    return "done"


@kind
def cleanup_exit(event: Event, context: Context) -> object:
    @contextmanager
    def transaction() -> Iterator[None]:
        try:
            yield
        finally:
            clean_up(context)

    with transaction():
        time.sleep(FOREVER)
    return "done"


@kind
def cleanup_caught(event: Event, context: Context) -> object:
    """Clean up after the exception has been caught, when none is being handled."""
    answer: Event = {"partial": False}
    try:
        time.sleep(FOREVER)
    except TimeoutError:
        answer = {"partial": True}
    finally:
        clean_up(context)
    return answer


@kind
def cleanup_after(event: Event, context: Context) -> object:
    """Clean up in the code after the ``try``."""
    partial = False
    try:
        time.sleep(FOREVER)
    except TimeoutError:
        partial = True
    clean_up(context)
    return {"partial": partial}


# Handlers with answers of their own.


@kind
def own_answer(event: Event, context: Context) -> object:
    try:
        time.sleep(FOREVER)
    except TimeoutError as error:
        return {"statusCode": 504, "body": str(error)}
    return {"statusCode": 200}


class OrderFailed(Exception):
    """An error of the handler's own domain."""


@kind
def own_error(event: Event, context: Context) -> object:
    try:
        time.sleep(FOREVER)
    except TimeoutError as error:
        raise OrderFailed("order 17 was not placed") from error
    return "done"


@kind
def own_error_in_cleanup(event: Event, context: Context) -> object:
    """Fail while cleaning up, without `from`; Python keeps the timeout as the context."""
    try:
        time.sleep(FOREVER)
    finally:
        raise OrderFailed("rollback failed")


# Handlers with event loops.


@kind
def asyncio_run(event: Event, context: Context) -> object:
    import asyncio

    return asyncio.run(sleep_and_clean_up())


async def sleep_and_clean_up() -> None:
    import asyncio

    try:
        await asyncio.sleep(FOREVER)
    finally:
        await asyncio.sleep(0.01)
        print("cleanup done")


@kind
def asyncio_gather(event: Event, context: Context) -> object:
    import asyncio

    async def main() -> object:
        return await asyncio.gather(
            sleep_and_clean_up(), asyncio.sleep(FOREVER), return_exceptions=True
        )

    return asyncio.run(main())


@kind
def asyncio_busy(event: Event, context: Context) -> object:
    """Never return to the loop."""
    import asyncio

    async def main() -> None:
        x = 0
        try:
            while x >= 0:
                x += 1
        finally:
            print("cleanup done")

    return asyncio.run(main())


@kind
def asyncio_busy_task(event: Event, context: Context) -> object:
    """Be busy in a task that is not awaited, where the loop stores the exception and forgets it."""
    import asyncio

    async def spin() -> None:
        x = 0
        while True:
            x += 1

    async def main() -> None:
        task = asyncio.create_task(spin())
        try:
            await asyncio.sleep(FOREVER)
        finally:
            task.cancel()

    return asyncio.run(main())


@kind
def asyncio_to_thread(event: Event, context: Context) -> object:
    """Wait for a thread that outlives the deadline; ``asyncio.run`` then waits for it again."""
    import asyncio

    return asyncio.run(asyncio.to_thread(time.sleep, 4))


@kind
def asyncio_bare_loop(event: Event, context: Context) -> object:
    """Run a loop by hand and close it at once; its pending tasks can never run."""
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(sleep_and_clean_up())
    finally:
        loop.close()


@kind
def asyncio_kept_loop(event: Event, context: Context) -> object:
    """Run a loop by hand and keep it, as Mangum does; its pending tasks must not run next time."""
    global kept_loop  # noqa: PLW0603 - as users do it
    import asyncio

    if kept_loop is None:
        kept_loop = asyncio.new_event_loop()
    return kept_loop.run_until_complete(sleep_and_clean_up())


kept_loop: Any = None


# Handlers that are stuck in logging or printing.


@kind
def logging_blocked(event: Event, context: Context) -> object:
    """Wait for the lock of the runtime's own logging handler, which another thread holds."""
    [sink] = logging.getLogger().handlers
    held, release = threading.Event(), threading.Event()

    def keep() -> None:
        sink.acquire()
        held.set()
        release.wait(FOREVER)
        sink.release()

    thread = threading.Thread(target=keep)
    thread.start()
    held.wait()
    try:
        logging.getLogger().warning("this line waits for the lock")
    finally:
        release.set()
        thread.join()
    return "done"


@kind
def print_flood(event: Event, context: Context) -> object:
    """Write endlessly to a stream that is not the log."""
    with Path(os.devnull).open("w", encoding="utf-8") as file:
        while True:
            print("line", file=file, flush=True)


# Handlers that only the kill at the hard deadline can end.


@kind
def blind(event: Event, context: Context) -> object:
    """Stay in C code that lets other threads run but never checks for signals."""
    import hashlib

    return hashlib.pbkdf2_hmac("sha256", b"x", b"y", 100_000_000).hex()
