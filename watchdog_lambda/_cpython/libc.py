"""Calling functions of the C library and of CPython itself, without importing ``ctypes``.

``ctypes`` is a quarter of what this package would add to a cold start; ``_ctypes``, the extension
module that it is built on, does the work and takes a fraction of that. Importing this module raises
ImportError where ``_ctypes`` is not to be had, such as in isolated sub-interpreters.

Function objects made here are ours alone: those of ``ctypes.pythonapi`` are shared by the whole
process, and argument types that are set on them break its other users.
"""

from __future__ import annotations

import sys
from types import new_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ctypes: Any = __import__("_ctypes")  # private to CPython, and its types are those of ctypes

IS_64_BIT = sys.maxsize > 1 << 32
"""Whether the structures of the kernel have the layout that this package packs them in."""


def _kind(base: str, **fields: object) -> Any:
    return new_class("Kind", (getattr(_ctypes, base),), None, lambda names: names.update(fields))


Int = _kind("_SimpleCData", _type_="i")
UnsignedLong = _kind("_SimpleCData", _type_="L")
Pointer = _kind("_SimpleCData", _type_="P")
"""An address, as an ``int``; None is NULL."""
Bytes = _kind("_SimpleCData", _type_="z")
"""The address of a ``bytes`` object's content, which the function reads."""
Object = _kind("_SimpleCData", _type_="O")
"""A Python object, as itself."""
Words = _kind("Array", _type_=UnsignedLong, _length_=64)
"""Room that a function writes to; it is given ``address(words)``."""

address: Callable[[Any], int] = _ctypes.addressof

# PYTHONAPI: the GIL is kept, for no call takes long enough to be worth letting it go.
_Function = _kind(
    "CFuncPtr", _flags_=_ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI, _restype_=Int
)


def function(name: str, *argument_types: object, library: str | None = None) -> Callable[..., int]:
    """The C function of this name that returns an ``int``; from what is loaded, or a `library`.

    Raises:
        OSError: there is no such library, or no such function in it.
    """
    found: Any = _Function(_ctypes.dlsym(_ctypes.dlopen(library, 0), name))
    found.argtypes = argument_types
    result: Callable[..., int] = found
    return result
