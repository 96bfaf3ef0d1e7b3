"""Lands an interrupt in the handler's thread: raised by a nudge's signal handler, or injected.

The policy decides which interrupt lands, and whether one may land now; see :mod:`.interrupts`.
"""

from __future__ import annotations

import sys

from watchdog_lambda._cpython.delivery import holding
from watchdog_lambda._cpython.loops import loop_in, running_loop, wake
from watchdog_lambda._cpython.stacks import all_stacks, frame_of, gc_paused
from watchdog_lambda._cpython.target_frames import is_in_a_decision
from watchdog_lambda._cpython.tasks import note_run
from watchdog_lambda.errors import LANDING, prepared

from .interrupts import BLOCKED, MOVING, TAPPED, TRACED
from .limits import cleans_up_for_another

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from .invocation import Firing


def inject(firing: Firing, now: float, handled: BaseException | None) -> None:
    """Inject the interrupt that is due now, if one is, at the thread's next bytecode.

    If the thread can be tapped, it decides itself instead.

    Thread: watchdog.
    """
    thread_id, services = firing.thread_id, firing.services
    with firing.lock:
        # Check and inject under one lock. Otherwise: we see an open invocation; the handler's
        # thread settles and returns; we inject; the next invocation gets the interrupt. Pinned by
        # test_late_injection_does_not_reach_next_invocation.
        if not firing.invocation.is_open or thread_id in prepared:
            return
        # In a thread that waits for the GIL the injection lands before its next instruction, so in
        # the task that is current now. Pinned by
        # test_async_block_on_another_thread_is_interrupted_alone.
        if not firing.invocation.may_land():
            return
        # Not where a loop runs: between two callbacks all frames are the loop's, and the thread
        # would be traced through many of them.
        # Pinned by test_async_expire_off_the_main_thread_lands.
        loop = loop_in(thread_id)
        if loop is None and services.tap.send(
            thread_id, frame_of(thread_id), services.clock.monotonic()
        ):
            return
        stack = all_stacks(thread_id).get(thread_id, [])
        error = firing.policy.decide(now, frame_of(thread_id), handled, stack=stack)
        if error is None:
            return
        prepared[thread_id] = error
        services.injector.inject(thread_id, LANDING[type(error)])
        if loop is None:
            return
        with gc_paused():
            note_run(frame_of(thread_id))
        if loop not in firing.loops:
            firing.loops.append(loop)
    # Wake it after the injection (see there), and without the lock: this runs the loop's code.
    wake(loop)


def land(firing: Firing, frame: FrameType) -> BaseException | None:
    """Return the interrupt that the nudged or tapped thread must raise in `frame` now, if any.

    If one is due and the thread is running, the thread is traced to where one may land.

    Thread: the handler's.
    """
    # What the watchdog saw is valid for one nudge only.
    looked_blocked, firing.looks_blocked = firing.looks_blocked, False
    if firing.delivery == "injection":  # tapped, so the thread is at an instruction
        return _land_alone(firing, frame, TAPPED)
    if firing.policy.approach.stands_still(frame, looked_blocked=looked_blocked):
        return _land(firing, frame, BLOCKED)
    return _land(firing, frame, MOVING)


def land_at_shield(firing: Firing, frame: FrameType) -> BaseException | None:
    """Do the same at the end of a shield, where the watchdog may be about to inject."""
    return _land_alone(firing, frame, BLOCKED)


def _land_alone(firing: Firing, frame: FrameType, found: str) -> BaseException | None:
    """Do the same under the lock, so that the watchdog cannot inject, and only if it has not."""

    def decide() -> BaseException | None:
        return None if firing.thread_id in prepared else _land(firing, frame, found)

    return holding(firing.lock, decide)


def _land(firing: Firing, frame: FrameType, found: str) -> BaseException | None:
    policy, handled = firing.policy, sys.exc_info()[1]
    if (
        not firing.invocation.may_land()
        or cleans_up_for_another(firing.invocation, firing.thread_id, handled)
        or is_in_a_decision(frame)
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
