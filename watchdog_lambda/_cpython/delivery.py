"""Lands an exception in another thread, by a signal or by injection.

There are two mechanisms; :mod:`.._engine.invocation` decides which one is used:

- The *nudge* is a signal to the main thread. Its Python handler runs there, between two bytecodes
  or inside a blocked system call, and raises the error that the `decide` function returns. That
  function sees the exact state, and a nudge that comes too late does nothing.
- *Injection* is ``PyThreadState_SetAsyncExc``, for a handler on another thread, or if other code
  has taken over our signal. It lands only at the next bytecode: a blocked call has to return first
  (python/cpython#144748, changed in 3.15).
"""

from __future__ import annotations

import sys
import time
from _thread import get_ident, get_native_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from _thread import RLock
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, TypeVar

    _T = TypeVar("_T")
    Decide = Callable[[FrameType | None], BaseException | None]
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

_YIELD = 0.001
"""Seconds for which a nudge that cannot decide lets other threads run."""


class Nudge:
    """The signal that wakes the main thread, and its handler.

    There is one per process. SIGALRM and every handler that the user installs stay as they are: a
    signal with a handler is not taken, and one that other code took over later is no longer used.
    """

    __slots__ = ("_decide", "_handler", "_main", "heard", "native_id", "number", "refusal")

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._main = 0
        self.native_id = 0
        self.heard = 0  # how often the handler has run; written by the main thread
        self.number: int | None = None  # written by the main thread, once; None: no nudge
        self.refusal: str | None = None
        # Keep one bound method: signal.getsignal() must return this very object.
        self._handler = self._on_nudge

    def install(self, wanted: str | int | None) -> None:
        """Take the first usable signal of those `wanted`. If there is none, ``refusal`` says why.

        Thread: main.
        """
        if wanted is None:
            self.refusal = "WAKE_SIGNAL is none"
            return
        for number in _automatic() if wanted == "auto" else (int(wanted),):
            # Other code handles this signal, or ignores it on purpose. (SIGURG is ignored by
            # default, but its disposition reads SIG_DFL like that of any other signal.)
            if signal.getsignal(number) is not signal.SIG_DFL:
                continue
            try:
                signal.signal(number, self._handler)
            except (OSError, ValueError) as error:
                # ValueError: not the main thread of the main interpreter.
                self.refusal = str(error)
                return
            self.move_to_this_thread()
            self.number = number
            self.refusal = None
            return
        self.refusal = (
            "every usable signal is in use"
            if wanted == "auto"
            else f"signal {int(wanted)} is in use"
        )

    def move_to_this_thread(self) -> None:
        """Nudge this thread from now on: in a child of fork, it is the main one. Thread: main."""
        self._main = get_ident()
        self.native_id = get_native_id()

    def reaches(self, thread_id: int) -> bool:
        """Return whether a nudge would currently reach this thread. Thread: any."""
        return thread_id == self._main and self.is_ours()

    def is_ours(self) -> bool:
        """Return whether the signal is still ours: other code may have taken it over for good."""
        return self.number is not None and signal.getsignal(self.number) is self._handler

    def send(self) -> None:
        """Wake the main thread and make it decide. Thread: any, after :meth:`reaches`."""
        if self.number is not None:
            signal.pthread_kill(self._main, self.number)

    def _on_nudge(self, _signum: int, frame: FrameType | None) -> None:
        """Handle the signal in the main thread, wherever that is: raise an error that is due."""
        self.heard += 1
        try:
            error = self._decide(frame)
        except RecursionError:
            # A kernel timer was faster than the watchdog, which adds the depth (see .recursion) as
            # soon as it has the GIL.
            try:
                time.sleep(_YIELD)
            except RecursionError:
                pass  # the call itself is too deep, or a nudge that came in the meantime
            return
        if error is not None:
            raise error


def _automatic() -> tuple[int, ...]:
    # SIGURG comes first: it is ignored by default, so a nudge that outlives its signal handler
    # kills no process. glibc and musl reserve the first two or three real-time signals; SIGRTMIN
    # is above those.
    return (signal.SIGURG, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1))


class Injector:
    """``PyThreadState_SetAsyncExc``; not ``available`` if there is no ctypes."""

    __slots__ = ("_inject", "_withdraw", "available")

    def __init__(self) -> None:
        self.available = False
        self._inject: Callable[[int, Any], int]
        self._withdraw: Callable[[int, None], int]

    def preload(self) -> None:
        """Import now what must not be imported while the watchdog fires."""
        if self.available:
            return
        try:
            from . import libc  # noqa: PLC0415 - not before there is something to watch
        except ImportError:
            return  # in isolated sub-interpreters
        # Two function objects, because as an Object, None is Py_None, which the target would get as
        # a SystemError. Only NULL withdraws.
        name = "PyThreadState_SetAsyncExc"
        self._inject = libc.function(name, libc.UnsignedLong, libc.Object)
        self._withdraw = libc.function(name, libc.UnsignedLong, libc.Pointer)
        self.available = True

    def inject(self, thread_id: int, exception: type[BaseException]) -> bool:
        """Raise `exception` in the thread at its next bytecode; False if the thread is gone.

        The target thread calls the class without arguments. An instance would arrive as a
        SystemError.
        """
        return self._inject(thread_id, exception) == 1

    def withdraw(self, thread_id: int) -> None:
        """Withdraw an injected exception that has not landed yet, if there is one."""
        self._withdraw(thread_id, None)


def refusal_without_gil() -> str | None:
    """Return why nothing can be watched in this process now; None if Python has its GIL.

    The protocols between the handler's thread and the watchdog rely on the GIL to put their stores
    and loads into one order, and another thread's frames are walked while the GIL keeps that thread
    from running. Without the GIL an interrupt could land in the next invocation, and the walk has
    crashed the process.
    """
    ask: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)  # from 3.13 on
    if ask is None or ask():
        return None
    return (
        "this free-threaded Python runs without its GIL (sys._is_gil_enabled() is False), and the "
        "watchdog needs it; set PYTHON_GIL=1, or use the ordinary build of Python"
    )


def holding(lock: RLock, act: Callable[[], _T]) -> _T:
    """Call `act` with the lock held, in a thread in which an exception may land at any time.

    CPython 3.14 checks for exceptions between the call that enters a ``with`` and its block
    (gh-148874), which would leave the lock held. Here the first check point after the acquisition
    is inside the ``try``, and the next one outside `act` is after the release. Pinned by
    test_late_injection_does_not_reach_next_invocation, which hangs otherwise.
    """
    try:
        lock.acquire()
        return act()
    finally:
        try:
            lock.release()
        except RuntimeError:
            pass  # not acquired: the user's signal handler has raised while we waited for the lock
