"""One thread for the whole process, started once and again after a fork, which survives failures.

There are two locks, and no thread ever waits for them. `_starting` is held while the thread is
being started. `_living` is held by the running thread for its whole life.
"""

from __future__ import annotations

import _thread
import os
import sys
import types
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
"""Seconds after which the thread retries what failed, or what it had no memory for."""

BALLAST = 4 << 20
"""Bytes that are released when memory is short. They are never written to, so they take address
space but no memory. An arena for Python's small objects takes one of these four MiB."""


class DaemonThread:
    """The part of the process's watchdog thread that does not depend on what it watches."""

    def __init__(self) -> None:
        self._thread_id: int | None = None
        self._starting = RLock()
        self._living = allocate_lock()
        self._goes_on = True  # the process's thread never ends; tests end theirs
        self._is_fork_safe = False
        self._ballast: bytes | None = None
        # The last failure, and the types of those that were logged. Used by the thread itself only.
        self._failure: BaseException | None = None
        self._told: set[type[BaseException]] = set()

    def preload(self) -> None:
        """Import what must not be imported once the thread acts. Thread: any."""

    def _watch(self) -> None:
        """Do the thread's work. Called again if it has failed, or had no memory."""
        raise NotImplementedError

    def _begin_anew(self, wait: Callable[[float], object], report: Report) -> None:
        """After a failure, pause, and log it once for each type. Thread: the thread itself."""
        failure, self._failure = self._failure, None
        if failure is None:
            return
        wait(SHORT_PAUSE)
        if not isinstance(failure, MemoryError) and type(failure) not in self._told:
            self._told.add(type(failure))
            report.write_failure(failure)

    def _start(self) -> None:
        """Start the thread, unless it is running. Thread: any."""
        starting = self._starting
        try:
            # Do not wait for the lock: its holder starts the thread, which then sees our invocation
            # too. Acquire it inside `try`: a user's signal handler (the SIGALRM recipe's) can raise
            # right after that, and nothing would ever be watched again. Pinned by
            # test_start_can_be_interrupted_after_any_call.
            if not starting.acquire(False):
                return
            if self._thread_id is None:
                _require_main_interpreter()
                _require_gil()
                self.preload()
                _resolve_lazy_imports()
                if not self._is_fork_safe:
                    os.register_at_fork(after_in_child=self._after_fork)
                    self._is_fork_safe = (
                        True  # set last: if interrupted, registering twice beats never
                    )
                # Do not use threading.Thread: its start() waits for an Event, and takes a lock that
                # user code can hold. And at its end a process does not wait for this thread.
                self._thread_id = start_new_thread(self._run, ())
            if not isinstance(start_new_thread, BuiltinFunctionType):
                self._complain(
                    "gevent has replaced threads with greenlets; "
                    "import watchdog_lambda before gevent.monkey.patch_all()"
                )
        except (RuntimeError, ImportError) as error:
            # No thread can be started, or there is no way to fire: the next invocation tries again.
            self._complain(f"no thread can be started ({error})")
        finally:
            try:
                starting.release()
            except RuntimeError:
                pass  # we do not hold the lock

    def _complain(self, why: str) -> None:
        """Warn once that nothing is watched."""
        warn_once("not watched", "invocations are not watched: %s", why)

    def _keep_ballast(self) -> None:
        """Reserve some memory to release when it is short. Thread: any."""
        if self._ballast is None:
            self._ballast = bytes(BALLAST)

    def _after_fork(self) -> None:
        """Reset the state in the child, which has no such thread. Thread: the child's main."""
        # A lock that the thread held during the fork would stay locked forever: create new ones.
        self._starting = RLock()
        self._living = allocate_lock()
        self._thread_id = None

    def _run(self) -> None:
        """Run the thread until its end."""
        living = self._living
        # If a start is interrupted before it has stored the thread's id, a second thread is started
        # later. Pinned by test_start_can_be_interrupted_after_any_call.
        if not living.acquire(False):
            return
        try:
            while self._goes_on:  # pragma: no branch - tests end it in _watch()
                try:
                    self._watch()
                except BaseException as failure:  # noqa: BLE001 - no code would start another
                    # Create no objects here: there may be no memory at all. The handler has very
                    # likely taken it, and must be interrupted all the same. After any other error
                    # the thread must go on as well: otherwise every later invocation would silently
                    # be unwatched. Pinned by test_thread_survives_errors.
                    if isinstance(failure, MemoryError):
                        self._ballast = None
                    self._failure = failure
                else:
                    break
        finally:
            living.release()


def _resolve_lazy_imports() -> None:
    """Load what this package's modules import lazily, as all do with ``-X lazy_imports=all``.

    Otherwise the nudge's handler would import its own modules, the next nudge could come in the
    middle of that, and the handler would get an ImportError instead of its interrupt. Pinned by
    test_no_module_is_imported_at_a_timeout.
    """
    lazy = getattr(types, "LazyImportType", None)
    if lazy is None:  # before Python 3.15
        return
    package = __name__.partition(".")[0]
    resolved: set[str] = set()
    while names := [  # pragma: no cover - from Python 3.15 on
        name for name in list(sys.modules) if name.startswith(package) and name not in resolved
    ]:
        resolved.update(names)
        for module in map(sys.modules.__getitem__, names):
            for name, value in list(vars(module).items()):
                if type(value) is lazy:
                    getattr(module, name)


def _require_gil() -> None:
    """Raise a RuntimeError without the GIL, for a `time_limit` without a watched handler."""
    refusal = refusal_without_gil()
    if refusal is not None:
        raise RuntimeError(refusal)


def _require_main_interpreter() -> None:
    """Raise a RuntimeError in a sub-interpreter.

    Python handles no signals there. And the interpreter could not be ended with our thread in it:
    CPython up to 3.13 then ends the whole process, and 3.11 does not even run code in it again.
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
        raise RuntimeError(
            "in a sub-interpreter, which could not end while the watchdog's thread runs in it"
        )
