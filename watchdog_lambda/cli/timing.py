"""Computes the timeline of a timeout for ``check``, and warns about what looks wrong with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from watchdog_lambda._engine.clock import STAGE_SHARE, Timeline
from watchdog_lambda._hooks import stages

if TYPE_CHECKING:
    from watchdog_lambda._config import Settings
    from watchdog_lambda._plan import Plan

    from .report import Report

_LEAST_PART = 0.05
"""Seconds. A hook with a smaller share of the budget hardly has time for one request."""


def draw_up(report: Report, timeout: float, plan: Plan | None) -> None:
    """Add the timeline of a function with this timeout to the report, and findings about it."""
    settings = report.in_force
    if settings is None:
        return
    if settings.timeout is not None:
        # The guard does the same when the context gives the whole timeout.
        report.timeout = min(timeout, settings.timeout)
        if settings.timeout > timeout:
            report.add(
                "note",
                f"TIMEOUT={settings.timeout:g} is longer than the function's own timeout of "
                f"{timeout:g} s: it has no effect unless the context gives no time",
            )
    timeline = report.timeline = Timeline(
        report.timeout,
        grace_period=settings.grace_period,
        hook_budget=settings.hook_budget,
        last_call=settings.last_call,
    )
    if plan is not None:
        for before, hooks in stages(plan.registries).items():
            report.stages[before] = [hook.name for hook in hooks]
    _look_at_times(report, settings, timeline)
    for before, names in report.stages.items():
        if before is not None:
            _look_at_stage(report, timeline, before, names)
        part = timeline.hook_budget / len(names)
        if part < _LEAST_PART:
            who = "one hook has" if len(names) == 1 else f"each of {len(names)} hooks has"
            report.add(
                "warning",
                f"{who} {part * 1000:.0f} ms ({', '.join(names)}); raise GRACE_PERIOD, "
                "HOOK_BUDGET or the timeout",
            )


def _look_at_times(report: Report, settings: Settings, timeline: Timeline) -> None:
    if timeline.grace_period < settings.grace_period:
        was_set = "grace_period" in settings.given
        report.add(
            "warning" if was_set else "note",
            f"the grace period of {settings.grace_period:g} s shrinks to "
            f"{timeline.grace_period:g} s, a quarter of the invocation's {report.timeout:g} s"
            + (f"; use a timeout of {settings.grace_period * 4:g} s or more" if was_set else ""),
        )
    if settings.hook_budget is not None and timeline.hook_budget < settings.hook_budget:
        report.add(
            "warning",
            f"the hook budget of {settings.hook_budget:g} s shrinks with the grace period to "
            f"{timeline.hook_budget:.2g} s",
        )
    last_call = report.timeout - timeline.last_call_at
    if "last_call" in settings.given and last_call < settings.last_call - 1e-9:
        report.add(
            "warning",
            f"last call at {settings.last_call:g} s shrinks to {last_call:g} s, a quarter of the "
            "grace period",
        )


def _look_at_stage(report: Report, timeline: Timeline, before: float, names: list[str]) -> None:
    who = ", ".join(names)
    most = report.timeout * STAGE_SHARE
    if before > most:
        report.add(
            "warning",
            f"before={before:g} ({who}) is more than three quarters of the invocation's "
            f"{report.timeout:g} s: it begins {most:g} s before the hard deadline",
        )
    if before < timeline.grace_period:
        # Only a note: a hook that replaces the handler's own cleanup may want exactly this.
        report.add(
            "note",
            f"before={before:g} ({who}) is later than the start of the grace period, "
            f"{timeline.grace_period:g} s before the hard deadline: it runs only if the handler "
            "has not ended by then",
        )
    elif before - timeline.hook_budget < timeline.grace_period < before <= most:
        report.add(
            "note",
            f"before={before:g} ({who}) may still be running when the grace period begins: its "
            f"budget is {timeline.hook_budget:.2g} s",
        )


def look_at_caller(report: Report, seconds: float, source: str) -> None:
    """Warn if the caller gives up before the function's time is over."""
    if report.timeout > seconds:
        # Suggest less than the caller waits, because the answer takes time to reach it; and whole
        # seconds, because they are easier to read.
        enough = math.ceil(seconds) - 1 if seconds > 2 else seconds * 0.9
        report.add(
            "warning",
            f"an invocation may take {report.timeout:g} s, but its caller waits only {seconds:g} s "
            f"({source}) and gets no answer to a timeout; set WATCHDOG_LAMBDA_TIMEOUT={enough:g}",
        )
