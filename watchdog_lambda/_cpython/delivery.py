"""Landing an exception in another thread: by a signal, or by injection.

Two mechanisms, and which one serves is :mod:`.._engine.invocation`'s business:

- The *nudge*: a signal sent to the main thread. Its Python handler runs there, between two
  bytecodes or inside a blocked system call, and raises what the decision that it is given returns.
  The decision sees the exact state; a nudge that comes too late does nothing.
- *Injection*: ``PyThreadState_SetAsyncExc`` for a handler on another thread, or where somebody took
  our signal over. It lands at the next bytecode only: a blocked call ends first
  (python/cpython#144748, changed in 3.15).
"""

from __future__ import annotations

import sys
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

_ROOM = 60
"""Frames that a decision may need, and calls from C code in them."""


class Nudge:
    """The signal that wakes the main thread, and its handler.

    One per process. SIGALRM and every handler that the user installs stay as they are: a signal
    that somebody handles is not taken, and one that somebody took over later is not used any more.
    """

    __slots__ = ("_decide", "_handler", "_main", "heard", "native_id", "number", "refusal")

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._main = 0
        self.native_id = 0
        self.heard = 0  # how often the handler has run; written by the main thread
        self.number: int | None = None  # written by the main thread, once; None: no nudge
        self.refusal: str | None = None
        # One bound method, kept: signal.getsignal() must give this very object.
        self._handler = self._on_nudge

    def install(self, wanted: str | int | None) -> None:
        """Take the first usable signal of those `wanted`; ``refusal`` says why there is none.

        Thread: main.
        """
        if wanted is None:
            self.refusal = "WAKE_SIGNAL is none"
            return
        for number in _automatic() if wanted == "auto" else (int(wanted),):
            # Handled by somebody, or ignored on purpose (except SIGURG, ignored by default, whose
            # disposition reads SIG_DFL like everybody's).
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
            "every signal that could serve is in use"
            if wanted == "auto"
            else f"signal {int(wanted)} is in use"
        )

    def move_to_this_thread(self) -> None:
        """Nudge this thread from now on: in a child of fork it is the main one. Thread: main."""
        self._main = get_ident()
        self.native_id = get_native_id()

    def reaches(self, thread_id: int) -> bool:
        """Whether a nudge lands in this thread now. Thread: any."""
        return thread_id == self._main and self.is_ours()

    def is_ours(self) -> bool:
        """Whether the signal is still ours: somebody may have taken it over, and keeps it."""
        return self.number is not None and signal.getsignal(self.number) is self._handler

    def send(self) -> None:
        """Wake the main thread and have it decide. Thread: any, after :meth:`reaches`."""
        if self.number is not None:
            signal.pthread_kill(self._main, self.number)

    def _on_nudge(self, _signum: int, frame: FrameType | None) -> None:
        """Runs in the main thread, wherever that is; raises what is due there, or does nothing."""
        self.heard += 1
        error = decided(self._decide, frame)
        if error is not None:
            raise error


def decided(decide: Decide, frame: FrameType | None) -> BaseException | None:
    """What `decide` says of `frame`, with room for it where the handler has left none."""
    try:
        return decide(frame)
    except RecursionError:
        # The handler is nearly as deep as it may be. It would get a RecursionError of ours, for
        # none of its own doing, and never the interrupt, should it be blocked there.
        try:
            limit = sys.getrecursionlimit()
            sys.setrecursionlimit(limit + _ROOM)
            try:
                return decide(frame)
            finally:
                # The last frame of all does not get it back; some more room does no harm.
                sys.setrecursionlimit(limit)
        except RecursionError:
            return None


def _automatic() -> tuple[int, ...]:
    # SIGURG first: its default action is to be ignored, so a nudge that outlives the handler kills
    # nobody. glibc and musl keep the first two or three real-time signals, SIGRTMIN counts from
    # there.
    return (signal.SIGURG, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1))


class Injector:
    """``PyThreadState_SetAsyncExc``. Absent (``available`` is False) where there is no ctypes."""

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
            return  # isolated sub-interpreters
        # Two function objects, because None as an object is Py_None, which the target would see as
        # a SystemError; only NULL withdraws.
        name = "PyThreadState_SetAsyncExc"
        self._inject = libc.function(name, libc.UnsignedLong, libc.Object)
        self._withdraw = libc.function(name, libc.UnsignedLong, libc.Pointer)
        self.available = True

    def inject(self, thread_id: int, exception: type[BaseException]) -> bool:
        """Have `exception` raised in the thread at its next bytecode; False if it is gone.

        The class is called without arguments there: an instance would arrive as a SystemError.
        """
        return self._inject(thread_id, exception) == 1

    def withdraw(self, thread_id: int) -> None:
        """Take back what was injected and has not landed yet; nothing, if nothing is pending."""
        self._withdraw(thread_id, None)


def refusal_without_gil() -> str | None:
    """Why nothing can be watched in this process as it stands; None where Python has its GIL.

    A handler's end and the watchdog's acting are told apart by stores and loads of which the GIL
    makes a sequence, and another thread's frames are walked while the GIL keeps that thread from
    running. Without it an interrupt could land in the next invocation, and the walk has crashed the
    process.
    """
    ask: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)  # from 3.13 on
    if ask is None or ask():
        return None
    return (
        "this free-threaded Python runs without its GIL (sys._is_gil_enabled() is False), and the "
        "watchdog needs it; set PYTHON_GIL=1, or use the ordinary build of Python"
    )


def holding(lock: RLock, act: Callable[[], _T]) -> _T:
    """Act with the lock held, in a thread in which an exception may land meanwhile.

    CPython 3.14 checks for one between the call that enters a ``with`` and its block
    (gh-148874), which would leave the lock held. Here the first check point lies after the taking
    and inside of the ``try``, and the next one outside of `act` after the release. Pinned by
    test_late_injection_does_not_reach_the_next_invocation, which is stuck otherwise.
    """
    try:
        lock.acquire()
        return act()
    finally:
        try:
            lock.release()
        except RuntimeError:
            pass  # never taken: a signal handler of the user has raised while it was waited for
