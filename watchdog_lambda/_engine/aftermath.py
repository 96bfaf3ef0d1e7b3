"""Decides whether a fresh process serves the next event after a timeout.

A timeout can leave a client in the middle of its protocol, and in a process that is kept warm the
client then fails permanently. So the process is replaced if something may be broken: an interrupt
has landed inside a library that is not known to recover, a wait was severed, or something that the
invocation has started is still working.

Thread: the handler's, after it has settled.
"""

from __future__ import annotations

from watchdog_lambda._cpython.leftovers import children_at_work, threads_at_work
from watchdog_lambda._cpython.source import place_of
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda.details import KEEP, RECYCLE
from watchdog_lambda.errors import Interrupt, LambdaTimeout

from .clock import SystemClock
from .stage import HookRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .invocation import Firing
    from .services import Renewal

hooks = HookRegistry()
"""The ``after_timeout`` hooks."""

recovering: set[str] = {
    "aiobotocore",
    "aiohttp",
    "asyncpg",
    "botocore",
    "grpc",
    "httpcore",
    "httpcore2",
    "httpx",
    "httpx2",
    "pymongo",
    "redis",
    "requests",
    "urllib",
    "urllib3",
    "valkey",
}
"""Libraries whose clients work in the next invocation, wherever in them an interrupt has landed.

They are top-level packages, and tests/stacks/test_stacks.py proves the claim for each. One of them
on the way from the user's code to the landing place is enough: it looks after those that it uses.
"""

NOT_LAMBDAS = "only a process of Lambda's runtime can be replaced"

renewal: Renewal | None = None
"""What replaces the process: its supervisor, or else a restart in place. Set at the start."""


def run_hooks(firing: Firing) -> None:
    """Run the ``after_timeout`` hooks, the last registered first; none stops another.

    Raises:
        LambdaTimeout: or ``Interrupt``: last call has cut them short.
    """
    for hook in reversed(hooks.snapshot()):
        record = HookRecord(hook.name)
        firing.after.append(record)
        record.started = began = firing.elapsed()
        record.outcome = "timed-out"  # unless replaced below
        try:
            hook.call(firing.details)
        except (LambdaTimeout, Interrupt):
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - recorded
            record.outcome = "raised"
            record.error = f"{type(error).__name__} in {place_of(error)}"
        else:
            record.outcome = "ok"
        finally:
            record.duration = firing.elapsed() - began


def decide(firing: Firing) -> None:
    """Have the process replaced before its next event, if necessary. The record says so."""
    reason = _reason(firing)
    if reason is None:
        return
    if renewal is None:
        why_not: str | None = NOT_LAMBDAS
    else:
        why_not = renewal.before_next_event(_left(firing))
    firing.recycled = reason if why_not is None else f"not recycled: {reason} ({why_not})"


def _left(firing: Firing) -> float:
    """Return the seconds to the platform's own deadline, regardless of the setting ``TIMEOUT``."""
    context: Any = firing.invocation.context
    try:
        return float(context.get_remaining_time_in_millis()) * 0.001
    except Exception:  # noqa: BLE001 - the user's object
        return firing.timeline.limit - firing.elapsed()


def _reason(firing: Firing) -> str | None:
    """Return why the process is to be replaced; None if it is not."""
    setting = firing.invocation.plan.settings.recycle
    wish = None if firing.details is None else firing.details._wish
    if setting == "never" or (setting == "auto" and wish == KEEP):
        return None
    if wish == RECYCLE:
        return "an after_timeout hook has asked for it"
    return "RECYCLE=always" if setting == "always" else suspicion(firing)


def suspicion(firing: Firing) -> str | None:
    """Return what may be broken; None if nothing is suspected."""
    reasons: list[str] = []
    if firing.severed:
        reasons.append(f"severed {', '.join(firing.severed)}")
    for interrupt in firing.policy.records:
        libraries = interrupt.libraries
        if interrupt.landed_at is not None and libraries and recovering.isdisjoint(libraries):
            reasons.append(f"interrupted in {libraries[0]}")
            break
    reasons += [f"task {name} did not end" for name in firing.unended[:1]]
    since = SystemClock.since_boot() - firing.elapsed()
    reasons += [f"thread {name} still works" for name in threads_at_work(firing.code, since)[:1]]
    reasons += [f"process {name} still works" for name in children_at_work(since)[:1]]
    return "; ".join(reasons) or None
