"""One cell of the soak: all invocations of one delivery, in a process of its own.

:mod:`tools.soak.command` starts it, reads the lines that the timeouts leave on its standard output,
and its result, which is the last of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import itertools
import json
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import Final

from tools import ending
from tools.soak.judge import CALIBRATORS, Judge
from tools.soak.kinds import kinds
from tools.soak.shot import Shot, watch_the_watchdog
from watchdog_lambda._config import Settings
from watchdog_lambda._engine.interrupts import LATE_PATIENCE

_SPREAD: Final = 60e-6  # an invocation aims this much to either side of the watchdog's act
_SWITCH_INTERVAL: Final = 10e-6
"""Seconds. The default of 5 ms keeps the watchdog from the GIL so long; and the shorter, the more
of the handler's instructions see it change hands. At 5 us threads starve each other."""

_STUCK: Final = 5.0  # seconds: a call that takes longer is stuck
_FIRST_PROGRESS: Final = 1.0  # seconds; then
_PROGRESS: Final = 4.0
_CALIBRATING: Final = 30  # invocations at the start that are of these kinds
_LAST_LINE: Final = 0.1  # seconds for the watchdog thread to write the last timeout's line
_ALL_BLOCKS: Final = "blocks"  # all kinds that are called in a block


class Soak(Judge):
    """All invocations of one delivery, and their results."""

    def __init__(
        self, delivery: str, invocations: int, seed: int, seconds: float, only: Sequence[str] = ()
    ) -> None:
        super().__init__(delivery)
        self.invocations = invocations
        self.ends_at = monotonic() + seconds
        self.random = random.Random(f"{seed} {delivery}")  # noqa: S311 - nothing secret
        self.began = 0.0  # of the call under way; 0: none is
        self.under_way: Shot | None = None  # the last one that was
        self.waited = 0  # nanoseconds, for a processor, as of the last look
        every = _ALL_BLOCKS in only
        self.kinds = [
            k for k in kinds(delivery) if not only or k.name in only or (every and k.around)
        ]
        weights = (kind.weight or float(kind.name in only) for kind in self.kinds)
        self.weights = [*itertools.accumulate(weights)]
        settings = Settings.from_environ({})
        self.watched = [kind.watched(settings) for kind in self.kinds]

    def run(self) -> None:
        """Fire all shots. Thread: main for nudges, any other for injections."""
        number = 0
        while number < self.invocations and not self.stopping:
            # Not in one loop with a try inside: what lands late may land on the loop itself.
            try:
                while number < self.invocations and not self.stopping:
                    number += 1
                    self._shoot(number)
            except BaseException as late:  # noqa: BLE001 - that it got here is the finding
                self.violated("landed between two invocations", None, late)

    def _shoot(self, number: int) -> None:
        if monotonic() > self.ends_at:
            self.stopping = True
            return
        index, shot = self._draw(number)
        watched = self.watched[index]
        result: object = None
        error: BaseException | None = None
        self.under_way = shot
        self.began = monotonic()
        try:
            result = watched(shot.token, shot)
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it is judged
            error = caught
        lasted = monotonic() - self.began
        self.began = 0.0
        # On a busy machine the threads may have to wait that long for a processor.
        if lasted > LATE_PATIENCE and lasted - self._waits() > LATE_PATIENCE:
            # Nothing kills here. An injection can land where a loop loses a callback by it.
            if self.delivery == "nudge":
                self.violated("hung, and was cut late", shot, error)
            self.count["cut late"] += 1
        try:
            self._stay(number)
        except BaseException as late:  # noqa: BLE001 - that it got here is the finding
            self.violated("landed after its invocation", shot, late)
        self._judge(shot, result, error)

    def _waits(self) -> float:
        """Return how many seconds the threads have waited for a processor since the last call."""
        waited, before = 0, self.waited
        with contextlib.suppress(OSError):  # no descriptor is left; or a thread has just ended
            for task in Path("/proc/self/task").iterdir():
                # See the kernel's Documentation/scheduler/sched-stats.rst.
                waited += int((task / "schedstat").read_text().split()[1])
            self.waited = waited
        return (self.waited - before) / 1e9

    def _draw(self, number: int) -> tuple[int, Shot]:
        draw = self.random.random
        calibrating = [i for i, k in enumerate(self.kinds) if k.name.startswith(CALIBRATORS)]
        if number <= _CALIBRATING and calibrating:
            index = calibrating[number % len(calibrating)]
        else:
            index = self.random.choices(range(len(self.kinds)), cum_weights=self.weights)[0]
        kind = self.kinds[index]
        near = (self.aim.fired if draw() < 0.4 else self.aim.pressed)[self.aim.case(kind)]
        offset = near + (2 * draw() - 1) * _SPREAD
        return index, Shot(number, kind, kind.length or 0.001 * (1 + 3 * draw()), offset)

    def _stay(self, number: int) -> None:
        """Be where a late interrupt would land: check points, and time for it to come."""
        if number % 3 == 0:
            return  # the next invocation at once, for one that would land in there
        self._waits()
        for i in range(20):
            str(i)
        sleep(0.003 if number % 64 == 1 else 50e-6)
        for i in range(20):
            str(i)


class Cell:
    """The process that one soak runs in: signals, progress, and the result as its last line."""

    def __init__(self, soak: Soak) -> None:
        self.soak = soak
        self._began = monotonic()
        self._is_over = threading.Event()

    def run(self) -> None:
        """Run the soak to its end. Thread: main."""
        faulthandler.enable()
        # The flag alone: a KeyboardInterrupt would be one more thing that lands somewhere.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        sys.unraisablehook = self.soak.saw_unraisable
        # A loop logs each exception that it stores.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        _wake_in_time()
        watch_the_watchdog()
        if self.soak.delivery == "nudge":
            monitor = threading.Thread(target=self._monitor, name="monitor")
            monitor.start()
            self.soak.run()
        else:
            # Where no nudge reaches it.
            handlers = threading.Thread(target=self._run_off_main, name="handlers")
            handlers.start()
            self._monitor()
            handlers.join()
        self._is_over.set()
        sleep(_LAST_LINE)
        self._write()

    def _run_off_main(self) -> None:
        self.soak.run()
        self._is_over.set()

    def _stop(self, _signum: int, _frame: FrameType | None) -> None:
        self.soak.stopping = True

    def _monitor(self) -> None:
        """Show how it goes, and end the process if it does not."""
        told = self._began
        while not self._is_over.wait(0.5):
            soak, now = self.soak, monotonic()
            if soak.began and now - soak.began > _STUCK:
                faulthandler.dump_traceback(all_threads=True)
                soak.violated("a call is stuck", soak.under_way)
                self._write()
                os._exit(1)
            if now - told >= (_PROGRESS if told > self._began else _FIRST_PROGRESS):
                told = now
                ending.tell_progress(
                    f"{sys.version.split()[0]} {soak.delivery}",
                    soak.count["invocations"],
                    soak.invocations,
                    seconds=now - self._began,
                    violations=soak.violations.total(),
                    to_go=soak.ends_at - now,
                )

    def _write(self) -> None:
        print(json.dumps(self.soak.result()), flush=True)


def _wake_in_time() -> None:
    """Have Linux end waits when they are over, and not up to 50 us later, to save wake-ups."""
    set_timer_slack = 29  # PR_SET_TIMERSLACK; nanoseconds; threads started later inherit it
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_timer_slack, 1, 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Run one cell: delivery, invocations, seed, seconds to its early end, and kinds if not all."""
    delivery, invocations, seed, seconds, *only = arguments
    Cell(Soak(delivery, int(invocations), int(seed), float(seconds), only)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
