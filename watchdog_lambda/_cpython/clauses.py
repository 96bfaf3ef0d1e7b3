"""What becomes of an exception in the frames that it would go through: their ``except`` clauses.

Read from the bytecode, since nothing else says it: the exception table has the clause that an
instruction's errors go to, and the clause begins with what it catches. Only simple expressions are
worked out (names, attributes, tuples of those); no code of anybody's runs for it. What cannot be
worked out counts as catching.

Used only once the watchdog has fired.

Thread: that of the frames, as their variables are read.
"""

from __future__ import annotations

import types

from .bytecode import instructions, protected_by, protected_ranges
from .bytecode import preload as preload_bytecode
from .values import CALLED_DIFFERENTLY, Values, attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

    from .bytecode import Instruction

PASSES = "passes"
"""No clause catches it."""

RAISED_ON = "raised on"
"""One does, and raises it again."""

TAKEN = "taken"
"""One does, and goes on in its own way: with another error, another try, an answer."""

SUPPRESSED = "suppressed"
"""The manager of a ``with`` may take it."""

_MOST_HANDLERS = 50  # one inside of another, in one frame
_MOST_INSTRUCTIONS = 4000

_common: list[Any] = []
"""What LOAD_COMMON_CONSTANT loads, by index; None, True and False among them from 3.15 on."""


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    import opcode  # noqa: PLC0415 - not needed before the watchdog has something to watch

    preload_bytecode()
    _common[:] = getattr(opcode, "_common_constants", ())


def fate(frame: FrameType, kind: type[BaseException]) -> str:
    """What this frame does with a `kind` raised at its instruction: one of the words above."""
    code, at = frame.f_code, frame.f_lasti
    raised_on = False
    for _ in range(_MOST_HANDLERS):
        handler = protected_by(code, at)
        if handler is None:
            return RAISED_ON if raised_on else PASSES
        how, at = _through(frame, handler, kind)
        if at < 0:
            return SUPPRESSED if how == SUPPRESSED else TAKEN
        raised_on = raised_on or how == RAISED_ON
    return TAKEN


def comes_again(frame: FrameType) -> bool:
    """Whether the call that this frame is in may be made once more, whatever becomes of it now.

    In a loop, or by calling the function anew. Nothing of that is worked out: it may.
    """
    code, at = frame.f_code, frame.f_lasti
    if code.co_name in code.co_names:
        return True
    now = next(i for i in instructions(code) if i.offset <= at < i.end)  # 3.11: in its caches
    # An await is a loop of its own, around SEND, until what it awaits has ended.
    ends = now.jumps_to() if now.name == "SEND" else now.end
    starts = [start for start in (ends, protected_by(code, at)) if start is not None]
    reached = _reached_from(code, *starts, may_raise=True)
    return any(i.offset == now.offset for i in reached)


def is_handling(code: CodeType, lasti: int) -> bool:
    """Whether the instruction is in an ``except``, a ``finally`` or an ``__exit__`` under way.

    Such code is covered by a handler that only cleans up after it, and is not in the source.
    """
    handler = protected_by(code, lasti)
    if handler is None:
        return False
    first = next(instructions(code, handler), None)
    return first is not None and first.name in {"COPY", "LOAD_CONST", "LOAD_COMMON_CONSTANT"}


def _through(frame: FrameType, handler: int, kind: type[BaseException]) -> tuple[str, int]:
    """What `handler` makes of a `kind`, and the instruction that raises it on; -1: none does."""
    code = frame.f_code
    at, values = handler, Values(frame)
    if next(instructions(code, at)).name != "PUSH_EXC_INFO":
        return PASSES, _raised_again(code, at)  # it only tidies up
    for _ in range(_MOST_INSTRUCTIONS):
        instruction = next(instructions(code, at))
        if instruction.name == "WITH_EXCEPT_START":
            if _may_suppress(frame, handler):
                return SUPPRESSED, -1
            return PASSES, _raised_again(code, at)
        if instruction.name == "CHECK_EXC_MATCH":
            otherwise, body = _branches(code, instruction.end)
            if _matches(kind, values.pop()):
                return RAISED_ON, _end_of(code, body)
            at = otherwise
            continue
        if instruction.name == "RERAISE":
            return PASSES, instruction.offset  # no clause was for it
        if instruction.name == "POP_TOP" and not values.stack:
            return RAISED_ON, _end_of(code, instruction.end)  # a bare ``except``
        if not values.take(instruction):
            # No clause: a ``finally``, or a clause that calls something. Either ends somehow.
            return PASSES, _end_of(code, at)
        at = instruction.end
    return TAKEN, -1


def _end_of(code: CodeType, start: int) -> int:
    """Where the block that begins at `start` raises on what it handles; -1 if it may not do so."""
    ends: set[int] = set()
    for instruction in _reached_from(code, start):
        name = instruction.name
        if name == "RERAISE" or (name == "RAISE_VARARGS" and not instruction.argument):
            ends.add(instruction.offset)
        elif name in {"POP_EXCEPT", "RAISE_VARARGS"} or name.startswith("RETURN"):
            return -1
    return min(ends, default=-1)


def _reached_from(code: CodeType, *starts: int, may_raise: bool = False) -> Iterator[Instruction]:
    """The instructions that may run from there on; if one of them raises as well: `may_raise`."""
    seen: set[int] = set()
    pending = [*starts]
    while pending:
        for instruction in instructions(code, pending.pop()):
            if instruction.offset in seen or len(seen) > _MOST_INSTRUCTIONS:
                break
            seen.add(instruction.offset)
            yield instruction
            name, target = instruction.name, instruction.jumps_to()
            handler = protected_by(code, instruction.offset) if may_raise else None
            pending += [at for at in (target, handler) if at is not None]
            if name.startswith(("RERAISE", "RAISE", "RETURN")) or (
                name.startswith("JUMP") and "_IF_" not in name
            ):
                break


def _raised_again(code: CodeType, start: int) -> int:
    """The next instruction that raises on, in code without branches of its own."""
    for instruction in instructions(code, start):
        if instruction.name == "RERAISE":
            return instruction.offset
    return -1


def _branches(code: CodeType, start: int) -> tuple[int, int]:
    """Where the next conditional jump goes, and where it does not."""
    for instruction in instructions(code, start):
        target = instruction.jumps_to()
        if target is not None:
            return target, instruction.end
    return start, start


def _matches(kind: type[BaseException], caught: Any) -> bool:
    if issubclass(caught.__class__, tuple):  # not narrowed: strict checkers want the items named
        return any(_matches(kind, part) for part in caught)
    if isinstance(caught, type):
        return caught in kind.__mro__  # as CPython does it: an ABC has no say here
    return True  # unknown


def _may_suppress(frame: FrameType, handler: int) -> bool:
    """Whether the ``with`` that has this handler is known to end by taking what is raised in it.

    Known is a manager in a variable, if its ``__exit__`` is Python code that returns something.
    """
    code = frame.f_code
    begins = min(start for start, _, target in protected_ranges(code) if target == handler)
    loaded: Instruction | None = None
    before = ""
    for instruction in instructions(code, 0):
        if instruction.offset >= begins:
            break
        name, before = before, instruction.name
        if instruction.name == "CALL" and name == "LOAD_SPECIAL":
            continue  # of __enter__, which 3.15 does not count among what is protected
        if CALLED_DIFFERENTLY.get(instruction.name, instruction.name) == "LOAD_FAST":
            loaded = instruction
        elif instruction.name == "CALL" or instruction.name.startswith(("STORE", "LOAD_ATTR")):
            loaded = None  # what is entered was made on the spot
    values = Values(frame)
    if loaded is None or not values.take(loaded):
        return False
    leaves = getattr(attribute(values.pop(), "__exit__"), "__code__", None)
    return isinstance(leaves, types.CodeType) and _returns_something(leaves)


def _returns_something(code: CodeType) -> bool:
    before: Instruction | None = None
    for instruction in instructions(code, 0):
        if instruction.name == "RETURN_CONST":  # of 3.12 and 3.13
            if code.co_consts[instruction.argument]:
                return True
        elif instruction.name == "RETURN_VALUE":
            constants = {"LOAD_CONST": code.co_consts, "LOAD_COMMON_CONSTANT": _common}
            known = constants.get(before.name) if before else None
            if known is None or (before and known[before.argument]):
                return True
        if instruction.name != "CACHE":
            before = instruction
    return False
