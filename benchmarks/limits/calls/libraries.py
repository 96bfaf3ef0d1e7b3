"""One call into a C library that takes long: it lets the GIL go meanwhile."""

from __future__ import annotations

import bz2
import ctypes
import hashlib
import lzma
import os
import sqlite3
import zlib
from typing import TYPE_CHECKING

from benchmarks.limits.registry import Group, keep

from .threads import LONG

if TYPE_CHECKING:
    from benchmarks.limits.registry import Block

_MEGABYTE = 1024 * 1024

group = Group("C libraries that let the GIL go")


@group.call(quick=True)
def foreign_without_gil() -> Block:
    """`usleep()` through `ctypes.CDLL`."""
    libc = ctypes.CDLL(None)
    return lambda: libc.usleep(int(LONG * 1e6))


@group.call()
def foreign_lock() -> Block:
    """`pthread_mutex_lock()` through `ctypes.CDLL`."""
    # Goes on waiting after a signal, as the waits of many a driver do.
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    return lambda: libc.pthread_mutex_lock(mutex)


@group.call()
def sqlite_busy() -> Block:
    """`sqlite3`: a locked database, `timeout=60`."""
    holder, waiter = (keep(sqlite3.connect("busy.db", timeout=LONG)) for _ in range(2))
    holder.execute("BEGIN EXCLUSIVE")
    return lambda: waiter.execute("BEGIN EXCLUSIVE")


@group.call()
def sqlite_query() -> Block:
    """`sqlite3`: a long query."""
    database = keep(sqlite3.connect(":memory:"))
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    return lambda: database.execute(query).fetchone()


@group.call()
def pbkdf2() -> Block:
    """`hashlib.pbkdf2_hmac()`."""
    return lambda: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 10**9)


@group.call()
def scrypt() -> Block:
    """`hashlib.scrypt()`."""
    return lambda: hashlib.scrypt(b"password", salt=b"salt", n=2**14, r=8, p=2000)


@group.call()
def sha256() -> Block:
    """`hashlib.sha256()` of something huge."""
    huge = bytes(4096 * _MEGABYTE)
    return lambda: hashlib.sha256(huge)


@group.call(quick=True)
def zlib_compress() -> Block:
    """`zlib.compress()` of something huge."""
    huge = os.urandom(_MEGABYTE) * 400
    return lambda: zlib.compress(huge, 9)


@group.call()
def bz2_compress() -> Block:
    """`bz2.compress()` of something huge."""
    huge = os.urandom(_MEGABYTE) * 100
    return lambda: bz2.compress(huge)


@group.call()
def lzma_compress() -> Block:
    """`lzma.compress()` of something huge."""
    huge = os.urandom(_MEGABYTE) * 50
    return lambda: lzma.compress(huge)


@group.call()
def numpy_matmul() -> Block:
    """`numpy`: a product of large matrices."""
    import numpy as np

    large = np.ones((6000, 6000))
    return lambda: large @ large


@group.call()
def numpy_sort() -> Block:
    """`numpy`: `sort()` of a large array."""
    import numpy as np

    large = np.frombuffer(os.urandom(480 * _MEGABYTE), dtype="S16").copy()
    return large.sort
