"""The output of ``check``: text, or one JSON document."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from .examine import signal_name
from .outcome import Phase
from .screen import Screen, Styled
from .timeline import Row, draw_large, figure

if TYPE_CHECKING:
    from watchdog_lambda._engine.clock import Timeline

    from .report import Report, Setting

SCHEMA = 1
"""The version of the JSON. It changes if a key is removed or its meaning changes."""

_NAME = 18
_LEVELS = {"error": "red", "warning": "yellow", "note": ""}
_UNSET = {"hook_budget": "a third of the grace period", "sigterm": "0", "disabled": "0"}


def show(report: Report, status: int, *, as_json: bool) -> None:
    """Print the report to standard output."""
    if as_json:
        sys.stdout.write(json.dumps(as_document(report, status), indent=2) + "\n")
        sys.stdout.flush()
        return
    screen = Screen(sys.stdout)
    # Errors come first: they must be fixed before anything else matters.
    if report.has("error"):
        _show_findings(screen, report, "error")
        screen.show()
    handler = report.handler
    if handler is not None:
        kind = "async def" if handler.is_async else "def"
        where = f"{handler.file}:{handler.line}" if handler.file else "not Python"
        watched = ", watched by a @watch in its code" if handler.is_watched else ""
        screen.show(Styled("handler", "bold"), f"  {handler.name}: {where}, {kind}{watched}")
        screen.show()
    screen.show(Styled("settings", "bold"))
    values = [_value(setting) for setting in report.settings]
    width = max(map(len, values), default=0)
    for setting, value in zip(report.settings, values, strict=True):
        style = "dim" if setting.source == "default" else ""
        name = f"  {setting.name.upper():<{_NAME}}"
        screen.show(Styled(f"{name}{value:<{width}}  {setting.source}", style))
    if report.timeline is not None:
        screen.show()
        title = f"if an invocation takes all of its {report.timeout:g} s"
        screen.show(Styled("timeline", "bold"), f"  {title}")
        for line in _drawn(report, report.timeline, screen.width):
            screen.show(*line)
    if report.has("warning") or report.has("note"):
        screen.show()
        _show_findings(screen, report, "warning", "note")
    if not report.has("error") and not report.has("warning"):
        screen.show()
        screen.show(Styled("no problems found", "green"))


def _show_findings(screen: Screen, report: Report, *levels: str) -> None:
    for finding in report.findings:
        if finding.level in levels:
            screen.show(Styled(finding.level, _LEVELS[finding.level]), f": {finding.text}")


def _value(setting: Setting) -> str:
    value = _plain(setting)
    if isinstance(value, bool):
        return str(int(value))
    if value is None:
        none = "none" if setting.source != "default" else ""
        return _UNSET.get(setting.name, none)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(setting: Setting) -> object:
    """Return the value, with a signal as its name."""
    value = setting.value
    if setting.name == "wake_signal" and isinstance(value, int):
        return signal_name(value)
    return value


def phases(report: Report, timeline: Timeline) -> list[Phase]:
    """Return what happens when, if the handler does not end by itself."""
    settings = report.in_force
    hard, budget = timeline.limit, timeline.hook_budget
    has_hooks = None in report.stages
    interrupts = settings is not None and settings.interrupt != "none"
    early = [before for before in report.stages if before is not None]
    found = [Phase("running", 0.0, timeline.grace_at, f"{_figure(timeline.grace_at)} s")]
    for before in sorted(early, reverse=True):
        start = timeline.stage_at(before)
        names = ", ".join(report.stages[before])
        text = f"{_figure(start)} s {names}: up to {_figure(budget)} s"
        found.append(Phase("hook", start, min(start + budget, hard), text))
    if has_hooks:
        names = ", ".join(report.stages[None])
        text = f"{_figure(timeline.grace_at)} s {names}: up to {_figure(budget)} s"
        found.append(Phase("hook", timeline.grace_at, timeline.grace_at + budget, text))
    latest = timeline.grace_at + (budget if has_hooks else 0.0)
    if interrupts and settings is not None:
        name = "LambdaTimeout" if settings.interrupt == "timeout-error" else "Interrupt"
        span = f"{_figure(timeline.grace_at)} s"
        if has_hooks:
            span += f" to {_figure(latest)} s"
        found.append(Phase("interrupt", timeline.grace_at, latest, f"{span} {name}"))
        spare = f"{_figure(timeline.last_call_at - latest)} s for except, finally, with"
        found.append(Phase("cleanup", latest, timeline.last_call_at, spare))
    last_resort = "report" if settings is None else settings.last_resort
    answered = "a record is left" if last_resort == "report" else f"answered for, {last_resort}"
    text = f"{_figure(timeline.last_call_at)} s stuck: {answered}"
    found.append(Phase("last call", timeline.last_call_at, hard, text))
    found.append(Phase("killed", hard, hard, "at the hard deadline"))
    return found


def _figure(seconds: float) -> str:
    return figure(seconds, 2)


_SYMBOLS = {
    "running": ("=", ""),
    "hook": ("h", "yellow"),
    "interrupt": ("!", "yellow"),
    "cleanup": ("#", "green"),
    "last call": ("c", "red"),
    "killed": ("X", "red"),
}


def _drawn(report: Report, timeline: Timeline, width: int) -> list[list[Styled]]:
    found = phases(report, timeline)
    rows = [Row(p.name, *_SYMBOLS[p.name], ((p.start, p.end),), p.text) for p in found]
    first = min(p.start for p in found if p.name != "running")
    running = Row("running", "=", "", ((0.0, first),), f"{_figure(first)} s, and then:")
    return draw_large(rows, running, first, timeline.limit, width)


def as_document(report: Report, status: int) -> dict[str, Any]:
    """Return the JSON document; docs/reference/command.md describes it."""
    handler, timeline = report.handler, report.timeline
    return {
        "schema": SCHEMA,
        "handler": None
        if handler is None
        else {
            "name": handler.name,
            "file": handler.file,
            "line": handler.line,
            "is_async": handler.is_async,
            "is_watched": handler.is_watched,
        },
        "settings": [
            {"name": s.name.upper(), "value": _plain(s), "source": s.source}
            for s in report.settings
        ],
        "timeout": report.timeout,
        "hooks": [
            {"name": name, "before": before}
            for before, names in report.stages.items()
            for name in names
        ],
        "timeline": None
        if timeline is None
        else {
            "grace_period": timeline.grace_period,
            "hook_budget": timeline.hook_budget,
            "last_call": timeline.limit - timeline.last_call_at,
            "phases": [phase.as_dict() for phase in phases(report, timeline)],
        },
        "findings": [{"level": f.level, "text": f.text} for f in report.findings],
        "exit_status": status,
    }
