"""Predicts what the ``except`` clauses of frames would do with an exception.

The answer is read from the bytecode: the exception table names the clause for an instruction's
errors, and the clause begins with the expression that it catches. Only simple expressions are
evaluated (names, attributes, tuples of those), without running any other code. A clause that cannot
be evaluated counts as catching.

Used only once the watchdog has fired.

Thread: that of the frames, because their variables are read.
"""

from __future__ import annotations

import sys
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
"""A clause catches it and raises it again."""

TAKEN = "taken"
"""A clause catches it and continues in its own way: with another error, a retry, or an answer."""

SUPPRESSED = "suppressed"
"""The context manager of a ``with`` may suppress it."""

_MOST_HANDLERS = 50  # nested in one frame
_MOST_INSTRUCTIONS = 4000

_common: list[Any] = []
"""The values of LOAD_COMMON_CONSTANT, by index. From 3.15 on, None, True and False are included."""


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    preload_bytecode()
    if sys.version_info >= (3, 14):  # pragma: no cover - from 3.14 on
        import opcode  # noqa: PLC0415 - not needed before the watchdog has something to watch

        _common[:] = getattr(opcode, "_common_constants", ())


def fate(frame: FrameType, kind: type[BaseException]) -> str:
    """Return what this frame does with a `kind` raised at its instruction, as a word from above."""
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
    """Return whether the frame's current call may be repeated: in a loop, or by recursion.

    Conditions are not evaluated: any path through the code counts.
    """
    code, at = frame.f_code, frame.f_lasti
    if code.co_name in code.co_names:
        return True
    # On 3.11 the frame is at one of the instruction's caches.
    now = next(i for i in instructions(code) if i.offset <= at < i.end)
    # An await is itself a loop around SEND, until the awaited object has ended.
    ends = now.jumps_to() if now.name == "SEND" else now.end
    starts = [start for start in (ends, protected_by(code, at)) if start is not None]
    reached = _reached_from(code, *starts, may_raise=True)
    return any(i.offset == now.offset for i in reached)


def is_handling(code: CodeType, lasti: int) -> bool:
    """Return whether the instruction is in a running ``except``, ``finally`` or ``__exit__``.

    Such code is covered by a handler that is not in the source, and only cleans up after it.
    """
    handler = protected_by(code, lasti)
    if handler is None:
        return False
    first = next(instructions(code, handler), None)
    if first is not None and first.name == "CLEANUP_THROW":
        # From 3.12 on each await has a handler of its own, which raises it again.
        return is_handling(code, handler)
    return first is not None and first.name in {"COPY", "LOAD_CONST", "LOAD_COMMON_CONSTANT"}


def _through(frame: FrameType, handler: int, kind: type[BaseException]) -> tuple[str, int]:
    """Return what `handler` does with a `kind`, and which instruction re-raises it; -1 if none."""
    code = frame.f_code
    at, values = handler, Values(frame)
    if next(instructions(code, at)).name != "PUSH_EXC_INFO":
        return PASSES, _raised_again(code, at)  # it only cleans up
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
            return PASSES, instruction.offset  # no clause matches
        if instruction.name == "POP_TOP" and not values.stack:
            return RAISED_ON, _end_of(code, instruction.end)  # a bare ``except``
        if not values.take(instruction):
            # This is a ``finally``, or a clause that calls something.
            return PASSES, _end_of(code, at)
        at = instruction.end
    return TAKEN, -1


def _end_of(code: CodeType, start: int) -> int:
    """Return where the block that begins at `start` re-raises; -1 if it may end in another way."""
    ends: set[int] = set()
    for instruction in _reached_from(code, start):
        name = instruction.name
        if name == "RERAISE" or (name == "RAISE_VARARGS" and not instruction.argument):
            ends.add(instruction.offset)
        elif name in {"POP_EXCEPT", "RAISE_VARARGS"} or name.startswith("RETURN"):
            return -1
    return min(ends, default=-1)


def _reached_from(code: CodeType, *starts: int, may_raise: bool = False) -> Iterator[Instruction]:
    """Yield the instructions that may run from `starts` on. With `may_raise`, follow errors too."""
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
    """Return the next instruction that re-raises, in code without branches."""
    for instruction in instructions(code, start):
        if instruction.name == "RERAISE":
            return instruction.offset
    return -1


def _branches(code: CodeType, start: int) -> tuple[int, int]:
    """Return the target of the next conditional jump, and the instruction after it."""
    for instruction in instructions(code, start):
        target = instruction.jumps_to()
        if target is not None:
            return target, instruction.end
    return start, start


def _matches(kind: type[BaseException], caught: Any) -> bool:
    if issubclass(caught.__class__, tuple):  # isinstance would narrow it to unknown items
        return any(_matches(kind, part) for part in caught)
    if isinstance(caught, type):
        return caught in kind.__mro__  # as in CPython, which does not consult ABCs here
    return True  # unknown


def _may_suppress(frame: FrameType, handler: int) -> bool:
    """Return whether the ``with`` of this handler is known to suppress errors.

    This is known only for a context manager in a variable whose ``__exit__`` is Python code that
    returns a value.
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
            continue  # the call of __enter__, which 3.15 does not protect
        if CALLED_DIFFERENTLY.get(instruction.name, instruction.name) == "LOAD_FAST":
            loaded = instruction
        elif instruction.name == "CALL" or instruction.name.startswith(("STORE", "LOAD_ATTR")):
            loaded = None  # the context manager was created on the spot
    values = Values(frame)
    if loaded is None or not values.take(loaded):
        return False
    leaves = getattr(attribute(values.pop(), "__exit__"), "__code__", None)
    return isinstance(leaves, types.CodeType) and _returns_something(leaves)


def _returns_something(code: CodeType) -> bool:
    before: Instruction | None = None
    for instruction in instructions(code, 0):
        if instruction.name == "RETURN_CONST":  # 3.12 and 3.13
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
