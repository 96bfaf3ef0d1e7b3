"""Code that runs and runs: on an event loop, in Python, in C with the GIL and without it."""

from __future__ import annotations

import asyncio
import bz2
import collections
import copy
import csv
import ctypes
import decimal
import hashlib
import importlib
import itertools
import json
import lzma
import os
import pickle
import random
import re
import sqlite3
import sys
import time
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.limits.registry import LONG, Group, keep

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from benchmarks.limits.registry import Block

# ---- event loops ---------------------------------------------------------------------------------


loops = Group("asyncio")


def _asyncio(main: Callable[[], Coroutine[object, object, object]]) -> Block:
    return lambda: asyncio.run(main())


async def _compute() -> None:
    for number in itertools.count():
        _ = number * number


async def _waits_beside_a_busy_task() -> None:
    busy = asyncio.create_task(_compute())
    await asyncio.sleep(LONG)
    await busy


async def _blocks() -> None:
    time.sleep(LONG)  # noqa: ASYNC251 - the mistake is the point


async def _waits_for_a_child() -> None:
    child = await asyncio.create_subprocess_exec("sleep", str(LONG))
    await child.wait()


def _in_a_loop_of_its_own() -> Block:
    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(asyncio.sleep(LONG))


add = loops.add
about = "`asyncio.run()` of a coroutine that sleeps"
add("asyncio-sleep", about, lambda: _asyncio(partial(asyncio.sleep, LONG)))
about = "`loop.run_until_complete()` of a coroutine that sleeps"
add("asyncio-run-until-complete", about, _in_a_loop_of_its_own)
add("asyncio-busy", "`asyncio.run()` of a coroutine that computes", lambda: _asyncio(_compute))
about = "`asyncio.run()`, where a background task computes"
add("asyncio-busy-task", about, lambda: _asyncio(_waits_beside_a_busy_task))
about = "`asyncio.run()` of a coroutine that calls `time.sleep()`"
add("asyncio-blocking", about, lambda: _asyncio(_blocks))
about = "`asyncio.run()` of `asyncio.to_thread(time.sleep, 60)`"
sleeps = partial(asyncio.to_thread, time.sleep, LONG)
add("asyncio-to-thread", about, lambda: _asyncio(sleeps), quick=True)
about = "`asyncio.run()` that waits for a subprocess"
add("asyncio-subprocess", about, lambda: _asyncio(_waits_for_a_child))


# ---- Python --------------------------------------------------------------------------------------


python = Group("Python code")


def _loop() -> None:
    while True:
        pass


def _square(number: int) -> int:
    return number * number


def _square_all() -> None:
    for number in itertools.count():
        _square(number)


def _in_try(cleaned: list[bool]) -> None:
    number = 0
    try:
        while True:
            number += 1
    finally:
        cleaned.append(True)


def _tell_whether_it_was_cleaned() -> None:
    cleaned: list[bool] = []
    try:
        _in_try(cleaned)
    except BaseException as error:
        if not cleaned:
            error.add_note("the `finally` was skipped")
        raise


def _swallow() -> None:
    while True:
        try:
            _square_all()
        except Exception:  # noqa: BLE001, S112 - the mistake is the point
            continue


class _Late:
    def __del__(self) -> None:
        while True:
            _square(2)


def _finalise() -> None:
    late = _Late()
    del late
    while True:  # the exception that ended it has been dropped
        pass


def _lines() -> Iterator[str]:
    while True:
        yield "1,2,3"


add = python.add
add("loop", "`while True: pass`", lambda: _loop, quick=True)
add("loop-of-calls", "A loop that calls functions", lambda: _square_all)
about = "`try: while True: ...` with a `finally`"
add("loop-in-try", about, lambda: _tell_whether_it_was_cleaned)
about = "A generator expression without end"
add("comprehension", about, lambda: lambda: max(number & 1 for number in itertools.count()))
add("swallowing-loop", "A loop with `except Exception: continue`", lambda: _swallow)
add("finaliser", "A `__del__` that computes", lambda: _finalise)


@python.call()
def slow_import() -> Block:
    """`import` of a module that sleeps."""
    Path("slow_module.py").write_text("import time\ntime.sleep(60)\n")
    sys.path.insert(0, str(Path.cwd()))
    return partial(importlib.import_module, "slow_module")


@python.call()
def deepcopy() -> Block:
    """`copy.deepcopy()` of something huge."""
    return partial(copy.deepcopy, [{"id": n, "tags": [n]} for n in range(700_000)])


about = "`csv.reader()` of a generator without end"
add("csv-reader", about, lambda: lambda: all(csv.reader(_lines())))


# ---- C code that holds the GIL -------------------------------------------------------------------


computing = Group("C code that holds the GIL")

FLOAT: Final = 2.2250738585072011e-308
"""One whose decimal digits take long, so that what holds many needs not be huge."""

MILLION: Final = 1_000_000


def _long_integers() -> None:
    sys.set_int_max_str_digits(0)


@computing.call(quick=True)
def regex() -> Block:
    """A catastrophic `re.match()`."""
    return partial(re.compile(r"(a+)+$").match, "a" * 60 + "b")


add = computing.add
add("power", "`pow()` of big integers", lambda: partial(pow, 3, 500 * MILLION))


@computing.call()
def int_to_str() -> Block:
    """`str()` of a huge integer."""
    _long_integers()
    return partial(str, 1 << 200 * MILLION)


@computing.call()
def str_to_int() -> Block:
    """`int()` of a huge string."""
    _long_integers()
    return partial(int, "9" * 50 * MILLION)


@computing.call()
def decimal_exp() -> Block:
    """`Decimal.exp()` with a million digits."""
    return partial(decimal.Decimal(2).exp, decimal.Context(prec=MILLION))


add("represent", "`repr()` of a huge list", lambda: partial(repr, [FLOAT] * 20 * MILLION))
about = "`json.dumps()` of many records"
records = {"id": 1, "values": [FLOAT] * 10}
add("json-dumps", about, lambda: partial(json.dumps, [records] * 2 * MILLION))
# The encoder looks at signals when it writes an integer, and not when it writes a float.
about = "`json.dumps()` of a huge list of floats"
add("json-dumps-floats", about, lambda: partial(json.dumps, [FLOAT] * 20 * MILLION))


@computing.call()
def json_loads() -> Block:
    """`json.loads()` of something huge."""
    return partial(json.loads, "{" + ",".join([f'"key":{FLOAT!r}'] * 10 * MILLION) + "}")


about = "`pickle.dumps()` of something huge"
add("pickle-dumps", about, lambda: partial(pickle.dumps, [FLOAT] * 20 * MILLION, protocol=0))
about = "`sorted()` of a huge list"
add("sort", about, lambda: partial(sorted, [random.random() for _ in range(20 * MILLION)]))
add("sum-of-range", "`sum(range(...))`", lambda: partial(sum, range(10**12)), quick=True)
about = "`in` an iterator without end"
add("search-in-iterator", about, lambda: lambda: -1 in itertools.count())
about = "`deque(itertools.repeat(...), maxlen=0)`"
without_end = partial(itertools.repeat, None, 10**12)
add("exhaust-iterator", about, lambda: partial(collections.deque, without_end(), maxlen=0))
about = "`usleep()` through `ctypes.PyDLL`"
microseconds = int(LONG * 1e6)
add("foreign-with-gil", about, lambda: partial(ctypes.PyDLL(None).usleep, microseconds))


# ---- C code that lets it go ----------------------------------------------------------------------


libraries = Group("C libraries that let the GIL go")

MEGABYTE: Final = 1024 * 1024

add = libraries.add
about = "`usleep()` through `ctypes.CDLL`"
add(
    "foreign-without-gil",
    about,
    lambda: partial(ctypes.CDLL(None).usleep, microseconds),
    quick=True,
)


@libraries.call()
def foreign_lock() -> Block:
    """`pthread_mutex_lock()` through `ctypes.CDLL`."""
    # Goes on waiting after a signal, as the waits of many a driver do.
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    return partial(libc.pthread_mutex_lock, mutex)


@libraries.call()
def sqlite_busy() -> Block:
    """`sqlite3`: a locked database, `timeout=60`."""
    holder, waiter = (keep(sqlite3.connect("busy.db", timeout=LONG)) for _ in range(2))
    holder.execute("BEGIN EXCLUSIVE")
    return partial(waiter.execute, "BEGIN EXCLUSIVE")


@libraries.call()
def sqlite_query() -> Block:
    """`sqlite3`: a long query."""
    database = keep(sqlite3.connect(":memory:"))
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    return lambda: database.execute(query).fetchone()


def _random(megabytes: int) -> bytes:
    return os.urandom(MEGABYTE) * megabytes


about = "`hashlib.pbkdf2_hmac()`"
derive = partial(hashlib.pbkdf2_hmac, "sha256", b"password", b"salt")
add("pbkdf2", about, lambda: partial(derive, 10**9))
scrypt = partial(hashlib.scrypt, b"password", salt=b"salt", n=2**14, r=8, p=2000)
add("scrypt", "`hashlib.scrypt()`", lambda: scrypt)
about = "`hashlib.sha256()` of something huge"
add("sha256", about, lambda: partial(hashlib.sha256, bytes(4096 * MEGABYTE)))
about = "`zlib.compress()` of something huge"
add("zlib-compress", about, lambda: partial(zlib.compress, _random(400), 9), quick=True)
about = "`bz2.compress()` of something huge"
add("bz2-compress", about, lambda: partial(bz2.compress, _random(100)))
about = "`lzma.compress()` of something huge"
add("lzma-compress", about, lambda: partial(lzma.compress, _random(50)))


@libraries.call()
def numpy_matmul() -> Block:
    """`numpy`: a product of large matrices."""
    import numpy as np

    large = np.ones((6000, 6000))
    return lambda: large @ large


@libraries.call()
def numpy_sort() -> Block:
    """`numpy`: `sort()` of a large array."""
    import numpy as np

    return np.frombuffer(os.urandom(480 * MEGABYTE), dtype="S16").copy().sort
