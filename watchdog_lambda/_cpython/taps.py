"""Makes another thread decide for itself, from 3.12 on, by an event at its next instruction.

An injection is decided in our thread and lands some instructions later in the other one. A *tap*
asks ``sys.monitoring`` for an event at every instruction of the code that the other thread is in.
The first event removes them all again and decides on the spot, as the nudge's signal handler does
on the main thread: it sees the frame, and can trace the thread to a safe point.

A thread in C code, blocked or not, gets no event until that code returns. Nor does a thread in a
trace function or in another tool's event.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from .source import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    from .delivery import Decide

HEARING = 0.05
"""Seconds within which a running thread gets the event, even on a busy machine. A thread that gets
none for so long may be deaf: in a trace function, or in C code that calls into other code."""

NAME = "watchdog-lambda"
TOOLS = (4, 3)
"""The tool ids that are not reserved for a particular kind of tool."""

_monitoring: Any = getattr(sys, "monitoring", None)


class Tap:
    """The threads that have been tapped and have not had their event yet. One per process."""

    __slots__ = ("_decide", "_on_event", "_tapped")

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._tapped: dict[int, tuple[CodeType, int, float]] = {}
        # Keep one bound method: on 3.12 nothing else keeps it alive while it runs.
        self._on_event = self._hear

    def send(self, thread_id: int, frame: FrameType | None, now: float) -> bool:
        """Tap a thread, whose innermost frame is `frame`. It may have been tapped before.

        False if that is not possible, or if it has had no effect for :data:`HEARING`. `now` is in
        seconds.

        Thread: any but the tapped one.
        """
        tool = None if frame is None or is_ours(frame.f_code) else self._tool()
        if frame is None or tool is None:
            return False
        code, since = frame.f_code, now
        before = self._tapped.get(thread_id)
        if before is not None:
            since = before[2]
            if before[0] is not code:
                self.withdraw(thread_id)
        self._tapped[thread_id] = code, tool, since
        _monitoring.set_local_events(tool, code, _monitoring.events.INSTRUCTION)
        if thread_id not in self._tapped:
            # Another thread in the same code has removed the events, and we have set them again.
            self._rest(code, tool)
        return now < since + HEARING

    def withdraw(self, thread_id: int) -> bool:
        """Withdraw a tap that has had no event yet; False if there is none. Thread: any."""
        tapped = self._tapped.pop(thread_id, None)
        if tapped is None:
            return False
        self._rest(tapped[0], tapped[1])
        return True

    def forget(self) -> None:
        """Withdraw all taps, in a child of fork."""
        for thread_id in [*self._tapped]:
            self.withdraw(thread_id)

    def _rest(self, code: CodeType, tool: int) -> None:
        is_last = all(other is not code for other, _, _ in [*self._tapped.values()])
        if is_last and _monitoring.get_tool(tool) == NAME:  # the id is still ours
            _monitoring.set_local_events(tool, code, 0)

    def _tool(self) -> int | None:
        """Return our tool id. Take one if we have none; None if there is no free one."""
        if _monitoring is None:
            return None
        for tool in TOOLS:
            if _monitoring.get_tool(tool) is None:
                _monitoring.use_tool_id(tool, NAME)
            if _monitoring.get_tool(tool) == NAME:
                # Each time: if this package has been loaded anew, the callback was another tap's.
                _monitoring.register_callback(tool, _monitoring.events.INSTRUCTION, self._on_event)
                return tool
        return None

    def _hear(self, _code: CodeType, _offset: int) -> None:
        if not self.withdraw(get_ident()):
            return  # the event is meant for another thread
        error = self._decide(sys._getframe(1))
        if error is not None:
            raise error
