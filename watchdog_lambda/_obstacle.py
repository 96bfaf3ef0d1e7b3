"""Why an interrupt came late, or not at all."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._firing import Firing


def obstacle(firing: Firing, outcome: str) -> str | None:
    """What held the interrupt up, or could have; None if nothing did. Thread: any."""
    if firing.delivery == "injection":
        nudge = firing.tools.nudge
        if nudge.refusal is not None:
            why = nudge.refusal
        elif nudge.number is None or nudge.is_ours():
            why = "the handler is not on the main thread"
        else:
            why = "somebody has taken the wake signal over"
        return f"no nudge ({why}): an interrupt lands only once a blocked call has returned"
    if firing.delivery == "nudge" or firing.invocation.plan.settings.interrupt == "none":
        return None
    if not firing.interrupts:
        return (
            "a durable function: an interrupt's error would be final, while Lambda retries "
            "after a timeout; set INTERRUPT to have it all the same"
        )
    if firing.ladder.is_waiting:
        if outcome == "stuck":
            return "C code held the GIL: the watchdog has come to run only now"
        return "the handler ended before an interrupt was due"
    return f"no means to interrupt: no nudge ({firing.tools.nudge.refusal}), no ctypes"
