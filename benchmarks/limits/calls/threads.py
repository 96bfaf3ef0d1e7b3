"""Sleeps, locks, queues, and waiting for threads."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.limits.registry import Group, keep

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

LONG = 60.0
"""Seconds for what takes a timeout: it is not reached."""

group = Group("Sleeps, locks, queues and threads")


@group.call()
def sleep() -> Block:
    """`time.sleep()`."""
    return lambda: time.sleep(LONG)


@group.call(quick=True)
def lock() -> Block:
    """`Lock.acquire()`."""
    held = threading.Lock()
    held.acquire()
    return held.acquire


@group.call()
def lock_timeout() -> Block:
    """`Lock.acquire(timeout=60)`."""
    held = threading.Lock()
    held.acquire()
    return lambda: held.acquire(timeout=LONG)


@group.call()
def with_lock() -> Block:
    """`with lock:`."""
    held = threading.Lock()
    held.acquire()

    def block() -> None:
        with held:
            pass

    return block


@group.call()
def rlock() -> Block:
    """`RLock.acquire()`, held by another thread."""
    held = threading.RLock()
    owner = threading.Thread(target=held.acquire, daemon=True)
    owner.start()
    owner.join()
    return held.acquire


@group.call()
def condition() -> Block:
    """`Condition.wait()`."""
    never = threading.Condition()

    def block() -> None:
        with never:
            never.wait()

    return block


@group.call()
def condition_timeout() -> Block:
    """`Condition.wait_for(..., timeout=60)`."""
    never = threading.Condition()

    def block() -> None:
        with never:
            never.wait_for(lambda: False, timeout=LONG)

    return block


@group.call()
def event() -> Block:
    """`Event.wait()`."""
    return threading.Event().wait


@group.call()
def event_timeout() -> Block:
    """`Event.wait(60)`."""
    return lambda: threading.Event().wait(LONG)


@group.call()
def semaphore() -> Block:
    """`Semaphore.acquire()`."""
    return threading.Semaphore(0).acquire


@group.call()
def barrier() -> Block:
    """`Barrier.wait()`."""
    return threading.Barrier(2).wait


@group.call()
def queue_get() -> Block:
    """`queue.Queue.get()`."""
    return queue.Queue[None]().get


@group.call()
def queue_put() -> Block:
    """`queue.Queue.put()`, full."""
    full: queue.Queue[None] = queue.Queue(1)
    full.put(None)
    return lambda: full.put(None)


@group.call()
def simple_queue_get() -> Block:
    """`queue.SimpleQueue.get()`."""
    return queue.SimpleQueue[None]().get


@group.call()
def thread_join() -> Block:
    """`Thread.join()`."""
    return _sleeper().join


@group.call()
def thread_join_timeout() -> Block:
    """`Thread.join(60)`."""
    sleeper = _sleeper()
    return lambda: sleeper.join(LONG)


@group.call()
def future_result() -> Block:
    """`Future.result()` of a thread pool."""
    pool = keep(ThreadPoolExecutor(1))
    return pool.submit(time.sleep, LONG).result


@group.call(quick=True)
def with_thread_pool() -> Block:
    """`with ThreadPoolExecutor()` around `Future.result()`."""

    def block() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(time.sleep, LONG).result()

    return block


@group.call()
def thread_pool_map() -> Block:
    """`with ThreadPoolExecutor()` around `Executor.map()`."""

    def block() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(time.sleep, [LONG, LONG]))

    return block


def _sleeper() -> threading.Thread:
    sleeper = threading.Thread(target=time.sleep, args=(LONG,), daemon=True)
    sleeper.start()
    return sleeper
