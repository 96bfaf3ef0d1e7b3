"""C code that runs and runs, with the GIL held and without it."""

from __future__ import annotations

import bz2
import collections
import ctypes
import decimal
import hashlib
import itertools
import json
import lzma
import os
import pickle
import random
import re
import sqlite3
import sys
import zlib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Final

from benchmarks.limits.registry import LONG, Block, Group, keep

# ---- C code that holds the GIL -------------------------------------------------------------------


computing = Group("C code that holds the GIL")

FLOAT: Final = 2.2250738585072011e-308
"""One whose decimal digits take long, so that what holds many needs not be huge."""

MILLION: Final = 1_000_000


def _unlimited(convert: Callable[[Any], object], value: Any) -> Block:
    sys.set_int_max_str_digits(0)
    return partial(convert, value)


add = computing.add
about = "A catastrophic `re.match()`"
add("regex", about, lambda: partial(re.compile(r"(a+)+$").match, "a" * 60 + "b"), quick=True)
add("power", "`pow()` of big integers", lambda: partial(pow, 3, 500 * MILLION))
about = "`str()` of a huge integer"
add("int-to-str", about, lambda: _unlimited(str, 1 << 200 * MILLION))
add("str-to-int", "`int()` of a huge string", lambda: _unlimited(int, "9" * 50 * MILLION))
about = "`Decimal.exp()` with a million digits"
precise = partial(decimal.Context, prec=MILLION)
add("decimal-exp", about, lambda: partial(decimal.Decimal(2).exp, precise()))
add("represent", "`repr()` of a huge list", lambda: partial(repr, [FLOAT] * 20 * MILLION))
about = "`json.dumps()` of many records"
records = {"id": 1, "values": [FLOAT] * 10}
add("json-dumps", about, lambda: partial(json.dumps, [records] * 2 * MILLION))
# The encoder looks at signals when it writes an integer, and not when it writes a float.
about = "`json.dumps()` of a huge list of floats"
add("json-dumps-floats", about, lambda: partial(json.dumps, [FLOAT] * 20 * MILLION))
about = "`json.loads()` of something huge"
pair = f'"key":{FLOAT!r}'
add("json-loads", about, lambda: partial(json.loads, f"{{{','.join([pair] * 10 * MILLION)}}}"))
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
    large = import_module("numpy").ones((6000, 6000))
    return lambda: large @ large


@libraries.call()
def numpy_sort() -> Block:
    """`numpy`: `sort()` of a large array."""
    large = import_module("numpy").frombuffer(os.urandom(480 * MEGABYTE), dtype="S16").copy()
    block: Block = large.sort
    return block
