"""Loops that an interrupt can land wrongly in: handlers that run until they are interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from tools.landing_judge import Loop


def run_by_asyncio(main: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], None]:
    def loop(self: Any) -> None:
        asyncio.run(main(self))

    return loop


class Parts(Loop):
    """What several loops are made of."""

    def note_of(self, number: int) -> int:
        return number

    async def task(self) -> None:
        self.resource.entered += 1
        try:
            await asyncio.sleep(0)
        finally:
            self.resource.left += 1

    async def numbers(self) -> AsyncIterator[int]:
        self.resource.entered += 1
        try:
            while True:
                await asyncio.sleep(0)
                yield 1
        finally:
            await asyncio.sleep(0)
            self.resource.left += 1

    async def enters(self) -> None:
        while True:
            async with self.resource:
                pass

    async def takes_from_a_generator(self) -> None:
        async for _ in self.numbers():
            pass

    async def breaks_off(self) -> None:
        kept = []
        while True:
            generator = self.numbers()
            kept.append(generator)
            async for _ in generator:
                break
            if len(kept) > 3:
                await asyncio.gather(*(each.aclose() for each in kept))  # type: ignore[attr-defined]
                kept.clear()


class Loops(Parts):
    """The loops, a method each."""

    def exit_stack(self) -> None:
        while True:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.resource)

    def exit_stack_with_a_lock(self) -> None:
        while True:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.lock)

    def with_of_a_class(self) -> None:
        while True:
            with self.resource:
                pass

    def with_of_a_generator(self) -> None:
        @contextlib.contextmanager
        def entered() -> Iterator[None]:
            self.resource.acquire()
            try:
                yield
            finally:
                self.resource.release()

        while True:
            with entered():
                pass

    def with_of_a_lock(self) -> None:
        while True:
            with self.lock:
                pass

    def acquire_and_try(self) -> None:
        while True:
            self.lock.acquire()
            try:
                self.note_of(1)
            finally:
                self.lock.release()

    def a_finally(self) -> None:
        while True:
            try:
                self.note_of(1)
            finally:
                self.resource.acquire()
                self.note_of(2)
                self.resource.release()

    def path_exists(self) -> None:
        while os.path.exists("/"):  # noqa: PTH110 - it is what takes an error for "no"
            pass
        self.wrong.append("no such folder")

    def path_is_folder(self) -> None:
        while Path("/").is_dir() and os.path.isdir("/"):  # noqa: PTH112 - as above
            pass
        self.wrong.append("no folder")

    # fmt: off
    def an_except_elsewhere(self) -> None:
        number = 0
        try: self.note_of(number)  # noqa: E701
        except BaseException: self.wrong.append("caught elsewhere")  # noqa: BLE001, E701
        while True: number += 1  # noqa: E701
    # fmt: on

    def events(self) -> None:
        event = threading.Event()
        while True:
            event.set()
            event.clear()

    def a_queue(self) -> None:
        waiting: queue.Queue[int] = queue.Queue()
        try:
            while True:
                waiting.put(1)
                waiting.get(timeout=1)
        finally:
            if waiting.mutex.locked():
                self.wrong.append("the queue is locked")

    def threads(self) -> None:
        while True:
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    def a_condition(self) -> None:
        condition: Any = threading.Condition()
        try:
            while True:
                with condition:
                    condition.wait(timeout=0.0001)
        finally:
            if condition._waiters:  # noqa: SLF001 - nothing else says it
                self.wrong.append("a waiter that is gone")
            if not condition.acquire(blocking=False):
                self.wrong.append("the condition is locked")

    async_with = run_by_asyncio(Parts.enters)
    async_generator = run_by_asyncio(Parts.takes_from_a_generator)
    async_generator_left_by_break = run_by_asyncio(Parts.breaks_off)

    @run_by_asyncio
    async def gather(self) -> None:
        while True:
            await asyncio.gather(*(self.task() for _ in range(3)))

    @run_by_asyncio
    async def task_group(self) -> None:
        while True:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(self.task())

    @run_by_asyncio
    async def async_timeout(self) -> None:
        while True:
            async with asyncio.timeout(5), self.resource:
                await asyncio.sleep(0)

    def asyncio_run(self) -> None:
        while True:
            asyncio.run(self.task())


LOOPS: dict[str, Callable[[Parts], object]] = {
    name: function for name, function in vars(Loops).items() if isinstance(function, FunctionType)
}
"""Handlers that call nothing of the package."""

ASYNC_LOOPS: dict[str, Callable[[Parts], Awaitable[None]]] = {
    "async handler, async with": Parts.enters,
    "async handler, async generator": Parts.takes_from_a_generator,
    "async handler, generator left by break": Parts.breaks_off,
}
"""The same for ``async def`` handlers, which run on the package's own loop."""
