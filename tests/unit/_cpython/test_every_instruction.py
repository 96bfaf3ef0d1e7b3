"""An interrupt at every instruction of random programs leaves nothing behind.

A nudge is simulated at each instruction: the frame to land in is looked up there, and then a trace
function raises at that frame's next safe point, as the package's does.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit._cpython.landing_programs import FILE, Ledger, Program, faults, programs
from watchdog_lambda._cpython.stacks import own_stack
from watchdog_lambda._cpython.target_frames import OWN, TargetFrames

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

pytestmark = pytest.mark.alone  # beyond the hard deadline a late interrupt lands in any frame

PROGRAMS = {"plain": 25, "coroutine": 25, "loop": 8}
MOST_LANDINGS = 120
"""The maximum number of interrupts in one program, spread over its instructions."""


class Due(BaseException):
    """The exception that lands."""


def is_due(error: BaseException) -> bool:
    """Return whether the error is a ``Due``, or a group that has one."""
    return isinstance(error, Due) or any(map(is_due, getattr(error, "exceptions", ())))


class Places:
    """A source map in which only the program's code is the user's own."""

    def is_own(self, file: str) -> bool:
        return file == FILE


class Nudged:
    """Runs a program in which an interrupt is due from its `at`-th instruction on."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.seen = 0
        self._frames = TargetFrames(Places())  # type: ignore[arg-type]
        self._target: FrameType | None = None
        self.landed: BaseException | None = None

    def run(self, program: Callable[[], object]) -> bool:
        """Return whether the interrupt has landed."""
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # 3.12 needs this in the frame where tracing begins
        sys.settrace(self._enter)
        try:
            program()
        except BaseException as error:
            if not is_due(error):
                raise
            self.landed = error
            return True
        finally:
            sys.settrace(before)
        return False

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Any:
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "return" and frame is self._target:
            self._target = None  # the next nudge finds another
        if event == "opcode":
            self.seen += 1
            if self.seen >= self._at:
                if self._target is None:
                    self._target, _ = self._frames.nearest(frame, OWN)
                if frame is self._target and self._frames.allows(frame, OWN):
                    sys.settrace(None)
                    raise Due(own_stack(frame), frame.f_lasti)
        return self._step


def check(program: Program) -> int:
    """Interrupt the program at many instructions, and return how often an interrupt landed."""
    length = Nudged(sys.maxsize)
    ledger: Ledger = []
    assert not length.run(program.make(ledger))
    assert faults(ledger) == [], program.source
    landed = 0
    for at in range(1, length.seen, max(1, length.seen // MOST_LANDINGS)):
        ledger = []
        nudged = Nudged(at)
        landed += nudged.run(program.make(ledger))
        assert faults(ledger) == [], f"at {at}, {nudged.landed!r}, of\n{program.source}\n{ledger}"
    return landed


@pytest.mark.untraced
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_interrupt_at_any_instruction_leaves_entered_blocks(kind: str) -> None:
    """Wherever an interrupt is due, each block that was entered is left.

    The programs are random, but the same ones in each run.
    """
    landed = [check(program) for program in programs(PROGRAMS[kind], kind)]

    assert min(landed) > 0
    assert sum(landed) > 20 * PROGRAMS[kind]


def test_ledger_check_finds_every_fault() -> None:
    """The check of the ledger finds each kind of fault."""
    assert faults([("enter", 1), ("leave", 1), ("finally", 2), ("end", 2)]) == []
    assert faults([("enter", 1)]) == ["1 entered and not left"]
    assert faults([("leave", 1)]) == ["1 left out of its turn"]
    assert faults([("enter", 1), ("enter", 2), ("leave", 1), ("leave", 2)])
    assert faults([("finally", 2)]) == ["finally 2 not run to its end"]
    assert faults([("wrong", 3)]) == ["a wrong answer (3)"]
