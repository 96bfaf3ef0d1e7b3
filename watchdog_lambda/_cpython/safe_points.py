"""Finds safe points: instructions at which a raise goes to the handler that the source shows.

An exception that a trace function raises at an instruction replaces that instruction, which then
has had no effect. CPython looks up the handler in a table of instruction ranges. The ranges match
the source only where the compiler expects an error. Elsewhere a raise can

- land between the call that enters a block and the block, so that what was entered is never left;
- land between the block's last instruction and the call that leaves it;
- leave the stack of handled exceptions one too deep, in the instructions around an ``except``;
- land between a coroutine and what it awaits, which is then never resumed;
- go to another handler, or to none, at a loop's jump back (gh-108214 up to 3.12, gh-130279).

Each of these regions ends within a few instructions, so a landing waits for the next safe point.
The same applies to a ``finally``, which must run to its end.
"""

from __future__ import annotations

import sys

from .bytecode import catches, instructions, name_at, protected_by, protected_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    from .bytecode import Instruction

# These cannot raise, so they may stand between a call and the block that it belongs to.
_MOVES = ("LOAD_FAST", "LOAD_DEREF", "STORE_", "UNPACK_", "NOP", "POP_TOP", "COPY", "SWAP")
# CPython keeps the handled exception between these instructions of an ``except``. It always leaves
# the last three out of the exception table.
_BOOKKEEPING = frozenset(
    {
        *("PUSH_EXC_INFO", "WITH_EXCEPT_START", "POP_EXCEPT", "RERAISE"),
        *("CLEANUP_THROW", "END_SEND", "NOP", "NOT_TAKEN"),
    }
)
_AFTER_AN_AWAIT = frozenset({"YIELD_VALUE", "RESUME", "JUMP_BACKWARD_NO_INTERRUPT", "END_SEND"})
_TELLS_NO_FINALLY = frozenset({"CHECK_EXC_MATCH", "CHECK_EG_MATCH", "WITH_EXCEPT_START"})
_CALLS = frozenset({"CALL", "PRECALL"})


class CodePoints:
    """The safe points of one code object."""

    __slots__ = ("_entries", "_finals", "_indices", "_jumps", "_offsets", "_safe", "code")

    def __init__(self, code: CodeType) -> None:
        self.code = code
        listing = [*instructions(code)]
        handlers = _handlers(code, listing)
        unsafe = {
            *_bookkeeping(listing, handlers),
            *_awaits(listing),
            *_approaches(listing, handlers),
            *_exits(code, listing, handlers),
            *_wrong_jumps(listing, handlers),
        }
        # A trace function may be called for a prefix as well, or for the prefix alone.
        self._safe = frozenset(
            offset
            for index, instruction in enumerate(listing)
            if index not in unsafe
            for offset in (instruction.begin, instruction.offset)
        )
        self._offsets = [instruction.offset for instruction in listing]
        # By offset. A frame that has called another one is at a cache of its call instruction.
        self._indices: list[int] = []
        for index, end in enumerate([*self._offsets[1:], listing[-1].end]):
            self._indices += [index] * (end // 2 - len(self._indices))
        self._jumps = frozenset(_jumps_looked_up_well(code, listing))
        self._entries = frozenset(_entries(listing, handlers))
        self._finals = frozenset(_finals(code, listing))

    def allows(self, lasti: int, *, in_a_finally: bool = False) -> bool:
        """Return whether a trace function may raise in place of the instruction at `lasti`."""
        return lasti in self._safe and (in_a_finally or lasti not in self._finals)

    def allows_after(self, lasti: int, *, in_a_finally: bool = False) -> bool:
        """Return whether a signal handler that runs after the instruction at `lasti` may raise."""
        index = self._index(lasti)
        at, following = self._offsets[index], self._offsets[index + 1 : index + 2]
        if at in self._jumps:
            return True
        return (
            "JUMP" not in name_at(self.code, at)
            and self.allows(at, in_a_finally=in_a_finally)
            and all(self.allows(offset, in_a_finally=in_a_finally) for offset in following)
        )

    def is_entry(self, lasti: int) -> bool:
        """Return whether the call at `lasti` enters a ``with``, which 3.14 does by a plain CALL."""
        return self._offsets[self._index(lasti)] in self._entries

    def is_in_a_finally(self, lasti: int) -> bool:
        """Return whether the instruction at `lasti` is in a ``finally`` of the source."""
        return self._offsets[self._index(lasti)] in self._finals

    def _index(self, lasti: int) -> int:
        return self._indices[max(lasti, 0) // 2]


def _handlers(code: CodeType, listing: list[Instruction]) -> list[int | None]:
    """Return, for each instruction, the handler around it in the source; None if there is none."""
    found: list[int | None] = [None] * len(listing)
    index = 0
    for start, end, target in protected_ranges(code):  # in order, and they do not overlap
        while index < len(listing) and listing[index].offset < start:
            index += 1
        handler = target if catches(code, target) else None
        while index < len(listing) and listing[index].offset < end:
            found[index] = handler
            index += 1
    return found


def _moves_before(
    listing: list[Instruction], index: int, handlers: list[int | None] | None = None
) -> Iterable[int]:
    """Yield the moves right before `index`; with `handlers`, only those with the same handler."""
    at = None if handlers is None else handlers[index]
    index -= 1
    while index >= 0 and listing[index].name.startswith(_MOVES):
        if handlers is not None and handlers[index] != at:
            return
        yield index
        index -= 1


def _bookkeeping(listing: list[Instruction], handlers: list[int | None]) -> Iterable[int]:
    for index, instruction in enumerate(listing):
        # At a store, a call's result would be lost.
        if instruction.name in _BOOKKEEPING or instruction.name.startswith(("STORE_", "UNPACK_")):
            yield index
        if instruction.name == "RERAISE" and index:
            yield index - 1  # in the compiler's own handler around a coroutine (3.12 and newer)
        if instruction.name == "POP_EXCEPT":
            # The moves between the clause's own range and this, as in a ``return``.
            yield from _moves_before(listing, index, handlers)


def _awaits(listing: list[Instruction]) -> Iterable[int]:
    is_after = False
    for index, instruction in enumerate(listing):
        is_after = instruction.name == "SEND" or (is_after and instruction.name in _AFTER_AN_AWAIT)
        if instruction.name == "SEND":
            # The awaited object is fetched, then None; on 3.15 with a NULL in between.
            yield from range(index - 2 - (listing[index - 2].name == "PUSH_NULL"), index)
        if is_after:
            yield index


def _approaches(listing: list[Instruction], handlers: list[int | None]) -> Iterable[int]:
    """Yield what is between a call and the block that it belongs to: ``lock.acquire()``, ``try:``.

    The table leaves out the ``NOP`` at the beginning of a ``try``, even inside another ``try``.
    """
    for index in range(1, len(listing)):
        if handlers[index] is not None and handlers[index] != handlers[index - 1]:
            yield from _moves_before(listing, index)


def _exits(code: CodeType, listing: list[Instruction], handlers: list[int | None]) -> Iterable[int]:
    """Yield what is between a ``with``'s last instruction and ``exit(None, None, None)``."""
    for index, instruction in enumerate(listing):
        if instruction.name not in _CALLS:
            continue
        nones = range(index - 3, index)
        if nones.start < 0 or not all(_is_none(code, listing[i]) for i in nones):
            continue
        yield from range(nones.start, index + 1)
        if instruction.name == "PRECALL":
            yield index + 1
        yield from _moves_before(listing, nones.start, handlers)


def _is_none(code: CodeType, instruction: Instruction) -> bool:
    if instruction.name == "LOAD_COMMON_CONSTANT":  # from 3.15 on; rarely another constant
        return True
    return instruction.name == "LOAD_CONST" and code.co_consts[instruction.argument] is None


def _wrong_jumps(listing: list[Instruction], handlers: list[int | None]) -> Iterable[int]:
    """Yield jumps whose handler in the table differs from that of their source or target."""
    by_offset = {instruction.begin: index for index, instruction in enumerate(listing)}
    for index, instruction in enumerate(listing):
        if "JUMP" not in instruction.name:
            continue
        if index and handlers[index] is None and handlers[index - 1] is not None:
            yield index
        elif "JUMP_BACKWARD" in instruction.name:
            target = by_offset.get(instruction.jumps_to() or 0)
            if target is not None and handlers[target] != handlers[index]:
                yield index


def _jumps_looked_up_well(code: CodeType, listing: list[Instruction]) -> Iterable[int]:
    """Yield jumps back at which a signal handler's raise goes to the handler around the loop.

    CPython looks up the handler of the jump itself, which 3.13 leaves out of the exception table
    (gh-130279); up to 3.12 that of the instruction before the jump's target (gh-108214).
    """
    for instruction in listing:
        if "JUMP_BACKWARD" in instruction.name and "NO_INTERRUPT" not in instruction.name:
            target, looked_up = instruction.jumps_to() or 0, instruction.offset
            if sys.version_info < (3, 13):
                looked_up = target - 2
            if protected_by(code, looked_up) == protected_by(code, target):
                yield instruction.offset


def _entries(listing: list[Instruction], handlers: list[int | None]) -> Iterable[int]:
    """Yield calls that enter a block: CPython checks for signals right after them (gh-148874)."""
    for index, handler in enumerate(handlers):
        begins = index and handler is not None and handler != handlers[index - 1]
        if begins and listing[index - 1].name == "CALL":
            yield listing[index - 1].offset


def _finals(code: CodeType, listing: list[Instruction]) -> Iterable[int]:
    """Yield the instructions of ``finally`` blocks.

    The compiler writes each one twice: for the case with an error, and for that without. The first
    is recognised by its end, the other because it has the same positions in the source.
    """
    by_offset = {instruction.begin: instruction for instruction in listing}
    places, ranges = [*code.co_positions()], [*protected_ranges(code)]
    found: set[tuple[int | None, ...]] = set()
    for target in {target for _, _, target in ranges}:
        begins = by_offset.get(target)
        if begins is None or begins.name != "PUSH_EXC_INFO":
            continue
        clean_up = next((t for start, end, t in ranges if start <= target < end), None)
        body = [
            instruction
            for start, end, t in ranges
            if t == clean_up
            for instruction in listing
            if start <= instruction.offset < end
        ]
        names = {instruction.name for instruction in body}
        ends = any(i.name == "RERAISE" and i.argument == 0 for i in body)
        if clean_up is not None and ends and not names & _TELLS_NO_FINALLY:
            found.update(places[i.offset // 2] for i in body if i.name not in _BOOKKEEPING)
    for instruction in listing:
        place = places[instruction.offset // 2]
        if place in found and place[0] is not None:
            yield from (instruction.begin, instruction.offset)
