"""The names of opcodes are those of the interpreter."""

from __future__ import annotations

import opcode
import sys
from typing import TYPE_CHECKING

from watchdog_lambda._cpython import opcodes
from watchdog_lambda._cpython.opcodes import opcode_names

if TYPE_CHECKING:
    import pytest


def _actual() -> tuple[str, ...]:
    names = ("" if name.startswith("<") else name for name in opcode.opname[:256])
    # The instrumented ones replace others in running code only; `co_code` never has them. The
    # interpreter lists specialised ones, too, which `co_code` does not have either.
    official = {name for name in opcode.opmap if not name.startswith("INSTRUMENTED_")}
    return tuple(name if name in official else "" for name in names)


def test_opcode_names_are_the_interpreters() -> None:
    """Each opcode that a code object may contain has the interpreter's name."""
    known = opcode_names()

    assert len(known) == 256
    assert [
        (number, name, known[number])
        for number, name in enumerate(_actual())
        if name and known[number] != name
    ] == []
    assert all(name in opcode.opmap for name in known if name)


def test_unknown_version_gets_names_from_opcode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is not listed, and has no module with the names, gets them from ``opcode``."""
    listed = opcode_names()
    monkeypatch.setattr(opcodes, "_LISTED", {})
    monkeypatch.setitem(sys.modules, "_opcode_metadata", None)

    looked_up = opcode_names()

    assert [name for name in listed if name and name not in looked_up] == []
    assert [looked_up[number] for number, name in enumerate(listed) if name] == [
        *filter(None, listed)
    ]
