"""The supervisor: a process that answers when nothing in the runtime's process can.

It forks the runtime's process and then sleeps in one system call. It looks at the shared page once
per timeout, and when it is rung or a child has ended. After the fork it imports nothing, has one
thread, and takes no lock.

The runtime answers, unless the supervisor has read ``OPEN`` for a process that has ended, or that
it has stopped and looked at again. No byte of an answer is sent before ``ANSWERING`` is stored, so
then no answer has been sent, and only the supervisor will send one. Without the second look: we
read ``OPEN``; the handler returns and its answer is posted; we post ours. Pinned by the mutants of
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
"""The signal with which the runtime's process makes its supervisor look."""

_PASSED_ON: Final = {signal.SIGTERM, signal.SIGINT}
WAITED_FOR: Final = frozenset({signal.SIGCHLD, RING, *_PASSED_ON})
"""The signals that are blocked before the fork, and then accepted one by one."""

_AGAIN: Final = 0.01
"""Seconds until the next look at a process that could not be stopped, or has just answered."""
_STOPS_WITHIN: Final = 0.05
"""The least seconds that a process has to stop, however late it is."""
_STARTS_WITHIN: Final = 2.0
"""Seconds in which a fresh process must start. The last one may have used up all processes, and
takes some time to end."""


class Supervisor:
    """The supervisor of a sandbox, or of a Managed Instances worker. Thread: its only one."""

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
        """Prepare to supervise; `mask` has the signals that were blocked before."""
        self._environ = environ
        self._api = api
        self._state = state
        self._process = RuntimeProcess()
        self._files = files
        self._answers = answers
        self._mask = mask
        self._is_first = True
        self._is_one_of_several = bool(environ.get("AWS_LAMBDA_MAX_CONCURRENCY"))
        self._next: socket | None = None  # the connection for the fresh process's first event
        self._passed_on: set[int] = set()  # signals; after the first no process is started again
        self._refused: Seen | None = None  # the invocation for which our answer was refused
        self._overdue: Seen | None = None  # an invocation found long after its deadline
        self._waits_until = 0.0  # when to answer for that one, even if woken earlier

    def serve(self) -> socket | None:
        """Start the runtime's process whenever there is none.

        Returns in each of these processes, with the connection for its first event; None if it has
        to request that event itself.

        Raises:
            OSError: not even the first process can be started.
        """
        if self._start():
            return self._next
        try:
            while True:
                self._attend()
                self._is_first = False
                if self._start_again():
                    return self._next
        except Exception as error:  # noqa: BLE001 - a defect, or no process can be started
            # If we left here, we would become a second runtime. When we exit, the first one ends
            # too, and the platform starts both again.
            _report.write_failure(error)
            os._exit(1)

    def _start(self) -> bool:
        """Start a process without the last one's state; True in the new one."""
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
            self._process.reap()  # until then the last one counts towards the limit

    def _attend(self) -> None:
        """Supervise one process, until another one must replace it."""
        pause = LONGEST_SLEEP
        while True:
            number = self._answers.kernel.wait_for_signal(WAITED_FOR, pause)
            if number in _PASSED_ON and number not in self._passed_on:
                # Only once: the platform may signal a whole group, and a second SIGTERM would
                # interrupt the runtime's shutdown.
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
        """Return the seconds until we must answer for an open invocation."""
        left = seen.deadline - wall()
        if self._refused is not None and seen.is_same(self._refused):
            return LONGEST_SLEEP
        if self._state.has_given_up(seen):
            return 0.0
        if left < -OVERDUE_BY:
            # Everything was frozen and now thaws: give the runtime time to answer.
            now = SystemClock.monotonic()
            if self._overdue is None or not seen.is_same(self._overdue):
                self._overdue = seen
                self._waits_until = now + OVERDUE_BY
            return self._waits_until - now
        return left - margin(seen.deadline - seen.opened_at, self._state.grace_period)

    # ---- answering ----------------------------------------------------------------------------

    def _answer_for(self, seen: Seen) -> bool:
        """Answer for a stuck handler. Return whether a fresh process must replace its process."""
        left = seen.deadline - wall()
        self._files.ask_for_stuck(
            self._answers.kernel, self._process.pid, self._state.dump_signal, left * STACK_SHARE
        )
        if not self._process.stop(max((seen.deadline - wall()) / 2, _STOPS_WITHIN)):
            # Either it has ended, and SIGCHLD follows; or it does not stop, so we cannot decide.
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
        """Answer for the runtime's process, which has ended, or exit in the same way.

        Returns only if a fresh process must replace it.
        """
        state, seen = self._state.state, self._state.look()
        if self._passed_on or state == FAILED:
            ended.mirror(self._answers.kernel)
        self._files.show_crash()
        place = self._answers.place(self._files.crash())
        if state == INIT:
            self._answers.init_crash(ended, place, is_first=self._is_first)
        if state == RECYCLED:
            self._replace(has_ended=True)
            return
        if seen is None:
            # No caller is waiting, or it was an init: leave it to the platform, as without a
            # supervisor.
            ended.mirror(self._answers.kernel)
        taken = self._answers.crash(seen, ended, place)
        if not taken and seen.state != ANSWERING:
            ended.mirror(self._answers.kernel)
        self._replace(has_ended=True)

    # ---- a fresh process ----------------------------------------------------------------------

    def _replace(self, *, has_ended: bool) -> None:
        """Request the next event, and kill what is left of a process.

        The platform ends an invocation, and forwards its answer, when the next event is requested.
        So request it first, instead of leaving that to the fresh process, whose init may take long.
        A process that is one of several requests it itself: their answers are forwarded at once,
        and an event would have to wait for the init although another worker is free.
        """
        # A snapshot is taken only once. Lambda would not answer a second request.
        if self._environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
            del self._environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
        self._next = None if self._is_one_of_several else self._ask_for_event()
        self._process.end(self._state.served_at, self._state.served_pid, has_ended=has_ended)

    def _ask_for_event(self) -> socket | None:
        """Request the next event. Return its connection; None if that fails."""
        try:
            connection = self._api.connect()
            self._api.ask_for_event(connection)
        except OSError:
            return None  # the fresh process will report what is wrong
        return connection
