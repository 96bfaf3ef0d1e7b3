"""The SIGALRM recipe as it is copied around, which the image tests run under the watchdog."""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from watchdog_lambda.typing import LambdaContext

MARGIN = 3  # seconds; under the 2 s timeout of the tests the recipe switches itself off
calls = itertools.count(1)


def on_alarm(signum: int, frame: FrameType | None) -> None:
    """Turn the alarm into an exception."""
    raise TimeoutError("the recipe's own alarm")


signal.signal(signal.SIGALRM, on_alarm)


def handler(event: dict[str, float], context: LambdaContext) -> dict[str, object]:
    """Sleep as long as the event says, under an alarm where the recipe allows one."""
    call = next(calls)
    signal.alarm(max(0, context.get_remaining_time_in_millis() // 1000 - MARGIN))
    time.sleep(event.get("sleep", 0))
    signal.alarm(0)
    return {
        "call": call,
        "pid": os.getpid(),
        "alarm_is_ours": signal.getsignal(signal.SIGALRM) is on_alarm,
    }
