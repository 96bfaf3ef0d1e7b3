"""The services that the watchdog uses: clock, ways of delivery, report and last resort.

The engine knows neither the record's format nor the Lambda API. The code that creates the process's
watchdog passes it a :class:`Report`, and a :class:`LastResort` if the settings ask for one.
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
        """Writes the record of a timeout. No method raises, or waits long.

        It gets the ``Firing`` of :mod:`.invocation`, which holds everything known about a timeout.
        """

        def preload(self) -> None:
            """Import everything that must not be imported during a timeout. Thread: any."""

        def write(self, firing: Any, outcome: str, last_resort: str | None = None, /) -> None:
            """Write the record of one timeout, and its metric. Thread: handler's or watchdog's."""

        def write_failure(self, error: BaseException, /) -> None:
            """Log a failure of the watchdog itself. Thread: any."""

    class LastResort(Protocol):
        """Answers for a handler that has not returned, and ends the process."""

        def margin(self, seconds: float, /) -> float:
            """Return how long before the hard deadline it acts even if it is not asked to.

            `seconds` is the invocation's time in all. Thread: any.
            """
            ...

        def act(self, firing: Any, /) -> str | None:
            """Answer and end the process; else return why not, or None if the handler has returned.

            Thread: watchdog.
            """

    class Renewal(Protocol):
        """Replaces this process by a fresh one."""

        def before_next_event(self, left: float, /) -> str | None:
            """Let a fresh process serve the next event; else return why not.

            `left` is how many seconds are left of this invocation.

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
        self.last_resort = last_resort  # None if there is only a report
