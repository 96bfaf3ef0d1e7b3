"""One thread for the whole process: started once, made anew after a fork, alive whatever fails.

Two locks, and nobody waits for either. `_starting` is held while the thread is started, `_living`
by the thread that lives, for its whole life.
"""

from __future__ import annotations

import _thread
import os
from _thread import RLock, allocate_lock, start_new_thread
from types import BuiltinFunctionType

from watchdog_lambda._cpython.delivery import refusal_without_gil
from watchdog_lambda._log import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .services import Report

SHORT_PAUSE = 0.01
"""Seconds after which the thread tries again what it had no memory for, or failed at."""

BALLAST = 4 << 20
"""Bytes that are let go of when memory is short; never written to, so they take address space and
no memory. An arena of Python's small objects takes one of these four."""


class DaemonThread:
    """What the process's watchdog thread is, whatever it watches."""

    def __init__(self) -> None:
        self._thread_id: int | None = None
        self._starting = RLock()
        self._living = allocate_lock()
        self._goes_on = True  # the process's thread goes on for good; tests end theirs
        self._is_fork_safe = False
        self._ballast: bytes | None = None
        # Why the thread begins anew, and the kinds of failures that were told of. Its own.
        self._failure: BaseException | None = None
        self._told: set[type[BaseException]] = set()

    def preload(self) -> None:
        """Import what must not be imported once the thread acts. Thread: any."""

    def _watch(self) -> None:
        """What the thread does; called again if there was no memory for it, or it has failed."""
        raise NotImplementedError

    def _begin_anew(self, wait: Callable[[float], object], report: Report) -> None:
        """After a failure: pause, and tell of it, once of each kind. Thread: its own."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        wait(SHORT_PAUSE)
        if not isinstance(failure, MemoryError) and type(failure) not in self._told:
            self._told.add(type(failure))
            report.write_failure(failure)

    def _start(self) -> None:
        """Start the thread, unless it runs. Thread: any."""
        starting = self._starting
        try:
            # Do not wait for it: the one that holds it starts the thread, which then sees our
            # invocation too. Acquire inside of `try`: a signal handler of the user (the SIGALRM
            # recipe's) can raise right after that, and nothing would ever be watched again. Pinned
            # by test_a_start_can_be_broken_off_behind_any_call.
            if not starting.acquire(False):
                return
            if self._thread_id is None:
                _require_main_interpreter()
                _require_gil()
                self.preload()
                if not self._is_fork_safe:
                    os.register_at_fork(after_in_child=self._after_fork)
                    self._is_fork_safe = (
                        True  # set last: if interrupted, registering twice beats never
                    )
                # Not threading.Thread: its start() waits for an Event, and takes a lock that user
                # code can hold. Nor does a process wait for this thread at its end.
                self._thread_id = start_new_thread(self._run, ())
            if not isinstance(start_new_thread, BuiltinFunctionType):
                self._complain(
                    "threads are not threads any more; "
                    "import watchdog_lambda before gevent.monkey.patch_all()"
                )
        except (RuntimeError, ImportError) as error:
            # No thread to be had, or no means to fire: the next invocation tries again.
            self._complain(f"no thread can be started ({error})")
        finally:
            try:
                starting.release()
            except RuntimeError:
                pass  # not ours

    def _complain(self, why: str) -> None:
        """Say once that protection is off."""
        warn_once("not watched", "invocations are not watched: %s", why)

    def _keep_ballast(self) -> None:
        """Have some memory to let go of. Thread: any."""
        if self._ballast is None:
            self._ballast = bytes(BALLAST)

    def _after_fork(self) -> None:
        """Start anew in the child, which the thread has not come to. Thread: main, the child's."""
        # A lock that the thread held at that instant stays locked for good, so all are made anew.
        self._starting = RLock()
        self._living = allocate_lock()
        self._thread_id = None

    def _run(self) -> None:
        """The thread's whole life."""
        living = self._living
        # One too many is started where a start is broken off before it has stored that there is
        # one. Pinned by test_a_start_can_be_broken_off_behind_any_call.
        if not living.acquire(False):
            return
        try:
            while self._goes_on:  # pragma: no branch - tests end it in _watch()
                try:
                    self._watch()
                except BaseException as failure:  # noqa: BLE001 - nobody would start another thread
                    # Nothing is made in here: there may be no memory at all. The handler is very
                    # likely what has taken it, and must be reached all the same. Whatever else it
                    # was: the thread's end would leave every later invocation unwatched, in
                    # silence. Pinned by test_the_thread_outlives_what_it_fails_at.
                    if isinstance(failure, MemoryError):
                        self._ballast = None
                    self._failure = failure
                else:
                    break
        finally:
            living.release()


def _require_gil() -> None:
    """Raise a RuntimeError without it: for what is watched by no decorator, which would refuse."""
    refusal = refusal_without_gil()
    if refusal is not None:
        raise RuntimeError(refusal)


def _require_main_interpreter() -> None:
    """Raise a RuntimeError in a sub-interpreter.

    No signal of Python's reaches one. And it could not be ended with our thread in it: CPython up
    to 3.13 then ends the whole process; 3.11 does not even run code in it a second time.
    """
    ask: Any = getattr(_thread, "_is_main_interpreter", None)
    if ask is not None:
        is_main = ask()
    else:  # 3.11
        try:
            interpreters: Any = __import__("_xxsubinterpreters")
        except ImportError:
            return
        is_main = interpreters.get_current() == interpreters.get_main()
    if not is_main:
        raise RuntimeError("in a sub-interpreter, which could not be ended any more")
