"""Calls functions of the C library and of CPython itself, without importing ``ctypes``.

``ctypes`` would be a quarter of what this package adds to a cold start. ``_ctypes``, the extension
module that it is built on, does the work in a fraction of that time. Importing this module raises
ImportError if ``_ctypes`` is not available, for example in isolated sub-interpreters.

The function objects made here are private: those of ``ctypes.pythonapi`` are shared by the whole
process, and setting argument types on them would break other users.
"""

from __future__ import annotations

import os
import sys
from types import new_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ctypes: Any = __import__("_ctypes")  # private to CPython, so type checkers do not know it

IS_64_BIT = sys.maxsize > 1 << 32
"""Whether the kernel's structures have the layout that this package assumes."""


def _kind(base: str, **fields: object) -> Any:
    return new_class("Kind", (getattr(_ctypes, base),), None, lambda names: names.update(fields))


Int = _kind("_SimpleCData", _type_="i")
UnsignedLong = _kind("_SimpleCData", _type_="L")
Pointer = _kind("_SimpleCData", _type_="P")
"""An address, as an ``int``; None is NULL."""
Bytes = _kind("_SimpleCData", _type_="z")
"""The address of a ``bytes`` object's content, which the function reads."""
Object = _kind("_SimpleCData", _type_="O")
"""A Python object."""
Words = _kind("Array", _type_=UnsignedLong, _length_=64)
"""A buffer that a function writes to. Pass ``address(words)``."""

address: Callable[[Any], int] = _ctypes.addressof

# PYTHONAPI keeps the GIL: no call takes long enough to be worth releasing it.
_Function = _kind(
    "CFuncPtr", _flags_=_ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI, _restype_=Int
)


def function(name: str, *argument_types: object, library: str | None = None) -> Callable[..., int]:
    """Return the C function of this name, which returns an ``int``.

    It is looked up in what is loaded already, or in `library`.

    Raises:
        OSError: there is no such library, or no such function in it.
    """
    found: Any = _Function(_ctypes.dlsym(_ctypes.dlopen(library, 0), name))
    found.argtypes = argument_types
    result: Callable[..., int] = found
    return result


# In place of the functions of ``os``, which release the GIL. An error is a result of -1 here.
close, lseek = function("close", Int), function("lseek", Int, UnsignedLong, Int)
_open, _read = function("open", Bytes, Int), function("read", Int, Pointer, UnsignedLong)
_pread = function("pread", Int, Bytes, UnsignedLong, UnsignedLong)
try:
    _memfd_create: Callable[..., int] | None = function("memfd_create", Bytes, Int)
except OSError:  # glibc before 2.27
    _memfd_create = None

_MFD_CLOEXEC = 1

_ROOM = 64 * 8
"""Bytes of ``Words``."""


def content_of(path: str) -> bytes:
    """Return the content of one of the kernel's files, read while the GIL is kept.

    Empty if there is none. Python's ``open()`` releases the GIL six times for a file that is read
    in microseconds, and each time every thread that computes gets a turn: with fifty of them, a
    look at all processes took a minute. Thread: any.
    """
    content = b""
    descriptor = _open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor >= 0:
        room = Words()
        while (count := _read(descriptor, address(room), _ROOM)) > 0:
            content += bytes(room)[:count]
        close(descriptor)
    return content


def memfd_create(name: str) -> int:
    """Do what ``os.memfd_create`` does, with the GIL kept; and raise what it raises."""
    descriptor = -1 if _memfd_create is None else _memfd_create(name.encode(), _MFD_CLOEXEC)
    return descriptor if descriptor >= 0 else os.memfd_create(name)


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """Do what ``os.pread`` does, with the GIL kept; empty if that is not possible."""
    content = bytes(max(size, 0))  # new, and nobody else's, so the kernel can write to it
    return content[: max(_pread(descriptor, content, size, offset), 0)]
