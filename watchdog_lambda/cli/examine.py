"""Gathers the facts for ``check``: settings, handler, timeline, and what looks wrong with them.

It imports the handler's module into this process, as the runtime would. It invokes nothing.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from watchdog_lambda import ConfigurationError
from watchdog_lambda._config import SETTINGS, Settings
from watchdog_lambda._engine import aftermath
from watchdog_lambda._parsers import Reading
from watchdog_lambda._report import metrics
from watchdog_lambda._watched import plan_of

from .handler import find_handler
from .report import Report, Setting
from .timing import draw_up, look_at_caller

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from watchdog_lambda._plan import Plan

    from .template import Deadlines


def examine(
    environ: MutableMapping[str, str],
    sources: Mapping[str, str],
    argument: str | None,
    deadlines: Deadlines,
) -> Report:
    """Gather everything for the report. Imports the handler's module."""
    report = Report(deadlines.timeout)
    _read_settings(report, environ, sources)
    handler = find_handler(report, environ, sources, argument)
    settings = report.in_force
    if settings is None:
        return report
    plan = None
    if handler is not None and not settings.disabled:
        plan = plan_of(handler, settings)
        _take_options(report, plan)
        settings = plan.settings
    if settings.disabled:
        report.add("warning", "DISABLED=1: nothing is watched, and Lambda kills at the timeout")
        return report
    draw_up(report, deadlines.timeout, plan)
    if deadlines.caller is not None:
        look_at_caller(report, deadlines.caller, deadlines.caller_source)
    _look_at_process(report, environ)
    _look_at_libraries(report)
    return report


def _read_settings(report: Report, environ: Mapping[str, str], sources: Mapping[str, str]) -> None:
    read = Reading(environ, SETTINGS)
    for variable, suggestion in sorted(read.unknown.items()):
        report.add("warning", f"{variable} is not a setting and has no effect; {suggestion}")
    for name, setting in SETTINGS.items():
        value: object = setting.default
        source = "default"
        if name in read.sources:
            source = sources.get(setting.variable, "environment")
            value = read.values.get(name, environ[setting.variable].strip())
        if name in read.errors:
            report.add("error", str(read.errors[name]))
        report.settings.append(Setting(name, value, source))
    if read.errors:
        return
    try:
        report.in_force = Settings(read.values, read.sources)
    except ConfigurationError as error:
        report.add("error", str(error))


def _take_options(report: Report, plan: Plan) -> None:
    """Apply the options in the handler's own code, which override the environment."""
    report.in_force = plan.settings
    report.settings = [
        Setting(setting.name, getattr(plan.settings, setting.name), "code")
        if setting.name in plan.given
        else setting
        for setting in report.settings
    ]


def _look_at_process(report: Report, environ: Mapping[str, str]) -> None:
    settings = report.in_force
    if settings is None:
        return
    wanted = settings.wake_signal
    if wanted is None:
        report.add("note", "WAKE_SIGNAL=none: a blocked call is not interrupted until it returns")
    elif isinstance(wanted, int) and signal.getsignal(wanted) is not signal.SIG_DFL:
        report.add(
            "warning",
            f"WAKE_SIGNAL={signal_name(wanted)} has a handler already, so a blocked call is "
            "not interrupted until it returns; use auto",
        )
    sandbox = sys.modules.get("watchdog_lambda._lambda.sandbox")
    hooks = [] if sandbox is None else [hook.name for hook in sandbox.hooks.snapshot()]
    if hooks and not settings.sigterm:
        report.add(
            "warning",
            f"sandbox_shutdown_hook ({', '.join(hooks)}) never runs: Lambda gives no notice of the "
            "sandbox's end; set WATCHDOG_LAMBDA_SIGTERM=1",
        )
    if settings.sigterm and not hooks and report.handler is not None:
        report.add("note", "SIGTERM=1, and no sandbox_shutdown_hook is registered by the import")
    if environ.get("AWS_LAMBDA_MAX_CONCURRENCY"):
        for name, is_set in (
            ("SIGTERM=1", settings.sigterm),
            ("LAST_RESORT=exit", settings.last_resort == "exit"),
        ):
            if is_set:
                report.add("warning", f"{name} has no effect in Managed Instances")
    if settings.last_resort == "supervise":
        _find_supervisor(report)


def _look_at_libraries(report: Report) -> None:
    if report.in_force is None:
        return
    try:
        metrics.preload(report.in_force.metrics_namespace)
    except ConfigurationError as error:
        report.add("error", str(error))
    known = sorted(aftermath.recovering.intersection(sys.modules) - sys.stdlib_module_names)
    if report.in_force.recycle == "auto" and known:
        report.add(
            "note",
            f"RECYCLE=auto: after a timeout inside of {', '.join(known)} the process is kept; "
            "inside of any other library, a fresh one serves the next event",
        )


def _find_supervisor(report: Report) -> None:
    from watchdog_lambda._lambda.supervise import refusal  # noqa: PLC0415 - rarely needed

    why = refusal()
    if why is None:
        report.add(
            "note",
            "LAST_RESORT=supervise: a second process answers for crashes, too; it takes about 8 ms "
            "of CPU time and 4 MB at each cold start, and no other thread may be running then",
        )
    else:
        report.add(
            "warning",
            f"LAST_RESORT=supervise is not available here, so exit is used instead: {why}",
        )


def signal_name(number: int) -> str:
    """Return a signal's name, such as ``SIGURG`` or ``SIGRTMIN+3``."""
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return signal.Signals(number).name
