"""The limits of blocks in coroutines: other tasks of the loop run between a block's steps.

While a block waits, it is cancelled through its task, as usual in asyncio. If the cancellation was
swallowed, an ``Interrupt`` is raised in place of what the task waits for. Other interrupts land in
the block only while its task is running, so that the loop cannot turn.
"""

from __future__ import annotations

import sys

from watchdog_lambda._cpython.awaits import is_whole, raise_in, steps
from watchdog_lambda._cpython.source import current_source
from watchdog_lambda._cpython.tasks import awaited_stack
from watchdog_lambda.errors import Interrupt

from .limits import Limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

    from watchdog_lambda._cpython.awaits import Step
    from watchdog_lambda._plan import Plan


class TaskLimit(Limit):
    """The limit of a block in a coroutine."""

    __slots__ = ("_is_asked", "_loop", "_pressed", "_pressed_at", "_task", "place", "thrown")

    def __init__(self, plan: Plan, start: float, seconds: float, task: Task[Any]) -> None:
        super().__init__(plan, start, seconds)
        self._task = task
        self._loop = task.get_loop()
        self._is_asked = False  # whether the loop is to call _press
        self._pressed: list[Step] = []  # where the task waited when it was cancelled or interrupted
        self._pressed_at = 0.0
        self.place = ""
        self.thrown: Interrupt | None = None

    def outlives(self, outer: Limit) -> bool:
        """Return whether `outer` is another task's: the two only look nested."""
        return isinstance(outer, TaskLimit) and outer._task is not self._task

    def outlives_invocation(self) -> bool:
        """Return whether its task may continue after the invocation that began it."""
        tasks = sys.modules["asyncio"].all_tasks(self._loop)
        return self._task in tasks  # neither done nor parked; see _cpython.tasks

    def cancel_soon(self) -> None:
        """Make the loop cancel the task, or interrupt it. Thread: watchdog."""
        if self._is_asked:
            return
        self._is_asked = True
        try:
            self._loop.call_soon_threadsafe(self._press)
        except RuntimeError:
            pass  # the loop was closed while the block was open

    def may_land(self) -> bool:
        """Return whether the task is running. Thread: any; exact only in the block's."""
        return sys.modules["asyncio"].current_task(self._loop) is self._task

    def uncancel(self) -> int:
        """Undo the cancellation. Return how many others are left. Thread: the block's."""
        return self._task.uncancel()

    def _press(self) -> None:
        # In the loop's thread, between two steps: the task waits in the block, or has left it.
        self._is_asked = False
        if not self.is_open or self.shields:
            return
        if not self.is_cancelled:
            self._note()
            self.place = current_source().location(awaited_stack(self._task.get_coro()))
            self.is_cancelled = True
            self._task.cancel()
        elif self._has_swallowed():
            self._interrupt()

    def _note(self) -> None:
        self._pressed, self._pressed_at = steps(self._task), self.elapsed()

    def _has_swallowed(self) -> bool:
        """Return whether the task has swallowed what ended its last wait.

        It has if it waits at the same place again. Elsewhere it may be winding up, as in the lines
        after the ``try``, so it gets some time. A cleanup gets all the time that it takes.
        """
        now, before = steps(self._task), self._pressed
        if not now:
            return False
        if now == before and is_whole(self._task):
            return True
        handled = {frame for frame, _, is_handling in before if is_handling}
        if any(is_handling and frame not in handled for frame, _, is_handling in now):
            return False
        return self.elapsed() > self._pressed_at + self.timeline().grace_period

    def _interrupt(self) -> None:
        firing: Any = self.firing
        error = self.thrown or Interrupt(self.message(self.limit, self.place))
        error.details = firing.details
        error.__traceback__ = error.__context__ = None  # of the last time, if it was swallowed
        if raise_in(self._task, error):
            self.thrown = error
            self._note()
