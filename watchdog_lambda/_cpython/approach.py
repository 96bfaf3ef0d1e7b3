"""Where an interrupt lands: at once in a call that blocks, else at a safe point of the user's code.

A nudge's handler runs wherever the thread is. If that is in a call that blocks, the interrupt is
raised there, which is what ends the call. If the thread runs, it may be anywhere: in a library
function that takes an error for an answer, or half through the entering of a block. So the nearest
frame of the user's own code is traced until its next safe point, and the interrupt lands there;
what was called meanwhile returns as if nothing were. Code that does not come back to the user's for
long is interrupted where it is: see :data:`PATIENCE`.

Where somebody else traces the thread (a debugger, a coverage tool) we do not. Then an interrupt
lands where a nudge happens to meet the thread at a safe point.

Thread: the handler's, in the middle of anything, but for :meth:`Approach.restart`.
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
"""Seconds of processor time that the thread gets to come to a safe point of the user's own code;
twice that, until an installed library's will do as well; then the standard library's. Processor
time, for a thread that has to wait for its turn cannot come anywhere."""

PATIENCE_SHARE = 0.1
"""It is never more than this share of the grace period either,"""

LEAST_PATIENCE = 0.003
"""and never less than this: under a trace function a turn of an event loop takes part of it."""

HURRY = 2
"""How many times as fast it runs out from last call on, which is short. Once the hard deadline has
passed nobody has killed, and it is not short of anything any more."""


class Approach:
    """The way of one invocation's interrupts to the places where they land."""

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
        self._watched: FrameType | None = None  # the innermost one, until it runs on
        self._enters = False  # whether a frame that is entered may become the target
        # One object each, kept: sys.gettrace() must give this very one.
        self._on_call: TraceFunction = self._enter
        self._on_event: TraceFunction = self._step

    def restart(self) -> None:
        """None is due any more: the next one gets the whole patience. Thread: any."""
        self._cpu_since = None

    def stands_still(self, frame: FrameType, *, looked_blocked: bool) -> bool:
        """Whether the thread is in one call, as it was when it was looked at before.

        `looked_blocked` says what the watchdog has seen just before the nudge. Or a nudge before
        this one has met the same frame, and not one instruction of it has been traced since; so it
        is with C code that computes and looks at signals (a regular expression), and where the
        kernel does not tell.
        """
        return frame is self._watched or (looked_blocked and is_at_a_call(frame))

    def allows(
        self, frame: FrameType, *, is_last_call: bool = False, is_late: bool = False
    ) -> bool:
        """Whether a signal's handler may raise in `frame`, in which the thread runs.

        Else it is to :meth:`begin`. `is_late` says that the hard deadline has passed, too.
        """
        self.frames.note_handlers()
        # Without our own part in it. Pinned by test_what_reading_code_takes_is_not_the_threads.
        now = time.thread_time() - self.frames.reading
        since = self._cpu_since
        if since is None:
            since = self._cpu_since = now
        is_held_up = self._is_held_up()
        patience = PATIENCE if is_late else self._patience / (HURRY if is_last_call else 1)
        stage = int((now - since) / patience)
        self._reach = min(stage, WHEREVER if is_last_call or is_held_up else ANY)
        if self._reach < WHEREVER and not is_held_up:
            return False
        target, is_loops = self.frames.nearest(frame, self._reach)
        if self._reach == WHEREVER:
            return not is_loops
        return target is frame and self.frames.allows_after(frame, self._reach)

    def begin(self, frame: FrameType, ask: Ask) -> None:
        """Trace the thread from `frame` on; at the next safe point raise what `ask` gives.

        Does nothing where another tool traces it. Call :meth:`allows` first.
        """
        if self._is_held_up():
            return
        target, is_loops = self.frames.nearest(frame, self._reach)
        self._ask = ask
        # Through a loop the thread comes back to no frame of its stack, but enters new ones.
        self._enters = is_loops or target is None
        if self._target is not None and self._target is not target:
            _leave(self._target)
        self._target = target
        self._watched = frame
        # Before and after: beside a profile function 3.13 shows no opcodes that were asked for
        # before it was set, and 3.12 none that were asked for after. Pinned by
        # test_a_landing_beside_a_tool_disturbs_neither.
        sys.settrace(self._on_call)
        self._trace(frame)
        if target is not None:
            self._trace(target)
        sys.settrace(self._on_call)

    def stop(self) -> None:
        """Trace no more; nothing, if we do not."""
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
        # A task goes on in its outermost coroutine, and comes down to the innermost one.
        if self._enters and self.frames.is_within(frame.f_code, self._reach):
            target, _ = self.frames.nearest(frame, self._reach)
            if target is not None:
                self._target = target
                self._trace(target)
        return None

    def _step(self, frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        if frame is self._watched:
            self._watched = None  # it has run on
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
            # Asked no more in any case: a shield, or a cleanup, would be slow for its length.
            self.stop()
            if error is not None:
                raise error
            return None
        return self._on_event


def _leave(frame: FrameType) -> None:
    # Whatever else a trace function returns than None becomes f_trace again.
    frame.f_trace = None
    frame.f_trace_opcodes = False
