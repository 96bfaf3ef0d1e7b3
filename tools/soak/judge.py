"""The judge of the soak's invocations: what each came to, whether it may, and all of it counted."""

# Whether the watchdog lives is internal to the core.
# ruff: noqa: SLF001

from __future__ import annotations

import collections
import math
import sys
import traceback
from typing import Any, Final

from tools.soak.report import RESULT
from tools.soak.shot import BLOCK, Aim, Probe, Shot
from watchdog_lambda import Interrupt, LambdaTimeout, TimeLimitExceeded
from watchdog_lambda._cpython.source import is_ours
from watchdog_lambda._engine.current import under_way
from watchdog_lambda._engine.limits import innermost
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import prepared

CLOSE: Final = 50e-6
"""Seconds from the handler's end within which the watchdog's act counts as a race."""

STEP: Final = 5e-6  # seconds: distances between the two are counted in steps of this,
STEPS: Final = 20  # and so many to either side
_MOST_SAMPLES: Final = 5  # of each violation, with its traceback
_MOST_VIOLATIONS: Final = 200  # after so many it is no race any more, and each may take seconds
CALIBRATORS: Final = ("overrun", "oversleep")  # kinds that show when the watchdog acts
_FEW: Final = 1000  # invocations, of which none need be a race


class Judge:
    """Of all invocations of one delivery."""

    def __init__(self, delivery: str) -> None:
        self.delivery = delivery
        self.aim = Aim()
        self.stopping = False
        self.count: collections.Counter[str] = collections.Counter()
        self.violations: collections.Counter[str] = collections.Counter()
        self.samples: list[str] = []
        self.reported: list[int] = []  # numbers of the invocations that must have a line
        self.lags: list[float] = []  # from due to the watchdog's first act
        # By act and by who was first: how many came so many steps after the handler's end.
        self.distances: collections.defaultdict[str, collections.Counter[int]] = (
            collections.defaultdict(collections.Counter)
        )

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
        for act, instant in (("fired", shot.fired or Probe.woke), ("sent", shot.pressed)):
            distance = instant - shot.end
            if not shot.kind.aims or not instant:
                continue
            self.distances[f"{act}, {side} first"][math.floor(distance / STEP)] += 1
            if abs(distance) <= CLOSE:
                self.count[f"{act} close"] += 1
                self.count[f"{act} close, {side} first"] += 1
        if shot.kind.name.startswith(CALIBRATORS):
            self.aim.learn(shot)

    def _problem(self, shot: Shot, result: object, error: BaseException | None) -> str | None:
        if shot.shield_broken:
            return "landed in a shield"
        if shot.open_shields:
            return "a shield stayed up"
        if shot.done and shot.kind.endless:
            return "was not interrupted"
        if error is None:
            return None if result is shot.token and shot.done else "another invocation's result"
        if (shot.done or shot.raising) and self._is_between_ends(shot, error):
            self.count["between two ends"] += 1
            return None
        if shot.done:
            return "a finished result was lost"
        if error is shot.error:
            return None if shot.raising else "another invocation's error"
        if shot.raising:
            return "a raised error was lost"
        if isinstance(error, TimeLimitExceeded) and shot.limits:
            return None if error.limit in shot.limits else "landed in another block"
        if not isinstance(error, LambdaTimeout):
            return f"{type(error).__name__} left the guard"
        if error.details is None:
            return "a LambdaTimeout of no invocation left the guard"
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
