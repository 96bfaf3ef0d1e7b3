"""What interrupts wait for: shields, raised and lowered by the handler's thread alone.

Raise first, then take back what has been injected. The other way round, an injection that comes
between the two lands in the shielded block: the watchdog reads ``shields`` before it injects, both
under the firing's lock. Pinned by tests/threads/test_shield.py.

Thread: the handler's.
"""

from __future__ import annotations

from watchdog_lambda._cpython.delivery import holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Firing, Invocation


def raise_shield(invocation: Invocation) -> None:
    """Have interrupts wait until :func:`lower_shield`. What was injected before can still land."""
    invocation.shields += 1


def lower_shield(invocation: Invocation) -> None:
    """Undo one :func:`raise_shield` or :func:`enter_shield`."""
    invocation.shields -= 1


def enter_shield(invocation: Invocation) -> None:
    """Raise a shield, and take back what was injected before.

    Raises:
        LambdaTimeout: or ``Interrupt``: it has landed on the way, and the shield is down again.
    """
    invocation.shields += 1
    if invocation.firing is not None:
        try:
            withdraw_for_shield(invocation.firing)
        except BaseException:
            # An Interrupt too is none of Exception. The block is not entered, so nobody would lower
            # the shield.
            invocation.shields -= 1
            raise


def withdraw_for_shield(firing: Firing) -> None:
    """Take back an injection on its way: a shield has just gone up."""

    def take_back() -> None:
        if firing.withdraw():
            firing.policy.records.pop()

    holding(firing.lock, take_back)


def reopen(firing: Firing) -> None:
    """Open a settled invocation again, under a shield: last call lands in what runs now."""
    invocation = firing.invocation
    raise_shield(invocation)
    invocation.is_open = True
    firing.services.alarm.ring()  # the watchdog looks rarely at one that it has seen closed


def close_again(firing: Firing) -> None:
    """Undo :func:`reopen`, and settle."""
    firing.invocation.is_open = False
    lower_shield(firing.invocation)
    firing.settle()
