"""Reading code objects: instructions, exception tables and their handlers."""

from __future__ import annotations

import dis
import os
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._cpython import bytecode
from watchdog_lambda._cpython.bytecode import (
    _Opcodes,
    catches,
    hides_timeout,
    instructions,
    name_at,
    protected_by,
    protected_lines,
    protected_ranges,
)

if TYPE_CHECKING:
    from types import CodeType

STDLIB = Path(os.__file__).parent


def compiled(source: str) -> CodeType:
    namespace: dict[str, Any] = {}
    exec(compile(textwrap.dedent(source), "made.py", "exec"), namespace)  # noqa: S102
    code: CodeType = namespace["f"].__code__
    return code


NESTED = compiled(
    """
    def f(work):
        with work:
            try:
                for item in work():
                    try:
                        work(item)
                    except ValueError:
                        work(1)
            finally:
                work(2)
    """
)


def test_exception_table_is_parsed_as_by_dis() -> None:
    """The public format of the exception table is read as the private parser in dis reads it."""
    entries = dis._parse_exception_table(NESTED)  # type: ignore[attr-defined]

    assert [(e.start, e.end, e.target) for e in entries] == list(protected_ranges(NESTED))
    assert len(entries) > 5


def test_protected_by_gives_the_innermost_handler() -> None:
    """An offset is protected by its innermost handler, and by none outside of every ``try``."""
    start, _, target = next(protected_ranges(NESTED))

    assert protected_by(NESTED, start) == target
    assert protected_by(NESTED, 0) is None


def test_protected_by_agrees_with_the_table_at_every_instruction() -> None:
    """``protected_by`` agrees with the table at each instruction; an entry's end is exclusive."""
    entries = dis._parse_exception_table(NESTED)  # type: ignore[attr-defined]

    for offset in range(0, len(NESTED.co_code), 2):
        targets = [e.target for e in entries if e.start <= offset < e.end]
        assert protected_by(NESTED, offset) == (targets[0] if targets else None)


def test_compiler_generated_handler_catches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's own handler, known by its first instruction, catches nothing."""
    handlers = sorted({target for _, _, target in protected_ranges(NESTED)})
    own = NESTED.co_code[handlers[0] : handlers[0] + 2]
    monkeypatch.setattr(_Opcodes, "stop_iteration_error", own)

    assert not catches(NESTED, None)
    assert [catches(NESTED, handler) for handler in handlers] == [
        NESTED.co_code[handler : handler + 2] != own for handler in handlers
    ]
    monkeypatch.setattr(_Opcodes, "stop_iteration_error", b"")
    assert all(catches(NESTED, handler) for handler in handlers)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 adds no such handler")
def test_generator_has_compiler_generated_handler() -> None:
    """From 3.12 on the compiler puts a handler of its own around a generator."""
    bytecode.preload()
    code = compiled("def f(work):\n    yield work()\n")

    assert [catches(code, target) for _, _, target in protected_ranges(code)][-1] is False


def table(start: int, end: int, target: int) -> bytes:
    """Return an exception table with one entry."""

    def varint(value: int) -> bytes:
        digits = [value & 63]
        while value := value >> 6:
            digits.insert(0, value & 63)
        return bytes([*(digit | 64 for digit in digits[:-1]), digits[-1]])

    return b"".join(map(varint, (start // 2, (end - start) // 2, target // 2, 0)))


def test_hand_made_exception_table_is_parsed() -> None:
    """Offsets of one, two and three digits are read from a table made by hand."""
    for given in ((2, 4, 6), (100, 300, 500), (20_000, 20_100, 30_000)):
        assert list(protected_ranges(SimpleNamespace(co_exceptiontable=table(*given)))) == [given]  # type: ignore[arg-type]


def test_protected_lines_are_those_of_the_handler() -> None:
    """``protected_lines`` gives lines inside of the function, and none for an unknown handler.

    Lines are for threads whose instructions cannot be read.
    """
    last = max(line for _, _, line in NESTED.co_lines() if line is not None)

    for handler in {target for _, _, target in protected_ranges(NESTED)}:
        lines = protected_lines(NESTED, handler)
        assert lines
        assert NESTED.co_firstlineno < min(lines) <= max(lines) <= last
    assert protected_lines(NESTED, -1) == frozenset()


def test_protected_lines_are_those_in_the_try() -> None:
    """The lines of a block are those in its ``try``, without the handler's and those around it."""
    code = compiled(
        """
        def f(work):
            work(0)
            try:
                work(1)
                work(2)
            except ValueError:
                work(3)
            work(4)
        """
    )
    handler = next(target for _, _, target in protected_ranges(code))

    ranges = [(start, end) for start, end, target in protected_ranges(code) if target == handler]
    begins = {
        position[0]
        for offset, position in zip(range(0, 9999, 2), code.co_positions(), strict=False)
        if any(start <= offset < end for start, end in ranges)
    }

    assert protected_lines(code, handler) == begins
    assert {5, 6} <= begins <= {4, 5, 6}  # some versions have an instruction for the try itself


def test_protected_lines_exclude_the_else() -> None:
    """An ``else`` does not belong to the block, though its code follows at once."""
    code = compiled(
        """
        def f(work):
            try:
                work(1)
            except ValueError:
                work(2)
            else:
                work(3)
        """
    )
    handler = next(target for _, _, target in protected_ranges(code))

    lines = protected_lines(code, handler)

    assert 4 in lines
    assert 8 not in lines


def test_only_popen_fork_poll_hides_timeout() -> None:
    """Only ``poll()`` of multiprocessing's popen_fork.py hides a timeout.

    There any OSError means that the child has ended.
    """
    popen_fork = str(STDLIB / "multiprocessing" / "popen_fork.py")

    assert hides_timeout(popen_fork, "poll")
    assert not hides_timeout(popen_fork, "wait")
    assert not hides_timeout("popen_fork.py", "poll")


@pytest.mark.parametrize("statements", [1, 200, 11_000], ids=["near", "far", "farther"])
def test_instructions_are_read_as_by_dis(statements: int) -> None:
    """Instructions are read as dis reads them, with large arguments and jumps back."""
    bytecode.preload()
    code = compiled(
        f"""
        def f(work):
            number = 0
            while work():
                {"; ".join(f"number += {n}" for n in range(statements))}
        """
    )
    by_dis = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]

    by_us = [*instructions(code)]

    assert [(i.offset, i.name, i.argument) for i in by_us] == [
        (i.offset, i.opname, i.arg or 0) for i in by_dis
    ]
    assert [i.jumps_to() for i in by_us if "JUMP_BACKWARD" in i.name] == [
        i.argval for i in by_dis if "JUMP_BACKWARD" in i.opname
    ]
    ends = [-2, *(i.offset for i in by_us)]
    assert all(before < i.begin <= i.offset for before, i in zip(ends, by_us, strict=False))


def test_instruction_name_is_found_by_offset() -> None:
    """The instruction at an offset has its name; an offset outside of the code has none."""
    bytecode.preload()

    assert name_at(NESTED, 0) == "RESUME"
    assert name_at(NESTED, -1) == ""
    assert name_at(NESTED, len(NESTED.co_code)) == ""
