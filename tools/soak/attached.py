"""What a condition is, and the conditions of tools that trace, profile or debug the handler."""

from __future__ import annotations

import bdb
import contextlib
import cProfile
import random
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Unavailable(Exception):
    """This condition cannot be had here; the message says why."""


class Condition:
    """What goes on around the invocations. This one: nothing."""

    breaks_records: bool = False  # whether there may be too little of something for a whole record

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def begin(self) -> None:
        """Before the first invocation. Thread: main."""

    def around(self, _number: int) -> Iterator[None]:
        """Around each one. Thread: the handlers'."""
        yield

    def end(self) -> None:
        """After the last one. Thread: main."""


class Tracer(Condition):
    """``sys.settrace``, in Python."""

    def around(self, number: int) -> Iterator[None]:
        if number % 2:
            sys.settrace(_noted)
        yield
        sys.settrace(None)


class Profiler(Condition):
    """``sys.setprofile``, in Python."""

    def around(self, _number: int) -> Iterator[None]:
        sys.setprofile(_noted)
        yield
        sys.setprofile(None)


def _noted(*_about: object) -> Any:
    """Trace on; what a profiler and the callbacks of ``sys.monitoring`` return does not matter."""
    return _noted


class Monitor(Condition):
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
            self._monitoring.register_callback(self._tool, event, _noted)
            self._events |= event

    def around(self, number: int) -> Iterator[None]:
        if number % 3:
            self._monitoring.set_events(self._tool, self._events)
        yield
        self._monitoring.set_events(self._tool, 0)


class Coverage(Condition):
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


class CProfile(Condition):
    """``cProfile``."""

    def around(self, _number: int) -> Iterator[None]:
        profile = cProfile.Profile()
        profile.enable()
        yield
        # It takes whatever is raised in its C code, also an interrupt, for a lack of memory.
        with contextlib.suppress(MemoryError):
            profile.disable()


class Debugger(Condition):
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
