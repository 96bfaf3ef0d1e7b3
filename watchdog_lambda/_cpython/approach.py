"""Makes an interrupt land at once in a blocking call, else at a safe point of the user's code.

A nudge's signal handler runs wherever the thread is. If the thread is in a blocking call, the
interrupt is raised there, which ends the call. If the thread is running, it may be anywhere: in a
library function that turns an error into an answer, or in the middle of entering a block. So the
nearest frame of the user's own code is traced to its next safe point, and the interrupt lands
there; the functions that it has called return undisturbed. Code that does not return to the user's
code for long is interrupted where it is: see :data:`PATIENCE`.

If another tool traces the thread (a debugger, a coverage tool), we do not. Then an interrupt lands
where a nudge happens to meet the thread at a safe point.

Thread: the handler's, in the middle of anything, except :meth:`Approach.restart`.
"""

from __future__ import annotations

import sys
import time

from .target_frames import ANY, OWN, WHEREVER, TargetFrames, is_at_a_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from .source import SourceMap

    TraceFunction = Callable[[FrameType, str, Any], Any]
    Ask = Callable[[FrameType], BaseException | None]

PATIENCE = 0.05
"""Seconds of CPU time that the thread gets to reach a safe point of the user's own code. After that
a safe point of an installed library is accepted, and after twice that one of the standard library.
It is CPU time, because a thread that waits for a processor makes no progress."""

PATIENCE_SHARE = 0.1
"""The patience is never more than this share of the grace period."""

LEAST_PATIENCE = 0.003
"""The patience is never less than this: under a trace function a turn of an event loop takes part
of it."""

HURRY = 2
"""How many times as fast the patience runs out from last call on, when little time is left. Once
the hard deadline has passed without a kill, there is no hurry any more."""


class Approach:
    """Brings one invocation's interrupts to the places where they land."""

    __slots__ = (
        "_ask",
        "_cpu_since",
        "_enters",
        "_on_call",
        "_on_event",
        "_patience",
        "_reach",
        "_target",
        "_watched",
        "frames",
    )

    def __init__(self, source: SourceMap, grace_period: float) -> None:
        self.frames = TargetFrames(source, time.thread_time)
        self._patience = max(LEAST_PATIENCE, min(PATIENCE, PATIENCE_SHARE * grace_period))
        self._cpu_since: float | None = None
        self._reach = OWN
        # Set while we trace.
        self._ask: Ask | None = None
        self._target: FrameType | None = None
        self._watched: FrameType | None = None  # the innermost frame, until it continues
        self._enters = False  # whether a frame that is entered may become the target
        # Keep one object of each: sys.gettrace() must return this very object.
        self._on_call: TraceFunction = self._enter
        self._on_event: TraceFunction = self._step

    def restart(self) -> None:
        """Give the next interrupt the whole patience: none is due any more. Thread: any."""
        self._cpu_since = None

    def stands_still(self, frame: FrameType, *, looked_blocked: bool) -> bool:
        """Return whether the thread is still in the same call as at the previous look.

        `looked_blocked` is what the watchdog saw just before the nudge. Otherwise, an earlier nudge
        has met the same frame, and no instruction of it was traced since. This detects C code that
        computes and checks for signals (a regular expression), and works if the kernel does not
        tell.
        """
        return frame is self._watched or (looked_blocked and is_at_a_call(frame))

    def allows(
        self,
        frame: FrameType,
        *,
        is_last_call: bool = False,
        is_late: bool = False,
        has_waited: bool = False,
    ) -> bool:
        """Return whether a signal handler may raise in `frame`, in which the thread is running.

        If not, call :meth:`begin`. `is_late` says that even the hard deadline has passed, and
        `has_waited` that the thread gets no more time to return to the user's code: it may be
        polling, which takes hardly any CPU time.
        """
        self.frames.note_handlers()
        # Subtract our own part. Pinned by test_time_to_read_code_is_not_counted.
        now = time.thread_time() - self.frames.reading
        since = self._cpu_since
        if since is None:
            since = self._cpu_since = now
        is_held_up = self._is_held_up()
        patience = PATIENCE if is_late else self._patience / (HURRY if is_last_call else 1)
        stage = max(int((now - since) / patience), ANY if has_waited else OWN)
        self._reach = min(stage, WHEREVER if is_last_call or is_held_up else ANY)
        if self._reach < WHEREVER and not (is_held_up or has_waited):
            return False
        target, is_loops = self.frames.nearest(frame, self._reach)
        if self._reach == WHEREVER:
            return not is_loops
        return target is frame and self.frames.allows_after(frame, self._reach)

    def begin(self, frame: FrameType, ask: Ask) -> None:
        """Trace the thread from `frame` on. At the next safe point, raise what `ask` returns.

        Does nothing if another tool traces the thread. Call :meth:`allows` first.
        """
        if self._is_held_up():
            return
        target, is_loops = self.frames.nearest(frame, self._reach)
        self._ask = ask
        # If a loop is in between, the thread does not return to its frames, but enters new ones.
        self._enters = is_loops or target is None
        if self._target is not None and self._target is not target:
            _leave(self._target)
        self._target = target
        self._watched = frame
        # Set before and after: if there is a profile function, 3.13 shows no opcodes requested
        # before the trace function was set, and 3.12 none requested after. Pinned by
        # test_interrupt_lands_beside_active_tool.
        sys.settrace(self._on_call)
        self._trace(frame)
        if target is not None:
            self._trace(target)
        sys.settrace(self._on_call)

    def stop(self) -> None:
        """Stop tracing, if we trace."""
        if sys.gettrace() is self._on_call:
            sys.settrace(None)
        for traced in (self._watched, self._target):
            if traced is not None:
                _leave(traced)
        self._watched = self._target = self._ask = None
        self._enters = False

    def _is_held_up(self) -> bool:
        return sys.gettrace() not in {None, self._on_call}

    def _trace(self, frame: FrameType) -> None:
        frame.f_trace_opcodes = True
        frame.f_trace = self._on_event

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> TraceFunction | None:
        # A task continues in its outermost coroutine, which then continues the inner ones.
        if self._enters and self.frames.is_within(frame.f_code, self._reach):
            target, _ = self.frames.nearest(frame, self._reach)
            if target is not None:
                self._target = target
                self._trace(target)
        return None

    def _step(self, frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        if frame is self._watched:
            self._watched = None  # the frame has continued
        if event == "return":
            if frame is self._target:
                self._target = None
                if not self._enters:
                    self.stop()
            _leave(frame)
            return None
        if event != "opcode":
            return self._on_event
        if frame is not self._target:
            _leave(frame)
            return None
        if self._ask is not None and self.frames.allows(frame, self._reach):
            error = self._ask(frame)
            # Stop in any case: otherwise a shield or a cleanup would be slow to its end.
            self.stop()
            if error is not None:
                raise error
            return None
        return self._on_event


def _leave(frame: FrameType) -> None:
    # The trace function must return None after this; anything else would become f_trace again.
    frame.f_trace = None
    frame.f_trace_opcodes = False
