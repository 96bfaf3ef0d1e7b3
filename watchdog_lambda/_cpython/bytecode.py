"""Reads code objects: their instructions, their exception tables, and where errors go.

Everything here except :func:`protect_entry` is a pure function of code objects and instruction
offsets, used only once the watchdog has fired.
"""

from __future__ import annotations

import os
import sys

from .opcodes import opcode_names
from .source import STDLIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FunctionType

RESUMABLE = 0x2A0
"""``inspect``'s CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR."""

_CACHE = 0  # the opcode of CACHE in every version


class _Opcodes:
    """The names of this interpreter's opcodes; filled by :func:`preload`."""

    names: tuple[str, ...] = ()
    stop_iteration_error = b""  # the first instruction of the compiler's own handler


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    _Opcodes.names = opcode_names()
    if sys.version_info >= (3, 12):  # pragma: no cover - from 3.12 on
        # INTRINSIC_STOPITERATION_ERROR is 3 in every version that has it (pycore_intrinsics.h).
        _Opcodes.stop_iteration_error = bytes((_Opcodes.names.index("CALL_INTRINSIC_1"), 3))


class Instruction:
    """One instruction of a code object; prefixes (``EXTENDED_ARG``) are part of it."""

    __slots__ = ("argument", "begin", "end", "name", "offset")

    def __init__(self, begin: int, offset: int, name: str, argument: int, end: int) -> None:
        self.begin = begin  # offset of its first prefix
        self.offset = offset
        self.name = name
        self.argument = argument
        self.end = end  # offset of the next instruction, after the caches of this one

    def jumps_to(self) -> int | None:
        """Return the target of a jump; None for any other instruction."""
        if "JUMP" not in self.name and self.name not in {"FOR_ITER", "SEND"}:
            return None
        distance = -2 * self.argument if "BACKWARD" in self.name else 2 * self.argument
        return self.end + distance


def instructions(code: CodeType, start: int = 0) -> Iterator[Instruction]:
    """Yield the code's instructions in order, from the offset `start` on."""
    bytecode, names = code.co_code, _Opcodes.names
    begin, argument = -1, 0
    offset = start
    while offset + 1 < len(bytecode):
        if begin < 0:
            begin = offset
        name, argument = names[bytecode[offset]], argument | bytecode[offset + 1]
        end = offset + 2
        while end + 1 < len(bytecode) and bytecode[end] == _CACHE:
            end += 2
        if name == "EXTENDED_ARG":
            argument <<= 8
        else:
            yield Instruction(begin, offset, name, argument, end)
            begin, argument = -1, 0
        offset = end


def name_at(code: CodeType, lasti: int) -> str:
    """Return the name of the instruction that a frame is at; empty before the first one."""
    if 0 <= lasti < len(code.co_code):
        return _Opcodes.names[code.co_code[lasti]]
    return ""


def protected_ranges(code: CodeType) -> Iterator[tuple[int, int, int]]:
    """Yield the code's exception table as ``(start, end, target)`` byte offsets, in order.

    CPython's ``InternalDocs/exception_handling.md`` describes the format: four varints of six bits
    a byte, most significant first, in units of two bytes. Bit 7 marks the first byte of an entry,
    and bit 6 says that more bytes follow.
    """
    table = iter(code.co_exceptiontable)

    def varint() -> int:
        byte = next(table)
        value = byte & 63
        while byte & 64:
            byte = next(table)
            value = (value << 6) | (byte & 63)
        return value

    while True:
        try:
            start = varint() * 2
        except StopIteration:
            return
        length = varint() * 2
        target = varint() * 2
        varint()  # stack depth and the lasti flag
        yield start, start + length, target


def protect_entry(function: FunctionType) -> None:
    """Make the ``try`` at the beginning of a function cover the function's entry as well.

    An injection that lands in a function while it is being called is raised there, before its first
    line. (Generators are different: they are also entered when they continue.)
    """
    table = function.__code__.co_exceptiontable
    ends = [i + 1 for i, byte in enumerate(table[:40]) if not byte & 64]  # the end of each varint
    # Prepend one entry, from 0 to the start of the first one, with the same handler.
    entry = bytes((128, table[0] & 63)) + table[ends[1] : ends[3]]
    function.__code__ = function.__code__.replace(co_exceptiontable=entry + table)


def protected_by(code: CodeType, lasti: int) -> int | None:
    """Return the offset of the handler for an exception raised at `lasti`; None without one."""
    for start, end, target in protected_ranges(code):
        if start <= lasti < end:
            return target
    return None


def catches(code: CodeType, handler: int | None) -> bool:
    """Return whether `handler` is in the source: an ``except``, a ``finally`` or a ``with``.

    From 3.12 on the compiler puts its own handler around every generator and coroutine, which turns
    StopIteration into RuntimeError.
    """
    if handler is None:
        return False
    return code.co_code[handler : handler + 2] != _Opcodes.stop_iteration_error


def protected_lines(code: CodeType, handler: int) -> frozenset[int]:
    """Return the lines whose exceptions go to `handler`."""
    ranges = [(start, end) for start, end, target in protected_ranges(code) if target == handler]
    return frozenset(
        line
        for begin, finish, line in code.co_lines()
        if line is not None and any(start < finish and begin < end for start, end in ranges)
    )


_TAKES_OSERROR_FOR_AN_ANSWER = (STDLIB + os.path.join("multiprocessing", "popen_fork.py"), "poll")
"""Process.join() waits there, and any OSError makes it return as if the child had ended."""


def hides_timeout(file: str, function: str) -> bool:
    """Return whether this frame turns a TimeoutError into a wrong answer for its caller."""
    return (file, function) == _TAKES_OSERROR_FOR_AN_ANSWER
