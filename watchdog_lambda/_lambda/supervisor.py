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

import os
import signal

from watchdog_lambda import _report
from watchdog_lambda._engine.clock import SystemClock, wall

from .decision import MARGIN, OVERDUE_BY, margin, wants_early
from .kernel import handles
from .runtime_process import RuntimeProcess
from .shared_state import ANSWERING, FAILED, INIT, OPEN, RECYCLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import MutableMapping
    from typing import Final, NoReturn

    from .answers import Answers
    from .plain_http import PlainApi
    from .runtime_process import Ended
    from .shared_state import Seen, SharedState
    from .stack_files import StackFiles

RING: Final = signal.SIGRTMIN
"""What the runtime's process has its supervisor look with."""

_PASSED_ON: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
WAITED_FOR: Final = frozenset({signal.SIGCHLD, RING, *_PASSED_ON})
"""Blocked before the fork, and taken one by one."""

_LONGEST_SLEEP: Final = 900.0
_STACK_WITHIN: Final = 0.02
"""Seconds for a stuck main thread to write down where it is."""
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
        self._sleep = _LONGEST_SLEEP
        self._is_first = True
        self._next: socket | None = None  # on which the fresh process's first event comes
        self._asks_at: float | None = None  # when that is asked for, by the monotonic clock
        self._passed_on: int | None = None
        self._refused: Seen | None = None  # the invocation whose answer was not taken from us
        self._overdue: Seen | None = None

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
            if number in _PASSED_ON and self._passed_on is None:
                # Once: the platform may signal a whole group, and a second SIGTERM would find the
                # runtime in the middle of its end.
                self._passed_on = number
                self._process.signal(number)
            elif number == signal.SIGCHLD:
                ended = self._process.reap()
                if ended is not None:
                    self._take_over(ended)
                    return
            self._ask_for_next()
            seen = self._state.look()
            if seen is None or self._passed_on is not None:
                pause = self._until_next()
                continue
            due = self._due_in(seen)
            if due > 0:
                pause = min(due, self._sleep, self._until_next())
            elif self._answer_for(seen):
                return
            else:
                pause = self._sleep

    # ---- when ---------------------------------------------------------------------------------

    def _due_in(self, seen: Seen) -> float:
        """Seconds until an invocation that is open must be answered for."""
        left = seen.deadline - wall()
        span = margin(seen.deadline - seen.opened_at)
        if seen.state != OPEN or (self._refused is not None and seen.is_same(self._refused)):
            return self._sleep
        # All invocations have as much time; so it cannot come to the margin of one that begins
        # during a sleep before that is over.
        self._sleep = min(max(left - span, MARGIN), _LONGEST_SLEEP)
        if self._state.has_given_up(seen):
            return 0.0
        if left < -OVERDUE_BY and (self._overdue is None or not seen.is_same(self._overdue)):
            # Everything has been frozen, and now thaws: the runtime comes first.
            self._overdue = seen
            return MARGIN
        return left - span

    def _until_next(self) -> float:
        return self._sleep if self._asks_at is None else self._asks_at - SystemClock.monotonic()

    # ---- answering ----------------------------------------------------------------------------

    def _answer_for(self, seen: Seen) -> bool:
        """Answer for a handler that is stuck; whether a fresh process is to take its place."""
        self._write_stack()
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

    def _write_stack(self) -> None:
        """Have the main thread write down where it is, if it can be had to."""
        number = self._state.dump_signal
        # Code that takes every signal and puts back what Python knew of it leaves the default
        # action behind, by which this one would end the process.
        if not number or not handles(self._process.pid, number):
            return
        self._files.clear_stuck()
        try:
            self._answers.kernel.signal_main_thread(self._process.pid, number)
        except OSError:
            return
        until, size = SystemClock.monotonic() + _STACK_WITHIN, 0
        while SystemClock.monotonic() < until:
            SystemClock.pause(0.001)
            now = self._files.stuck_size()
            if now and now == size:
                return
            size = now

    def _take_over(self, ended: Ended) -> None:
        """The runtime's process has ended: answer for it, or end as it has.

        Returns only if a fresh process is to take its place.
        """
        state, seen = self._state.state, self._state.look()
        if self._passed_on is not None or state == FAILED:
            self._mirror(ended)
        self._files.show_crash()
        place = self._answers.place(self._files.crash())
        if state == INIT:
            if self._is_first:
                self._answers.init_crash(ended, place)
            self._mirror(ended)
        if state == RECYCLED:
            self._replace(seen, has_ended=True)
            return
        if seen is None:
            # Nobody waits for an answer: the platform says what it has always said.
            self._mirror(ended)
        taken = self._answers.crash(seen, ended, place)
        if not taken and seen.state != ANSWERING:
            self._mirror(ended)
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
        self._process.end(self._state.served_at, has_ended=has_ended)

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

    def _mirror(self, ended: Ended) -> NoReturn:
        """End as the runtime's process has: the platform says what it would have said of that."""
        code = ended.exit_code
        if code < 0:
            self._answers.kernel.leave_no_core()
            try:
                signal.signal(-code, signal.SIG_DFL)
            except (OSError, ValueError):
                pass  # SIGKILL
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
            os.kill(os.getpid(), -code)
            # Process 1 of a container has no default actions.
            os._exit(128 - code)
        os._exit(code)
