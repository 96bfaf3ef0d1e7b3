"""One cell of the chaos: the soak's invocations under one condition, in a process of its own."""

# Whether the watchdog has a thread is internal to the core.
# ruff: noqa: SLF001

from __future__ import annotations

import bdb
import errno
import itertools
import random
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

from tools import ending
from tools.soak import attached, conditions
from tools.soak.attached import Condition, Debugger, Monitor, Profiler, Tracer, Unavailable
from tools.soak.cell import Cell, Soak
from tools.soak.conditions import CONDITIONS
from tools.soak.shot import Shot
from watchdog_lambda import Interrupt, LambdaTimeout
from watchdog_lambda._process import process_watchdog

_NO_END: Final = 1_000_000_000  # invocations: the time ends it

_SHORT: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE}


_FILES: Final = {__file__, attached.__file__, conditions.__file__, bdb.__file__}
"""Where the conditions' code is."""

_LOOPS: Final = {"async def, waits", "async def, computes", "asyncio.run", "kept loop"}


class Chaos(Soak):
    def __init__(self, conditions: Sequence[Condition], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.conditions = conditions
        if any(
            isinstance(condition, Tracer | Profiler | Debugger | Monitor)
            for condition in conditions
        ):
            # Their code runs inside of a loop's own callbacks, too. One that is interrupted there
            # is lost, as with an injection, and the loop may wait for ever.
            pairs = zip(self.kinds, self.watched, strict=True)
            kept = [(kind, watched) for kind, watched in pairs if kind.name not in _LOOPS]
            self.kinds, self.watched = map(list, zip(*kept, strict=True))
            self.weights = [*itertools.accumulate(kind.weight for kind in self.kinds)]

    def _shoot(self, number: int) -> None:
        around = [condition.around(number) for condition in self.conditions]
        for each in around:
            next(each)
        try:
            super()._shoot(number)
        finally:
            for each in reversed(around):
                next(each, None)

    def _problem(self, shot: Shot, result: object, error: BaseException | None) -> str | None:
        problem = super()._problem(shot, result, error)
        if problem == "was not interrupted" and process_watchdog._thread_id is None:
            self.count["known: no thread to be had"] += 1
            return None
        if problem is not None and error is not None and _is_the_conditions(error):
            # Python code of the tool's ran between the handler's last lines, and was interrupted;
            # or there was too little of something for the handler itself.
            self.count["known: due to the condition"] += 1
            return None
        return problem

    def violated(
        self, what: str, shot: Shot | None = None, error: BaseException | None = None
    ) -> None:
        if what == "a finally was skipped" and error is not None and _is_the_conditions(error):
            # It had begun: a tool's code for its first line is what was interrupted.
            self.count["known: due to the condition"] += 1
            return
        super().violated(what, shot, error)

    def saw_unraisable(self, event: sys.UnraisableHookArgs) -> None:
        error = event.exc_value
        if isinstance(error, LambdaTimeout | Interrupt) and (
            _is_in(error, "__del__") or _is_the_conditions(error)
        ):
            # In a finaliser's callee: a signal's handler or a tool that runs in there.
            self.count["dropped by C code"] += 1
            return
        super().saw_unraisable(event)

    def result(self) -> dict[str, Any]:
        came_to = super().result()
        # How close the ends come is for the soak to judge; most conditions spoil the aim.
        self.violations.pop("nothing is shown: no invocation came close to the race", None)
        return came_to


def _is_in(error: BaseException, function: str) -> bool:
    """Whether it has come through a function of this name."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == function for frame, _ in frames)


def _is_the_conditions(error: BaseException) -> bool:
    """Whether it was raised in a condition's own frames, or for lack of what it takes away."""
    seen: BaseException | None = error
    while seen is not None:
        lacks = (
            isinstance(seen, MemoryError | RecursionError)
            or (isinstance(seen, OSError) and seen.errno in _SHORT)
            or (isinstance(seen, RuntimeError) and "start new thread" in str(seen))
        )
        files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(seen.__traceback__)]
        if lacks or (files and files[-1] in _FILES):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


class ChaosCell(Cell):
    soak: Chaos

    def run(self) -> None:
        try:
            for condition in self.soak.conditions:
                condition.begin()
        except Unavailable as error:
            print(error, file=sys.stderr)
            sys.exit(ending.SKIPPED)
        super().run()

    def _write(self) -> None:
        for condition in self.soak.conditions:
            condition.end()
        super()._write()


def main(arguments: list[str]) -> None:
    """Run one cell: condition, delivery, seed, seconds."""
    condition, delivery, seed, seconds = arguments
    chance = random.Random(f"{seed} {condition}")  # noqa: S311 - nothing secret
    conditions = [kind(chance) for kind in CONDITIONS[condition]]
    ChaosCell(Chaos(conditions, delivery, _NO_END, int(seed), float(seconds))).run()


if __name__ == "__main__":
    main(sys.argv[1:])
