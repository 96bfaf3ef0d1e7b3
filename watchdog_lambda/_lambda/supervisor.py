"""The supervisor: a process that answers where nothing in the runtime's process can.

It forks the runtime's process and then sleeps in one system call. It looks at the page that both
share once in the length of a timeout, and when it is rung or a child has ended. It imports nothing
after the fork, has one thread, and takes no lock.

Who answers: the runtime, unless the supervisor has seen ``OPEN`` in a process that has ended, or
that it has stopped and looked at again. No byte of an answer is sent before ``ANSWERING`` is
stored, so nobody else has answered then, and nobody else will. Without the second look: we read
``OPEN``; the handler comes back and its answer is posted; we post ours. Pinned by the mutants of
``dev.py race``.
"""

from __future__ import annotations

import signal

from watchdog_lambda import _report
from watchdog_lambda._engine.clock import SystemClock, wall

from .decision import MARGIN, OVERDUE_BY, STACK_SHARE, margin, wants_early
from .runtime_process import RuntimeProcess
from .shared_state import ANSWERING, FAILED, INIT, OPEN, RECYCLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import MutableMapping
    from typing import Final

    from .answers import Answers
    from .plain_http import PlainApi
    from .runtime_process import Ended
    from .shared_state import Seen, SharedState
    from .stack_files import StackFiles

RING: Final = signal.SIGRTMIN
"""What the runtime's process has its supervisor look with."""

_PASSED_ON: Final = {signal.SIGTERM, signal.SIGINT}
WAITED_FOR: Final = frozenset({signal.SIGCHLD, RING, *_PASSED_ON})
"""Blocked before the fork, and taken one by one."""

_LONGEST_SLEEP: Final = 900.0
_AGAIN: Final = 0.01
"""Seconds until a process that could not be stopped, or has just come back, is looked at again."""
_NEXT_AHEAD: Final = 0.03
"""The next event is asked for so many seconds before the hard deadline at the latest."""


class Supervisor:
    """One sandbox's, or one worker's in Managed Instances. Thread: the process's only one."""

    def __init__(
        self,
        api: PlainApi,
        answers: Answers,
        state: SharedState,
        files: StackFiles,
        *,
        environ: MutableMapping[str, str],
        mask: set[int],
    ) -> None:
        """Look after a process with this environment; `mask` is what was blocked before."""
        self._environ = environ
        self._api = api
        self._state = state
        self._process = RuntimeProcess()
        self._files = files
        self._answers = answers
        self._mask = mask
        self._sleep = 0.0  # how long it may sleep once an event has come; see _due_in()
        self._is_first = True
        self._next: socket | None = None  # on which the fresh process's first event comes
        self._asks_at: float | None = None  # when that is asked for, by the monotonic clock
        self._passed_on: set[int] = set()  # signals; from the first on nothing is started anew
        self._refused: Seen | None = None  # the invocation whose answer was not taken from us
        self._overdue: Seen | None = None  # found long after its deadline
        self._waits_until = 0.0  # for that one; whatever else wakes the supervisor meanwhile

    def serve(self) -> socket | None:
        """Start the runtime's process whenever there is none.

        Returns in each of them, with the connection that its first event comes on; None if it has
        to ask for that itself.
        """
        while True:
            self._state.clear()
            self._files.clear()
            self._answers.forget()
            if self._process.start(self._mask):
                return self._next
            self._attend()
            self._is_first = False

    def _attend(self) -> None:
        """Look after one process, until another one is to take its place."""
        pause = _LONGEST_SLEEP
        while True:
            info = signal.sigtimedwait(WAITED_FOR, max(pause, 0.0))
            number = 0 if info is None else info.si_signo
            if number in _PASSED_ON and number not in self._passed_on:
                # Once: the platform may signal a whole group, and a second SIGTERM would find the
                # runtime in the middle of its end.
                self._passed_on.add(number)
                self._process.signal(number)
            elif number == signal.SIGCHLD:
                ended = self._process.reap()
                if ended is not None:
                    self._take_over(ended)
                    return
            self._ask_for_next()
            seen = self._state.look()
            due = _LONGEST_SLEEP
            if seen is not None and seen.state == OPEN and not self._passed_on:
                due = self._due_in(seen)
                if due <= 0:
                    if self._answer_for(seen):
                        return
                    due = _AGAIN
            pause = min(due, self._sleep or _LONGEST_SLEEP, self._until_next())

    # ---- when ---------------------------------------------------------------------------------

    def _due_in(self, seen: Seen) -> float:
        """Seconds until an invocation that is open must be answered for."""
        left = seen.deadline - wall()
        span = margin(seen.deadline - seen.opened_at)
        if self._refused is not None and seen.is_same(self._refused):
            return _LONGEST_SLEEP
        # All invocations have as much time, but for the first one of a process, which rings; so
        # one that begins during a sleep does not come to its margin before that is over.
        self._sleep = max(self._sleep, min(max(left - span, MARGIN), _LONGEST_SLEEP))
        if self._state.has_given_up(seen):
            return 0.0
        if left < -OVERDUE_BY:
            # Everything has been frozen, and now thaws: the runtime comes first.
            now = SystemClock.monotonic()
            if self._overdue is None or not seen.is_same(self._overdue):
                self._overdue = seen
                self._waits_until = now + OVERDUE_BY
            return self._waits_until - now
        return left - span

    def _until_next(self) -> float:
        if self._asks_at is None:
            return _LONGEST_SLEEP
        return self._asks_at - SystemClock.monotonic()

    # ---- answering ----------------------------------------------------------------------------

    def _answer_for(self, seen: Seen) -> bool:
        """Answer for a handler that is stuck; whether a fresh process is to take its place."""
        left = seen.deadline - wall()
        self._files.ask_for_stuck(
            self._answers.kernel, self._process.pid, self._state.dump_signal, left * STACK_SHARE
        )
        if not self._process.stop((seen.deadline - wall()) / 2):
            # It has ended, and SIGCHLD says so; or it cannot be stopped, and so not be looked at.
            self._process.go_on()
            return False
        again = self._state.look()
        if again is None or again.state != OPEN or not again.is_same(seen):
            self._process.go_on()
            return False
        place = self._answers.place(self._files.stuck())
        if not self._answers.timeout(seen, place):
            self._refused = seen
            self._process.go_on()
            return False
        if not self._state.has_reported(seen):
            self._answers.report_timeout(seen, place)
        self._replace(seen, has_ended=False)
        return True

    def _take_over(self, ended: Ended) -> None:
        """The runtime's process has ended: answer for it, or end as it has.

        Returns only if a fresh process is to take its place.
        """
        state, seen = self._state.state, self._state.look()
        if self._passed_on or state == FAILED:
            ended.mirror(self._answers.kernel)
        self._files.show_crash()
        place = self._answers.place(self._files.crash())
        if state == INIT:
            if self._is_first:
                self._answers.init_crash(ended, place)
            ended.mirror(self._answers.kernel)
        if state == RECYCLED:
            self._replace(seen, has_ended=True)
            return
        if seen is None:
            # Nobody waits for an answer: the platform says what it has always said.
            ended.mirror(self._answers.kernel)
        taken = self._answers.crash(seen, ended, place)
        if not taken and seen.state != ANSWERING:
            ended.mirror(self._answers.kernel)
        self._replace(seen, has_ended=True)

    # ---- a fresh process ----------------------------------------------------------------------

    def _replace(self, seen: Seen | None, *, has_ended: bool) -> None:
        """End what is left of a process, and have the next event asked for.

        The platform ends an invocation, and hands on its answer, when the next event is asked for.
        So that is not left to the fresh process unless its init is certain to be over in time.
        """
        # A snapshot is taken once; asked again, Lambda would have no answer.
        self._environ.pop("AWS_LAMBDA_INITIALIZATION_TYPE", None)
        left = 0.0 if seen is None else seen.deadline - wall()
        try:
            self._next = self._api.connect()
        except OSError:
            self._next = None  # the fresh process says what is wrong
        self._asks_at = SystemClock.monotonic()
        if not wants_early(left, self._state.init_seconds):
            self._asks_at += left - _NEXT_AHEAD
        self._ask_for_next()
        self._process.end(self._state.served_at, self._state.served_pid, has_ended=has_ended)

    def _ask_for_next(self) -> None:
        """Ask for the fresh process's first event, once that is ready or time is short."""
        if self._asks_at is None or self._next is None:
            return
        if not self._state.is_ready and SystemClock.monotonic() < self._asks_at:
            return
        self._asks_at = None
        try:
            self._api.ask_for_event(self._next)
        except OSError as error:
            _report.write_failure(error)
