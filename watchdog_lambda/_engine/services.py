"""What the watchdog acts with: clock, ways of delivery, and what it is given to call.

The engine knows neither the record's format nor the Lambda API. The code that makes the process's
watchdog gives it a :class:`Report`, and a :class:`LastResort` where the settings ask for one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from watchdog_lambda._cpython.delivery import Injector, Nudge
    from watchdog_lambda._cpython.taps import Tap

    from .clock import Alarm, Clock
    from .kernel_timers import KernelTimers

    class Report(Protocol):
        """Writes what is to be read of a timeout. Nothing in it raises, or waits long.

        It is given the ``Firing`` of :mod:`.invocation`, which holds all that is known.
        """

        def preload(self) -> None:
            """Import what must not be imported while the watchdog fires. Thread: any."""

        def write(self, firing: Any, outcome: str, last_resort: str | None = None, /) -> None:
            """Write the record of one timeout, and its metric. Thread: the claimant's."""

        def write_failure(self, error: BaseException, /) -> None:
            """Say that the watchdog itself has failed. Thread: any."""

    class LastResort(Protocol):
        """Answers for a handler that has not come back, and ends the process."""

        def act(self, firing: Any, /) -> str | None:
            """Answer and leave; else why not, or None if the handler has come back meanwhile.

            Thread: watchdog.
            """

    class Renewal(Protocol):
        """Puts a fresh process in this one's place."""

        def before_next_event(self, left: float, /) -> str | None:
            """Have it serve the next event; else why not. `left` seconds are left of this one.

            Thread: the handler's, after its end.
            """


class Services:
    """One set per process."""

    # fmt: off
    __slots__ = (
        "alarm", "clock", "injector", "kernel_timers", "last_resort", "nudge", "report", "tap",
    )
    # fmt: on

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        clock: Clock,
        alarm: Alarm,
        nudge: Nudge,
        tap: Tap,
        injector: Injector,
        kernel_timers: KernelTimers,
        report: Report,
        last_resort: LastResort | None,
    ) -> None:
        self.clock = clock
        self.alarm = alarm
        self.nudge = nudge
        self.tap = tap
        self.injector = injector
        self.kernel_timers = kernel_timers
        self.report = report
        self.last_resort = last_resort  # None if a report is all there is
