"""What is set, what it leads to, and what is doubtful about it: the facts of ``check``.

The handler's module is imported into this process, as the runtime would; nothing is invoked.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal

from watchdog_lambda import ConfigurationError
from watchdog_lambda._async import is_coroutine_function
from watchdog_lambda._config import SETTINGS, Settings
from watchdog_lambda._engine.clock import STAGE_SHARE, Timeline
from watchdog_lambda._hooks import stages
from watchdog_lambda._lambda.command import choose, resolve
from watchdog_lambda._parsers import Reading
from watchdog_lambda._watched import is_watched, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, MutableMapping

    from watchdog_lambda._plan import Plan

_LEAST_PART = 0.05
"""Seconds of the budget below which a hook has hardly time for one request."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it holds for the handler."""

    name: str
    value: object
    source: str
    """`default`, `environment`, `--env`, `--env-file` or `code`, for options of a @watch."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be told: an error forbids to run, a warning should be seen to."""

    level: Literal["error", "warning", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The handler that was found."""

    name: str
    file: str
    line: int
    is_async: bool
    is_watched: bool


@dataclass(slots=True)
class Report:
    """All that the check has found."""

    timeout: float
    """Seconds that an invocation has: --timeout, or the setting TIMEOUT if that is earlier."""
    settings: list[Setting] = field(default_factory=list["Setting"])
    findings: list[Finding] = field(default_factory=list["Finding"])
    handler: Resolved | None = None
    in_force: Settings | None = None
    timeline: Timeline | None = None
    stages: dict[float | None, list[str]] = field(default_factory=dict[float | None, list[str]])
    """The names of the hooks of each stage, by how many seconds ahead it is meant to begin."""

    def add(self, level: Literal["error", "warning", "note"], text: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(level, text))

    def has(self, level: str) -> bool:
        """Whether there is a finding of this level."""
        return any(finding.level == level for finding in self.findings)


def examine(
    environ: MutableMapping[str, str],
    sources: Mapping[str, str],
    argument: str | None,
    timeout: float,
) -> Report:
    """Gather all there is to tell; the handler's module is imported."""
    report = Report(timeout)
    _read_settings(report, environ, sources)
    handler = _find_handler(report, environ, sources, argument)
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
    _draw_up(report, timeout, plan)
    _look_at_process(report, environ)
    return report


# ---- settings ---------------------------------------------------------------------------------


def _read_settings(report: Report, environ: Mapping[str, str], sources: Mapping[str, str]) -> None:
    read = Reading(environ, SETTINGS)
    for variable, suggestion in sorted(read.unknown.items()):
        report.add("warning", f"{variable} is no setting and has no effect; {suggestion}")
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
    """What is given in the handler's own code holds."""
    report.in_force = plan.settings
    report.settings = [
        Setting(setting.name, getattr(plan.settings, setting.name), "code")
        if setting.name in plan.given
        else setting
        for setting in report.settings
    ]


# ---- the handler ------------------------------------------------------------------------------


def _find_handler(
    report: Report,
    environ: MutableMapping[str, str],
    sources: Mapping[str, str],
    argument: str | None,
) -> Callable[..., Any] | None:
    try:
        if argument and SETTINGS["handler"].variable not in sources:
            # As for invoke: what is set in the shell is not meant for this one call.
            name = choose({}, argument)
            report.settings = [
                Setting("handler", name, "argument") if setting.name == "handler" else setting
                for setting in report.settings
            ]
        else:
            name = choose(environ, argument)
    except ConfigurationError as error:
        report.add("error", str(error))
        return None
    try:
        with _output_aside():
            handler = resolve(environ, name)
    except ModuleNotFoundError as error:
        if error.name != "awslambdaric":
            raise
        report.add(
            "error",
            "awslambdaric, Lambda's runtime interface client, is not installed: "
            "pip install 'watchdog-lambda[runtime]'",
        )
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's module may raise anything
        report.add("error", f"{name}: {_in_words(error)}")
        return None
    if not callable(handler):
        # The runtime takes it, and every invocation fails.
        report.add(  # type: ignore[unreachable]
            "error",
            f"{name}: a {type(handler).__name__}, which cannot be called; "
            "it is to be a function of event and context",
        )
        return None
    report.handler = _described(name, handler)
    return handler


def _in_words(error: BaseException) -> str:
    # The runtime's own errors have a type of their own in place of the class's name.
    kind = getattr(error, "exception_type", None) or type(error).__name__
    return f"{kind}: {getattr(error, 'msg', None) or error}"


@contextlib.contextmanager
def _output_aside() -> Generator[None]:
    """Have what an import prints go to standard error: standard output has the report."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _described(name: str, handler: Callable[..., Any]) -> Resolved:
    inner: Any = inspect.unwrap(handler)
    while isinstance(inner, functools.partial):
        inner = inner.func
    code = _code_of(inner)  # pyright: ignore[reportUnknownArgumentType]
    file, line = ("", 0) if code is None else (code.co_filename, code.co_firstlineno)
    with contextlib.suppress(ValueError):
        file = str(Path(file).relative_to(Path.cwd()))
    return Resolved(name, file, line, is_coroutine_function(inner), is_watched(handler))


def _code_of(handler: object) -> CodeType | None:
    """Of a function, a method, or an object that can be called; None for C code."""
    for call in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 - its code matters
        code = getattr(call, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None


# ---- the timeline -----------------------------------------------------------------------------


def _draw_up(report: Report, timeout: float, plan: Plan | None) -> None:
    settings = report.in_force
    if settings is None:
        return
    if settings.timeout is not None:
        # As the guard has it, for a context that gives the whole timeout.
        report.timeout = min(timeout, settings.timeout)
        if settings.timeout > timeout:
            report.add(
                "note",
                f"TIMEOUT={settings.timeout:g} is later than the function's own timeout of "
                f"{timeout:g} s: it has no effect unless the context gives no time",
            )
    timeline = report.timeline = Timeline(
        0.0,
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
            f"{timeline.grace_period:g} s, a quarter of the {report.timeout:g} s that there are"
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
            f"before={before:g} ({who}) is more than three quarters of the {report.timeout:g} s "
            f"that there are: it begins {most:g} s before the hard deadline",
        )
    if before < timeline.grace_period:
        # Wanted, for example, by a hook that does what the handler's own end does otherwise.
        report.add(
            "note",
            f"before={before:g} ({who}) is later than the grace period's begin, "
            f"{timeline.grace_period:g} s before the hard deadline: it runs only if the handler "
            "has not ended by then",
        )
    elif before - timeline.hook_budget < timeline.grace_period < before <= most:
        report.add(
            "note",
            f"before={before:g} ({who}) may still be running when the grace period begins: its "
            f"budget is {timeline.hook_budget:.2g} s",
        )


# ---- the process ------------------------------------------------------------------------------


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
            f"WAKE_SIGNAL={signal_name(wanted)} is in use by somebody else, so a blocked call is "
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


def _find_supervisor(report: Report) -> None:
    from watchdog_lambda._lambda.supervise import refusal  # noqa: PLC0415 - for those who use it

    why = refusal()
    if why is None:
        report.add(
            "note",
            "LAST_RESORT=supervise: a second process answers for crashes, too; it takes some 3 ms "
            "and 5 MB at each cold start, and must find no other thread running",
        )
    else:
        report.add(
            "warning",
            f"LAST_RESORT=supervise cannot be had here, and exit takes its place: {why}",
        )


def signal_name(number: int) -> str:
    """``SIGURG``, ``SIGRTMIN+3``."""
    if signal.SIGRTMIN < number < signal.SIGRTMAX:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
    return signal.Signals(number).name
