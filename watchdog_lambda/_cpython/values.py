"""Evaluates simple expressions in a frame's code, without running any other code.

It supports names, attributes and tuples of those, which is what most ``except`` clauses have.

Thread: that of the frame, because its variables are read.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    from .bytecode import Instruction

_UNKNOWN = object()

CALLED_DIFFERENTLY = {
    "LOAD_FAST_CHECK": "LOAD_FAST",
    "LOAD_FAST_BORROW": "LOAD_FAST",
    "LOAD_CLASSDEREF": "LOAD_DEREF",
    "LOAD_NAME": "LOAD_GLOBAL",
}
_IGNORED = {"CACHE", "RESUME", "NOP", "NOT_TAKEN", "PUSH_NULL", "PUSH_EXC_INFO", "COPY_FREE_VARS"}


class Values:
    """The values that a clause has loaded so far: a model of the interpreter's stack."""

    __slots__ = ("_frame", "stack")

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame
        self.stack: list[Any] = []

    def pop(self) -> Any:
        return self.stack.pop() if self.stack else _UNKNOWN

    def take(self, instruction: Instruction) -> bool:
        """Simulate one instruction. Return False if it does not occur in a simple clause."""
        code, argument = self._frame.f_code, instruction.argument
        name = CALLED_DIFFERENTLY.get(instruction.name, instruction.name)
        if name in _IGNORED:
            return True
        if name == "LOAD_GLOBAL":
            # The lowest bit marks calls; LOAD_NAME does not have it.
            index = argument >> 1 if instruction.name == name else argument
            self.stack.append(self._named(code.co_names[index]))
        elif name in {"LOAD_FAST", "LOAD_DEREF"}:
            variables = code.co_varnames + _cells(code)
            known = argument < len(variables)
            self.stack.append(
                self._frame.f_locals.get(variables[argument], _UNKNOWN) if known else _UNKNOWN
            )
        elif name == "LOAD_ATTR":
            # From 3.12 on the lowest bit marks calls here, too.
            index = argument >> 1 if sys.version_info >= (3, 12) else argument
            self.stack.append(attribute(self.pop(), code.co_names[index]))
        elif name == "BUILD_TUPLE":
            parts = tuple(self.pop() for _ in range(argument))
            self.stack.append(parts)
        else:
            return False
        return True

    def _named(self, name: str) -> Any:
        frame = self._frame
        for scope in (frame.f_globals, frame.f_builtins):
            if name in scope:
                return scope[name]
        return frame.f_locals.get(name, _UNKNOWN)  # in the body of a class or module


def _cells(code: CodeType) -> tuple[str, ...]:
    """Return the variables that follow the local ones in the interpreter's order."""
    return (
        *(name for name in code.co_cellvars if name not in code.co_varnames),
        *code.co_freevars,
    )


def attribute(holder: Any, name: str) -> Any:
    """Look up an attribute without running any code."""
    if not isinstance(holder, type):
        try:
            own: dict[str, Any] = object.__getattribute__(holder, "__dict__")
        except AttributeError:
            own = {}
        if name in own:
            return own[name]
    for base in (holder if isinstance(holder, type) else type(holder)).__mro__:
        if name in vars(base):
            return vars(base)[name]
    return _UNKNOWN
