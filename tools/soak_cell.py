"""One cell of the soak: all invocations of one delivery, in a process of its own.

:mod:`tools.soak` starts it, reads the lines that the timeouts leave on its standard output, and its
result, which is the last of them.
"""

# The probe needs to know when the watchdog acts, which is internal to the core.
# ruff: noqa: SLF001

from __future__ import annotations

import collections
import contextlib
import ctypes
import faulthandler
import itertools
import json
import logging
import math
import os
import random
import signal
import sys
import threading
import traceback
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from tools.soak_kinds import BLOCK, Shot, kinds
from watchdog_lambda import Interrupt, LambdaTimeout, TimeLimitExceeded
from watchdog_lambda._config import Settings
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine.current import under_way
from watchdog_lambda._engine.interrupts import LATE_PATIENCE
from watchdog_lambda._engine.limits import innermost
from watchdog_lambda._engine.press import Press
from watchdog_lambda._engine.watchdog import WatchdogThread
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import prepared

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from tools.soak_kinds import Kind

RESULT: Final = "soak.result"
"""The event of the last line."""

CLOSE: Final = 50e-6
"""Seconds from the handler's end within which the watchdog's act counts as a race."""

STEP: Final = 5e-6  # seconds: distances between the two are counted in steps of this,
STEPS: Final = 20  # and so many to either side

_SPREAD: Final = 60e-6  # an invocation aims this much to either side of the watchdog's act
_SWITCH_INTERVAL: Final = 10e-6
"""Seconds. The default of 5 ms keeps the watchdog from the GIL so long; and the shorter, the more
of the handler's instructions see it change hands. At 5 us threads starve each other."""

_STUCK: Final = 5.0  # seconds: a call that takes longer is stuck
_FIRST_PROGRESS: Final = 1.0  # seconds; then
_PROGRESS: Final = 4.0
_MOST_SAMPLES: Final = 5  # of each violation, with its traceback
_MOST_VIOLATIONS: Final = 200  # after so many it is no race any more, and each may take seconds
_CALIBRATORS: Final = ("overrun", "oversleep")  # kinds that show when the watchdog acts
_CALIBRATING: Final = 30  # invocations at the start that are of these kinds
_LAST_LINE: Final = 0.1  # seconds for the watchdog thread to write the last timeout's line
_FEW: Final = 1000  # invocations, of which none need be a race
_ALL_BLOCKS: Final = "blocks"  # all kinds that are called in a block


# ---- aiming --------------------------------------------------------------------------------------


class Aim:
    """How long after it is due the watchdog acts: a running median for each case.

    Learnt from the handlers that are still running then: the others show only the early ones.
    """

    _STEP: Final = 2e-6

    def __init__(self) -> None:
        self.fired: dict[Any, float] = collections.defaultdict(lambda: 100e-6)
        self.pressed: dict[Any, float] = collections.defaultdict(lambda: 250e-6)

    @staticmethod
    def case(kind: Kind) -> object:
        """Whether the handler blocks, and what it is called in."""
        return kind.blocks, kind.around

    def learn(self, shot: Shot) -> None:
        case = self.case(shot.kind)
        for median, instant in ((self.fired, shot.fired), (self.pressed, shot.pressed)):
            if instant:
                later = instant - shot.due > median[case]
                median[case] += self._STEP if later else -self._STEP


class _Probe:
    woke = 0.0  # the watchdog's last wake-up


def _watch_the_watchdog() -> None:
    """Have it leave the instants of its acts on the invocation's context, which is a shot."""
    look = WatchdogThread._look
    advance = WatchdogThread._advance
    press = Press.step

    def stamped_look(*arguments: Any) -> float:
        _Probe.woke = monotonic()
        return look(*arguments)

    def stamped_advance(self: Any, invocation: Any, *rest: Any) -> float:
        # A block's limit has none before the block's first line.
        if invocation.context is not None and not invocation.context.fired:
            invocation.context.fired = monotonic()
        return advance(self, invocation, *rest)

    def stamped_press(self: Any, *rest: Any) -> float:
        context: Any = self._firing.invocation.context
        if context is not None and not context.pressed:
            context.pressed = monotonic()
        return press(self, *rest)

    WatchdogThread._look = stamped_look  # type: ignore[method-assign,assignment]
    WatchdogThread._advance = stamped_advance  # type: ignore[method-assign,assignment]
    Press.step = stamped_press  # type: ignore[method-assign,assignment]


# ---- one delivery, in a process of its own -------------------------------------------------------


class Soak:
    """All invocations of one delivery, and their results."""

    def __init__(
        self, delivery: str, invocations: int, seed: int, seconds: float, only: Sequence[str] = ()
    ) -> None:
        self.delivery = delivery
        self.invocations = invocations
        self.seed = seed
        self.ends_at = monotonic() + seconds
        self.random = random.Random(f"{seed} {delivery}")  # noqa: S311 - nothing secret
        self.aim = Aim()
        self.stopping = False
        self.began = 0.0  # of the call under way; 0: none is
        self.under_way: Shot | None = None  # the last one that was
        self.count: collections.Counter[str] = collections.Counter()
        self.violations: collections.Counter[str] = collections.Counter()
        self.samples: list[str] = []
        self.reported: list[int] = []  # numbers of the invocations that must have a line
        self.lags: list[float] = []  # from due to the watchdog's first act
        # By act and by who was first: how many came so many steps after the handler's end.
        self.distances: collections.defaultdict[str, collections.Counter[int]] = (
            collections.defaultdict(collections.Counter)
        )
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
        if lasted > LATE_PATIENCE:
            # Nothing kills here. An injection can land where a loop loses a callback by it.
            if self.delivery == "nudge":
                self.violated("hung, and was cut late", shot, error)
            self.count["cut late"] += 1
        try:
            self._stay(number)
        except BaseException as late:  # noqa: BLE001 - that it got here is the finding
            self.violated("landed after its invocation", shot, late)
        self._judge(shot, result, error)

    def _draw(self, number: int) -> tuple[int, Shot]:
        draw = self.random.random
        calibrating = [i for i, k in enumerate(self.kinds) if k.name.startswith(_CALIBRATORS)]
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
        for i in range(20):
            str(i)
        sleep(0.003 if number % 64 == 1 else 50e-6)
        for i in range(20):
            str(i)

    def _judge(self, shot: Shot, result: object, error: BaseException | None) -> None:
        self.count["invocations"] += 1
        self.count["blocks"] += bool(shot.kind.around)
        timed_out = isinstance(error, LambdaTimeout | TimeLimitExceeded)
        problem = self._problem(shot, result, error)
        if problem is not None:
            self.violated(problem, shot, error)
        if under_way() or prepared or innermost:
            self.violated("state is left behind", shot, error)
        if timed_out or shot.caught:
            self.count["interrupted"] += 1
            if isinstance(error, LambdaTimeout) or not shot.kind.around:
                self.reported.append(shot.number)
        side = "interrupt" if timed_out or shot.caught else "handler"
        self.count[f"to the {side}"] += 1
        if isinstance(error, LambdaTimeout) and isinstance(error.__cause__, RuntimeError):
            self.count["conditions hit"] += 1
        if shot.entered and not shot.cleaned:
            if self.delivery == "nudge":
                self.violated("a finally was skipped", shot, error)
            # An injection cannot see where it lands: gh-130279, out of anybody's reach.
            self.count["finally skipped"] += 1
        if shot.fired:
            self.count["fired"] += 1
            self.lags.append(shot.fired - shot.due)
        # The wake-up shows where it came too late to act.
        for act, instant in (("fired", shot.fired or _Probe.woke), ("sent", shot.pressed)):
            distance = instant - shot.end
            if not shot.kind.aims or not instant:
                continue
            self.distances[f"{act}, {side} first"][math.floor(distance / STEP)] += 1
            if abs(distance) <= CLOSE:
                self.count[f"{act} close"] += 1
                self.count[f"{act} close, {side} first"] += 1
        if shot.kind.name.startswith(_CALIBRATORS):
            self.aim.learn(shot)

    def _problem(self, shot: Shot, result: object, error: BaseException | None) -> str | None:
        if shot.shield_broken:
            return "landed in a shield"
        if shot.open_shields:
            return "a shield stayed up"
        if shot.done and shot.kind.endless:
            return "was not interrupted"
        if error is None:
            return None if result is shot.token and shot.done else "somebody else's result"
        if (shot.done or shot.raising) and self._is_between_ends(shot, error):
            self.count["between two ends"] += 1
            return None
        if shot.done:
            return "a finished result was lost"
        if error is shot.error:
            return None if shot.raising else "somebody else's error"
        if shot.raising:
            return "a raised error was lost"
        if isinstance(error, TimeLimitExceeded) and shot.limits:
            return None if error.limit in shot.limits else "landed in another block"
        if not isinstance(error, LambdaTimeout):
            return f"{type(error).__name__} left the guard"
        if error.details is None:
            return "a LambdaTimeout of nobody's left the guard"
        if error.details.request_id != shot.aws_request_id:
            return "landed in another invocation"
        return None

    @staticmethod
    def _is_between_ends(shot: Shot, error: BaseException) -> bool:
        """Whether what is around a block was interrupted when that had ended, and not itself."""
        if shot.kind.around in {"", BLOCK} or getattr(error, "limit", None) is shot.limits[-1]:
            return False
        frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        return [code for code in frames if not is_ours(code)][-1].co_name in {"one", "two"}

    def violated(
        self, what: str, shot: Shot | None = None, error: BaseException | None = None
    ) -> None:
        self.violations[what] += 1
        if self.violations.total() >= _MOST_VIOLATIONS:
            self.stopping = True
        if self.violations[what] > _MOST_SAMPLES:
            return
        about = f"invocation {shot.number}, {shot.kind.name}" if shot is not None else "?"
        if shot is not None:
            about += (
                f" of {shot.length * 1000:.2f} ms; us after due: end {_us(shot, shot.end)}, "
                f"acted on {_us(shot, shot.fired)}, interrupt sent {_us(shot, shot.pressed)}"
            )
        story = "".join(traceback.format_exception(error)) if error is not None else ""
        self.samples.append(f"{what}: {about}\n{story}".rstrip())
        # At once as well: the end may be an hour away.
        print(self.samples[-1], file=sys.stderr, flush=True)

    def saw_unraisable(self, event: sys.UnraisableHookArgs) -> None:
        """Judge what CPython drops: what is raised in a ``__del__`` or a weak reference's callback.

        The next interrupt ends the handler, so it is no violation where the frame cannot be seen
        (injections) or says little (callbacks).
        """
        if not isinstance(event.exc_value, LambdaTimeout | Interrupt):
            self.count["other errors dropped"] += 1
            return
        frames = [frame.f_code for frame, _ in traceback.walk_tb(event.exc_traceback)]
        landed_in = next((code for code in reversed(frames) if not is_ours(code)), None)
        in_callback = landed_in is not None and "weakref" in landed_in.co_filename
        in_del = any(code.co_name == "__del__" for code in frames)  # or what that calls
        if in_callback or (in_del and self.delivery == "injection"):
            self.count["dropped by C code"] += 1
            return
        self.violated("was dropped by C code", None, event.exc_value)

    def result(self) -> dict[str, Any]:
        """The whole result, for the command."""
        self.lags.sort()
        if not self.count["fired close"] and self.count["invocations"] > _FEW:
            self.violated("nothing is shown: no invocation came close to the race")
        # The first invocation starts the thread, which holds this for its whole life.
        if self.count["invocations"] and not process_watchdog._living.locked():
            self.violated("the watchdog thread is gone")
        return {
            "event": RESULT,
            "count": self.count,
            "violations": self.violations,
            "samples": self.samples,
            "reported": self.reported,
            "distances": {
                what: [steps[step] for step in range(-STEPS, STEPS)]
                for what, steps in self.distances.items()
            },
            "lag_us": [
                round(self.lags[int(len(self.lags) * share)] * 1e6) if self.lags else 0
                for share in (0.5, 0.99)
            ],
        }


def _us(shot: Shot, instant: float) -> str:
    return f"{(instant - shot.due) * 1e6:.0f}" if instant else "never"


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
        # A loop tells of each exception that it stores away.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        _wake_in_time()
        _watch_the_watchdog()
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
                done = soak.count["invocations"]
                print(
                    f"{sys.version.split()[0]} {soak.delivery}: {done:,} of "
                    f"{soak.invocations:,}, {done / (now - self._began):.0f}/s, "
                    f"{self._seconds_to_go(done, now):,.0f} s to go, "
                    f"{soak.violations.total()} violations",
                    file=sys.stderr,
                    flush=True,
                )

    def _seconds_to_go(self, done: int, now: float) -> float:
        at_this_rate = (self.soak.invocations - done) * (now - self._began) / max(done, 1)
        return max(0.0, min(at_this_rate, self.soak.ends_at - now))

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
