"""Reading code objects: instructions, exception tables, and where what is raised goes.

Everything here but :func:`protect_entry` is a pure function of code objects and instruction
offsets, used only once the watchdog has fired.
"""

from __future__ import annotations

import os
import sys

from .source import STDLIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FunctionType

RESUMABLE = 0x2A0
"""``inspect``'s CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR."""

_CACHE = 0  # in every version


class _Opcodes:
    """What this interpreter calls its instructions; filled by :func:`preload`."""

    names: tuple[str, ...] = ()
    stop_iteration_error = b""  # the compiler's own handler, as it begins


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    import opcode  # noqa: PLC0415 - not needed before the watchdog has something to watch

    _Opcodes.names = tuple(opcode.opname)
    if sys.version_info >= (3, 12):  # pragma: no cover - from 3.12 on
        # INTRINSIC_STOPITERATION_ERROR is 3 in every version that has it (pycore_intrinsics.h).
        _Opcodes.stop_iteration_error = bytes((opcode.opmap["CALL_INTRINSIC_1"], 3))


class Instruction:
    """One instruction of a code object; prefixes (``EXTENDED_ARG``) are part of it."""

    __slots__ = ("argument", "begin", "end", "name", "offset")

    def __init__(self, begin: int, offset: int, name: str, argument: int, end: int) -> None:
        self.begin = begin  # of its first prefix
        self.offset = offset
        self.name = name
        self.argument = argument
        self.end = end  # where the next one begins, after the caches of this one

    def jumps_to(self) -> int | None:
        """Where a jump goes; None for any other instruction."""
        if "JUMP" not in self.name and self.name not in {"FOR_ITER", "SEND"}:
            return None
        distance = -2 * self.argument if "BACKWARD" in self.name else 2 * self.argument
        return self.end + distance


def instructions(code: CodeType, start: int = 0) -> Iterator[Instruction]:
    """The code's instructions in order, from the offset `start` on."""
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
    """The name of the instruction that a frame is at; empty before its first."""
    if 0 <= lasti < len(code.co_code):
        return _Opcodes.names[code.co_code[lasti]]
    return ""


def protected_ranges(code: CodeType) -> Iterator[tuple[int, int, int]]:
    """The code's exception table as ``(start, end, target)`` byte offsets, in order.

    The format is CPython's ``InternalDocs/exception_handling.md``: four varints of six bits a byte,
    most significant first, in units of two bytes; bit 7 marks an entry's first byte and bit 6 says
    that more follow.
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
    """Have the ``try`` that a function begins with cover the function's entry as well.

    What is injected into a function that is being called is raised there, before its first line.
    Generators are entered elsewhere, when they go on.
    """
    table = function.__code__.co_exceptiontable
    ends = [i + 1 for i, byte in enumerate(table[:40]) if not byte & 64]  # of each varint
    # One more entry, in front: from 0 to where the first one starts, to the same handler.
    entry = bytes((128, table[0] & 63)) + table[ends[1] : ends[3]]
    function.__code__ = function.__code__.replace(co_exceptiontable=entry + table)


def protected_by(code: CodeType, lasti: int) -> int | None:
    """The offset of the handler that an exception raised at `lasti` goes to; None if none."""
    for start, end, target in protected_ranges(code):
        if start <= lasti < end:
            return target
    return None


def catches(code: CodeType, handler: int | None) -> bool:
    """Whether `handler` is one that the source has: an ``except``, a ``finally`` or a ``with``.

    From 3.12 on the compiler puts one of its own around every generator and coroutine, which turns
    StopIteration into RuntimeError.
    """
    if handler is None:
        return False
    return code.co_code[handler : handler + 2] != _Opcodes.stop_iteration_error


def protected_lines(code: CodeType, handler: int) -> frozenset[int]:
    """The lines whose exceptions go to `handler`."""
    ranges = [(start, end) for start, end, target in protected_ranges(code) if target == handler]
    return frozenset(
        line
        for begin, finish, line in code.co_lines()
        if line is not None and any(start < finish and begin < end for start, end in ranges)
    )


_TAKES_OSERROR_FOR_AN_ANSWER = (STDLIB + os.path.join("multiprocessing", "popen_fork.py"), "poll")
"""Process.join() waits in there, and any OSError has it return as if the child had ended."""


def hides_timeout(file: str, function: str) -> bool:
    """Whether this frame turns a TimeoutError into a wrong answer that its caller goes on with."""
    return (file, function) == _TAKES_OSERROR_FOR_AN_ANSWER
