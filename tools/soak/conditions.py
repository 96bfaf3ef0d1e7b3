"""The conditions that the chaos runs the soak's invocations under, by name."""

# Threads and limits are begun and lifted around an invocation, which takes some of the core's own.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from tools.soak.attached import Condition, Coverage, CProfile, Debugger, Monitor, Profiler, Tracer
from watchdog_lambda import watch
from watchdog_lambda._engine.current import under_way
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.testing import FakeContext

NOBODY: Final = 65_534
MIB: Final = 1 << 20


class Signals(Condition):
    """The handler's own: an interval timer on SIGALRM, SIGUSR1, SIGUSR2 and SIGCHLD at random."""

    def begin(self) -> None:
        self.seen = 0
        self._over = threading.Event()
        for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, self._count)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.0017)
        self._thread = threading.Thread(target=self._send, name="signals")
        self._thread.start()

    def _count(self, _signum: int, _frame: FrameType | None) -> None:
        self.seen += 1

    def _send(self) -> None:
        main = threading.main_thread().ident or 0
        while not self._over.wait(self.chance.random() * 0.004):
            number = self.chance.choice((signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD))
            if self.chance.random() < 0.5:
                signal.pthread_kill(main, number)
            else:
                os.kill(os.getpid(), number)

    def end(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._over.set()
        self._thread.join()
        if not self.seen or signal.getsignal(signal.SIGALRM) != self._count:
            raise AssertionError("the handler's own signals did not stay its own")


class Forks(Condition):
    """Children between invocations: forked and ended at once, or of ``subprocess``."""

    def around(self, number: int) -> Iterator[None]:
        if number % 7 == 0:
            with warnings.catch_warnings():
                # 3.12 warns of a fork with several threads; one of those here is the cell's.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if not child:
                # No invocation goes on in it.
                os._exit(int(bool(under_way())))
            if os.waitpid(child, 0)[1]:
                raise AssertionError("a child has an invocation")
        if number % 41 == 0:
            subprocess.run(["/bin/true"], check=False)
        yield


class Finaliser:
    """Releases the GIL when it is collected, in a cycle."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        time.sleep(0)


class Collector(Condition):
    """The collector at nearly every allocation, with finalisers that release the GIL."""

    def around(self, _number: int) -> Iterator[None]:
        gc.set_threshold(self.chance.randint(1, 60), self.chance.randint(1, 5))
        for _ in range(3):
            weakref.finalize(Finaliser(), time.sleep, 0)
        yield

    def end(self) -> None:
        gc.set_threshold(700, 10, 10)


class Recursion(Condition):
    """A recursion limit that leaves some tens of frames."""

    def around(self, _number: int) -> Iterator[None]:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        sys.setrecursionlimit(depth + self.chance.randint(60, 120))
        yield
        sys.setrecursionlimit(1000)


class Descriptors(Condition):
    """No descriptor to be had."""

    def begin(self) -> None:
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    def around(self, number: int) -> Iterator[None]:
        held: list[int] = []
        if number % 2:
            with contextlib.suppress(OSError):
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
        yield
        while held:
            os.close(held.pop())


class Threads(Condition):
    """No thread can be started: ``RLIMIT_NPROC``, as another user where this one is root."""

    def begin(self) -> None:
        if os.geteuid() == 0:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        self._limits = resource.getrlimit(resource.RLIMIT_NPROC)
        # In the very first invocation the watchdog's own thread cannot be started either.
        self._limit(0)
        answer = watch(lambda event, _context: event)("an event", FakeContext(1.0))
        if answer != "an event" or process_watchdog._thread_id is not None:
            raise AssertionError("without a thread the handler must run, unwatched")
        self._limit(self._limits[1])

    def _limit(self, most: int) -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (most, self._limits[1]))

    def around(self, number: int) -> Iterator[None]:
        self._limit(self._limits[1] if number % 4 else 0)
        yield


class Memory(Condition):
    """Some 16 MiB of address space are left, and are eaten now and then."""

    breaks_records = True

    def around(self, number: int) -> Iterator[None]:
        if number == 200:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            most = pages * resource.getpagesize() + 16 * MIB
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        eaten: list[bytearray] = []
        if number > 200 and number % 3 == 0:
            with contextlib.suppress(MemoryError):
                while True:
                    eaten.append(bytearray(MIB // 2))
        yield


class Clock(Condition):
    """The wall clock, as Python code reads it, steps by up to a year either way at each look."""

    def begin(self) -> None:
        real, real_ns, chance = time.time, time.time_ns, self.chance
        year = 365 * 86_400
        time.time = lambda: real() + chance.uniform(-year, year)
        time.time_ns = lambda: real_ns() + chance.randint(-year, year) * 10**9


CONDITIONS: Final[dict[str, tuple[type[Condition], ...]]] = {
    "calm": (Condition,),
    "signals": (Signals,),
    "forks": (Forks,),
    "collector": (Collector,),
    "settrace": (Tracer,),
    "setprofile": (Profiler,),
    "monitoring": (Monitor,),
    "coverage": (Coverage,),
    "cProfile": (CProfile,),
    "debugger": (Debugger,),
    "recursion": (Recursion,),
    "descriptors": (Descriptors,),
    "threads": (Threads,),
    "memory": (Memory,),
    "clock": (Clock,),
    "frozen": (Condition,),  # from outside: SIGSTOP and SIGCONT
    "attached": (Condition,),  # from outside: ptrace
    # Not cProfile: from 3.12 on it follows all threads at once, and with finalisers that release
    # the GIL it crashes; 3.13.0 without the watchdog as well.
    "all at once": (Signals, Forks, Collector, Descriptors, Clock),
}
