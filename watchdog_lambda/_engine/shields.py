"""Shields, which interrupts wait for. Only the handler's thread raises and lowers them.

Raise first, then withdraw what was injected. In the other order, an injection between the two would
land in the shielded block, because the watchdog reads ``shields`` and then injects, under the
firing's lock. Pinned by tests/threads/test_shield.py.

Thread: the handler's.
"""

from __future__ import annotations

from watchdog_lambda._cpython.delivery import holding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .invocation import Firing, Invocation


def raise_shield(invocation: Invocation) -> None:
    """Make interrupts wait until :func:`lower_shield`. A pending injection can still land."""
    invocation.shields += 1


def lower_shield(invocation: Invocation) -> None:
    """Undo one :func:`raise_shield` or :func:`enter_shield`."""
    invocation.shields -= 1


def enter_shield(invocation: Invocation) -> None:
    """Raise a shield, and withdraw what was injected before.

    Raises:
        LambdaTimeout: or ``Interrupt``: it has landed in here, and the shield is lowered again.
    """
    invocation.shields += 1
    if invocation.firing is not None:
        try:
            withdraw_for_shield(invocation.firing)
        except BaseException:
            # Catch BaseException, because an Interrupt is no Exception. The block is not entered,
            # so no other code would lower the shield.
            invocation.shields -= 1
            raise


def withdraw_for_shield(firing: Firing) -> None:
    """Withdraw a pending injection: a shield has just been raised."""

    def take_back() -> None:
        if firing.withdraw():
            firing.policy.records.pop()

    holding(firing.lock, take_back)


def reopen(firing: Firing) -> None:
    """Open a settled invocation again, under a shield, so that last call can land in what runs."""
    invocation = firing.invocation
    raise_shield(invocation)
    invocation.is_open = True
    firing.services.alarm.ring()  # the watchdog rarely looks at a closed invocation


def close_again(firing: Firing) -> None:
    """Undo :func:`reopen`, and settle."""
    firing.invocation.is_open = False
    lower_shield(firing.invocation)
    firing.settle()
