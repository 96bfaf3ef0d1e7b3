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

from watchdog_lambda import _report
from watchdog_lambda._engine.clock import SystemClock, wall

from .decision import LONGEST_SLEEP, OVERDUE_BY, STACK_SHARE, margin, sleep
from .runtime_process import RuntimeProcess
from .shared_state import ANSWERING, FAILED, INIT, OPEN, RECYCLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from _socket import socket
    from collections.abc import MutableMapping
    from typing import Final

    from .answers import Answers
    from .plain_http import PlainApi
    from .runtime_process import Ended
    from .shared_state import Seen, SharedState
    from .stack_files import StackFiles
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

RING: Final = signal.SIGRTMIN
"""What the runtime's process has its supervisor look with."""

_PASSED_ON: Final = {signal.SIGTERM, signal.SIGINT}
WAITED_FOR: Final = frozenset({signal.SIGCHLD, RING, *_PASSED_ON})
"""Blocked before the fork, and taken one by one."""

_AGAIN: Final = 0.01
"""Seconds until a process that could not be stopped, or has just come back, is looked at again."""
_STOPS_WITHIN: Final = 0.05
"""Seconds that a process has to stop at the least, however late it is."""
_STARTS_WITHIN: Final = 2.0
"""Seconds in which a fresh process must be had. The last one may have had all that there are, and
takes a while to end."""


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
        self._is_first = True
        self._is_one_of_several = bool(environ.get("AWS_LAMBDA_MAX_CONCURRENCY"))
        self._next: socket | None = None  # on which the fresh process's first event comes
        self._passed_on: set[int] = set()  # signals; from the first on nothing is started anew
        self._refused: Seen | None = None  # the invocation whose answer was not taken from us
        self._overdue: Seen | None = None  # found long after its deadline
        self._waits_until = 0.0  # for that one; whatever else wakes the supervisor meanwhile

    def serve(self) -> socket | None:
        """Start the runtime's process whenever there is none.

        Returns in each of them, with the connection that its first event comes on; None if it has
        to ask for that itself.

        Raises:
            OSError: not even the first process can be had.
        """
        if self._start():
            return self._next
        try:
            while True:
                self._attend()
                self._is_first = False
                if self._start_again():
                    return self._next
        except Exception as error:  # noqa: BLE001 - a defect, or no process to be had
            # Out of here it would be a second runtime, beside the first one. That ends with us, and
            # the platform starts both anew.
            _report.write_failure(error)
            os._exit(1)

    def _start(self) -> bool:
        """Start a process from nothing that the last one has left; True in the new one."""
        self._state.clear()
        self._files.clear()
        self._answers.forget()
        return self._process.start(self._mask)

    def _start_again(self) -> bool:
        until = SystemClock.monotonic() + _STARTS_WITHIN
        while True:
            try:
                return self._start()
            except OSError:
                if SystemClock.monotonic() >= until:
                    raise
            SystemClock.pause(_AGAIN)
            self._process.reap()  # until then it counts

    def _attend(self) -> None:
        """Look after one process, until another one is to take its place."""
        pause = LONGEST_SLEEP
        while True:
            number = self._answers.kernel.wait_for_signal(WAITED_FOR, pause)
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
            seen = self._state.look()
            pause = sleep(self._state.length)
            if seen is not None and seen.state == OPEN and not self._passed_on:
                due = self._due_in(seen)
                if due <= 0:
                    if self._answer_for(seen):
                        return
                    due = _AGAIN
                pause = min(pause, due)

    # ---- when ---------------------------------------------------------------------------------

    def _due_in(self, seen: Seen) -> float:
        """Seconds until an invocation that is open must be answered for."""
        left = seen.deadline - wall()
        if self._refused is not None and seen.is_same(self._refused):
            return LONGEST_SLEEP
        if self._state.has_given_up(seen):
            return 0.0
        if left < -OVERDUE_BY:
            # Everything has been frozen, and now thaws: the runtime comes first.
            now = SystemClock.monotonic()
            if self._overdue is None or not seen.is_same(self._overdue):
                self._overdue = seen
                self._waits_until = now + OVERDUE_BY
            return self._waits_until - now
        return left - margin(seen.deadline - seen.opened_at)

    # ---- answering ----------------------------------------------------------------------------

    def _answer_for(self, seen: Seen) -> bool:
        """Answer for a handler that is stuck; whether a fresh process is to take its place."""
        left = seen.deadline - wall()
        self._files.ask_for_stuck(
            self._answers.kernel, self._process.pid, self._state.dump_signal, left * STACK_SHARE
        )
        if not self._process.stop(max((seen.deadline - wall()) / 2, _STOPS_WITHIN)):
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
        self._replace(has_ended=False)
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
            self._answers.init_crash(ended, place, is_first=self._is_first)
            ended.mirror(self._answers.kernel)
        if state == RECYCLED:
            self._replace(has_ended=True)
            return
        if seen is None:
            # Nobody waits for an answer: the platform says what it has always said.
            ended.mirror(self._answers.kernel)
        taken = self._answers.crash(seen, ended, place)
        if not taken and seen.state != ANSWERING:
            ended.mirror(self._answers.kernel)
        self._replace(has_ended=True)

    # ---- a fresh process ----------------------------------------------------------------------

    def _replace(self, *, has_ended: bool) -> None:
        """Ask for the next event, and end what is left of a process.

        In this order: the platform ends an invocation, and hands on its answer, when the next event
        is asked for. So that is not left to the fresh process, whose init may take long; unless it
        is one of several, whose answers are handed on as they come. What it asked for before it can
        serve it would wait, and another worker would have been free.
        """
        # A snapshot is taken once; asked again, Lambda would have no answer.
        if self._environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            del self._environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
        self._next = None if self._is_one_of_several else self._ask_for_event()
        self._process.end(self._state.served_at, self._state.served_pid, has_ended=has_ended)

    def _ask_for_event(self) -> socket | None:
        """The connection that the next event comes on; None if there is none to be had."""
        try:
            connection = self._api.connect()
            self._api.ask_for_event(connection)
        except OSError:
            return None  # the fresh process says what is wrong
        return connection
