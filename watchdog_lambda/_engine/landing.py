"""Landing an interrupt in the handler's thread: raised by a nudge's handler there, or injected.

Which one, and whether one may land now, is the policy's to say; see :mod:`.interrupts`.
"""

from __future__ import annotations

import sys

from watchdog_lambda._cpython.delivery import holding
from watchdog_lambda._cpython.loops import loop_in, running_loop, wake
from watchdog_lambda._cpython.stacks import all_stacks, frame_of, gc_paused
from watchdog_lambda._cpython.tasks import note_run
from watchdog_lambda.errors import LANDING, prepared

from .interrupts import BLOCKED, MOVING, TRACED
from .limits import cleans_up_for_another

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from .invocation import Firing


def inject(firing: Firing, now: float, handled: BaseException | None) -> bool:
    """Have the interrupt that is due now, if one is, raised at the thread's next bytecode.

    Where the thread can be had to decide itself, it does; True: to be looked at again soon.

    Thread: watchdog.
    """
    thread_id, services = firing.thread_id, firing.services
    with firing.lock:
        # Check and inject under one lock. Otherwise: we see an open invocation; the handler's
        # thread settles and returns; we inject; the next invocation dies of it. Pinned by
        # test_late_injection_does_not_reach_the_next_invocation.
        if not firing.invocation.is_open or thread_id in prepared:
            return False
        # A thread that waits for the GIL is injected where it stands, before its next instruction:
        # in the task that is current now. Pinned by
        # test_an_async_block_off_the_main_thread_is_all_that_is_interrupted.
        if not firing.invocation.may_land():
            return False
        if services.tap.send(thread_id, frame_of(thread_id), services.clock.monotonic()):
            return True
        stack = all_stacks(thread_id).get(thread_id, [])
        error = firing.policy.decide(now, frame_of(thread_id), handled, stack=stack)
        if error is None:
            return False
        prepared[thread_id] = error
        services.injector.inject(thread_id, LANDING[type(error)])
        loop = loop_in(thread_id)
        if loop is None:
            return False
        with gc_paused():
            note_run(frame_of(thread_id))
        if loop not in firing.loops:
            firing.loops.append(loop)
    # After the injection, see there; and without the lock, as it is the loop's code that runs.
    wake(loop)
    return False


def land(firing: Firing, frame: FrameType) -> BaseException | None:
    """The interrupt that the thread, nudged or tapped, must raise in `frame` now; None: none.

    If one is due and the thread runs, it is traced to where one may land.

    Thread: the handler's.
    """
    # What was seen counts for the nudge that it was seen for.
    looked_blocked, firing.looks_blocked = firing.looks_blocked, False
    if firing.delivery == "injection":  # tapped, and so at an instruction
        return _land_alone(firing, frame, MOVING)
    if firing.policy.approach.stands_still(frame, looked_blocked=looked_blocked):
        return _land(firing, frame, BLOCKED)
    return _land(firing, frame, MOVING)


def land_at_shield(firing: Firing, frame: FrameType) -> BaseException | None:
    """The same at the end of a shield, where the watchdog may be about to inject."""
    return _land_alone(firing, frame, BLOCKED)


def _land_alone(firing: Firing, frame: FrameType, found: str) -> BaseException | None:
    """The same while the watchdog cannot inject, and only if it has not: one at a time."""

    def decide() -> BaseException | None:
        return None if firing.thread_id in prepared else _land(firing, frame, found)

    return holding(firing.lock, decide)


def _land(firing: Firing, frame: FrameType, found: str) -> BaseException | None:
    if firing.is_landing:
        # A nudge in the middle of a decision, as in a finaliser that the collector runs there. It
        # would raise into the finaliser, and pull the decision's state away from under it. Pinned
        # by test_a_nudge_in_a_finaliser_inside_of_a_decision_is_put_off.
        return None
    firing.is_landing = True
    try:
        policy, handled = firing.policy, sys.exc_info()[1]
        if not firing.invocation.may_land() or cleans_up_for_another(
            firing.invocation, firing.thread_id, handled
        ):
            return None
        error = policy.decide(firing.elapsed(), frame, handled, found=found)
        if error is not None and error._witness is not None:
            error._witness.landed()
            loop = running_loop()
            if loop is not None:
                note_run(frame)
                if loop not in firing.loops:
                    firing.loops.append(loop)
            policy.approach.stop()
        elif policy.is_on_its_way:
            lands = _land if firing.delivery == "nudge" else _land_alone
            policy.approach.begin(frame, lambda at: lands(firing, at, TRACED))
        return error
    finally:
        firing.is_landing = False
