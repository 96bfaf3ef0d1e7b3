"""One cell of the chaos: the soak's invocations, in one kind of weather, in a process of its own.

:mod:`tools.chaos` starts it and reads what it leaves on its standard output; see there.
"""

# Threads and limits are begun and lifted around an invocation, which takes some of the core's own.
# ruff: noqa: SLF001

from __future__ import annotations

import bdb
import contextlib
import cProfile
import errno
import gc
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from tools.soak_cell import Cell, Soak
from watchdog_lambda import Interrupt, LambdaTimeout, watch
from watchdog_lambda._engine.current import under_way
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.testing import FakeContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from tools.soak_kinds import Shot

UNAVAILABLE: Final = 77
"""Exit status where this weather cannot be had here; the reason is the last line on stderr."""

NOBODY: Final = 65_534
MIB: Final = 1 << 20

_NO_END: Final = 1_000_000_000
"""Invocations: the time ends it."""


_SHORT: Final = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE}


class Unavailable(Exception):
    """This weather cannot be had here; the message says why."""


class Weather:
    """What goes on around the invocations. This one: nothing."""

    breaks_records: bool = False
    """Whether there may be too little of something for a whole record."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def begin(self) -> None:
        """Before the first invocation. Thread: main."""

    def around(self, _number: int) -> Iterator[None]:
        """Around each one. Thread: the handlers'."""
        yield

    def end(self) -> None:
        """After the last one. Thread: main."""


class Signals(Weather):
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


class Forks(Weather):
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
        sleep(0)


class Collector(Weather):
    """The collector at nearly every allocation, with finalisers that release the GIL."""

    def around(self, _number: int) -> Iterator[None]:
        gc.set_threshold(self.chance.randint(1, 60), self.chance.randint(1, 5))
        for _ in range(3):
            weakref.finalize(Finaliser(), sleep, 0)
        yield

    def end(self) -> None:
        gc.set_threshold(700, 10, 10)


class Tracer(Weather):
    """``sys.settrace``, in Python."""

    def around(self, number: int) -> Iterator[None]:
        if number % 2:
            sys.settrace(self._trace)
        yield
        sys.settrace(None)

    def _trace(self, _frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        return self._trace


class Profiler(Weather):
    """``sys.setprofile``, in Python."""

    def around(self, _number: int) -> Iterator[None]:
        sys.setprofile(self._profile)
        yield
        sys.setprofile(None)

    def _profile(self, _frame: FrameType, _event: str, _argument: object) -> None:
        pass


class Monitor(Weather):
    """``sys.monitoring``: lines, jumps, calls, returns and raises, from 3.12 on."""

    def begin(self) -> None:
        self._monitoring: Any = getattr(sys, "monitoring", None)
        if self._monitoring is None:
            raise Unavailable("sys.monitoring came with Python 3.12")
        self._tool: int = self._monitoring.PROFILER_ID
        self._monitoring.use_tool_id(self._tool, "chaos")
        events = self._monitoring.events
        self._events = 0
        for event in (events.LINE, events.JUMP, events.PY_START, events.PY_RETURN, events.RAISE):
            self._monitoring.register_callback(self._tool, event, self._noted)
            self._events |= event

    def _noted(self, *_about: object) -> None:
        pass

    def around(self, number: int) -> Iterator[None]:
        if number % 3:
            self._monitoring.set_events(self._tool, self._events)
        yield
        self._monitoring.set_events(self._tool, 0)


class Coverage(Weather):
    """A coverage tool."""

    def begin(self) -> None:
        try:
            import coverage  # noqa: PLC0415 - where it is installed
        except ImportError:
            raise Unavailable("coverage is not installed for this interpreter") from None
        self._coverage = coverage.Coverage(data_file=None, branch=True)
        self._coverage.start()

    def end(self) -> None:
        self._coverage.stop()


class CProfile(Weather):
    """``cProfile``."""

    def around(self, _number: int) -> Iterator[None]:
        profile = cProfile.Profile()
        profile.enable()
        yield
        # It takes whatever is raised in its C code, also an interrupt, for a lack of memory.
        with contextlib.suppress(MemoryError):
            profile.disable()


class Debugger(Weather):
    """A debugger of Python's that steps through everything, like pdb and IDEs'."""

    def begin(self) -> None:
        self._debugger = Steps()

    def around(self, number: int) -> Iterator[None]:
        if number % 3 == 0:
            self._debugger.reset()
            self._debugger.set_step()
            sys.settrace(self._debugger.trace_dispatch)
        yield
        sys.settrace(None)


class Steps(bdb.Bdb):
    def user_line(self, frame: FrameType) -> None:
        del frame
        self.set_step()


class Recursion(Weather):
    """A recursion limit that leaves some tens of frames."""

    def around(self, _number: int) -> Iterator[None]:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        sys.setrecursionlimit(depth + self.chance.randint(60, 120))
        yield
        sys.setrecursionlimit(1000)


class Descriptors(Weather):
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


class Threads(Weather):
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


class Memory(Weather):
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


class Clock(Weather):
    """The wall clock, as Python code reads it, steps by up to a year either way at each look."""

    def begin(self) -> None:
        real, real_ns, chance = time.time, time.time_ns, self.chance
        year = 365 * 86_400
        time.time = lambda: real() + chance.uniform(-year, year)
        time.time_ns = lambda: real_ns() + chance.randint(-year, year) * 10**9


WEATHERS: Final[dict[str, tuple[type[Weather], ...]]] = {
    "calm": (Weather,),
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
    "frozen": (Weather,),  # from outside: SIGSTOP and SIGCONT
    "attached": (Weather,),  # from outside: ptrace
    # Not cProfile: from 3.12 on it follows all threads at once, and with finalisers that release
    # the GIL it crashes; 3.13.0 without the watchdog as well.
    "all at once": (Signals, Forks, Collector, Descriptors, Clock),
}


_LOOPS: Final = {"async def, waits", "async def, computes", "asyncio.run", "kept loop"}


class Chaos(Soak):
    def __init__(self, weathers: Sequence[Weather], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.weathers = weathers
        if any(isinstance(weather, Tracer | Profiler | Debugger | Monitor) for weather in weathers):
            # Their code runs inside of a loop's own callbacks, too. One that is interrupted there
            # is lost, as with an injection, and the loop may wait for ever.
            loops = [i for i, kind in enumerate(self.kinds) if kind.name in _LOOPS]
            for i in reversed(loops):
                del self.kinds[i], self.watched[i]
            self.weights = [*itertools.accumulate(kind.weight for kind in self.kinds)]

    def _shoot(self, number: int) -> None:
        around = [weather.around(number) for weather in self.weathers]
        for each in around:
            next(each)
        try:
            super()._shoot(number)
        finally:
            for each in reversed(around):
                next(each, None)

    def _problem(self, shot: Shot, result: object, error: BaseException | None) -> str | None:
        problem = super()._problem(shot, result, error)
        if problem == "was not interrupted" and process_watchdog._thread_id is None:
            self.count["known: no thread to be had"] += 1
            return None
        if problem is not None and error is not None and _is_the_weathers(error):
            # Python code of the tool's ran between the handler's last lines, and was interrupted;
            # or there was too little of something for the handler itself.
            self.count["known: met the weather"] += 1
            return None
        return problem

    def violated(
        self, what: str, shot: Shot | None = None, error: BaseException | None = None
    ) -> None:
        if what == "a finally was skipped" and error is not None and _is_the_weathers(error):
            # It had begun: a tool's code for its first line is what was interrupted.
            self.count["known: met the weather"] += 1
            return
        super().violated(what, shot, error)

    def saw_unraisable(self, event: sys.UnraisableHookArgs) -> None:
        error = event.exc_value
        if isinstance(error, LambdaTimeout | Interrupt) and (
            _is_in(error, "__del__") or _is_the_weathers(error)
        ):
            # In a finaliser's callee: a signal's handler or a tool that runs in there.
            self.count["dropped by C code"] += 1
            return
        super().saw_unraisable(event)

    def result(self) -> dict[str, Any]:
        came_to = super().result()
        # How close the ends came is the soak's business; a weather spoils the aim.
        self.violations.pop("nothing is shown: no invocation came close to the race", None)
        return came_to


def _is_in(error: BaseException, function: str) -> bool:
    """Whether it has come through a function of this name."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == function for frame, _ in frames)


def _is_the_weathers(error: BaseException) -> bool:
    """Whether it was raised in a weather's own frames, or for want of what the weather takes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | RecursionError):
            return True
        if isinstance(seen, OSError) and seen.errno in _SHORT:
            return True
        if isinstance(seen, RuntimeError) and "start new thread" in str(seen):
            return True
        entry = seen.__traceback__
        while entry is not None:
            file = entry.tb_frame.f_code.co_filename
            if entry.tb_next is None and file in {__file__, bdb.__file__}:
                return True
            entry = entry.tb_next
        seen = seen.__cause__ or seen.__context__
    return False


class ChaosCell(Cell):
    def __init__(self, chaos: Chaos) -> None:
        super().__init__(chaos)
        self.chaos = chaos

    def run(self) -> None:
        try:
            for weather in self.chaos.weathers:
                weather.begin()
        except Unavailable as error:
            print(error, file=sys.stderr)
            sys.exit(UNAVAILABLE)
        super().run()

    def _write(self) -> None:
        for weather in self.chaos.weathers:
            weather.end()
        super()._write()


def main(arguments: list[str]) -> None:
    """Run one cell: weather, delivery, seed, seconds."""
    weather, delivery, seed, seconds = arguments
    chance = random.Random(f"{seed} {weather}")  # noqa: S311 - nothing secret
    weathers = [kind(chance) for kind in WEATHERS[weather]]
    ChaosCell(Chaos(weathers, delivery, _NO_END, int(seed), float(seconds))).run()


if __name__ == "__main__":
    main(sys.argv[1:])
