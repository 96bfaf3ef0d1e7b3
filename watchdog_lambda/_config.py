"""Settings: from the environment and from options in code, validated in one place."""

from __future__ import annotations

import math
import signal

from ._engine.clock import budget_within
from ._log import logger
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Never, Self

PREFIX = "WATCHDOG_LAMBDA_"

DEFAULT_GRACE_PERIOD = 3.0
DEFAULT_LAST_CALL = 0.5

LONGEST_TIMEOUT = 86_400.0
"""Seconds. Lambda allows 900; whatever says more than a day is not a deadline (the emulator's
Managed Instances mode gives 3,000,000)."""

INTERRUPTS = ("timeout-error", "base", "none")
LAST_RESORTS = ("report", "exit", "restart")


class Settings:
    """One validated set of settings. Frozen.

    Raises:
        ConfigurationError: a value that cannot be used, alone or together with another.
    """

    __slots__ = (
        "disabled",
        "given",
        "grace_period",
        "handler",
        "hook_budget",
        "interrupt",
        "last_call",
        "last_resort",
        "metrics_namespace",
        "sigterm",
        "timeout",
        "wake_signal",
    )

    handler: str | None
    grace_period: float
    hook_budget: float | None
    interrupt: str
    last_call: float
    last_resort: str
    wake_signal: str | int | None
    timeout: float | None
    sigterm: bool
    metrics_namespace: str | None
    disabled: bool
    given: frozenset[str]
    """The names of those that somebody has set; the others have their defaults."""

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> None:
        """Make settings of validated `values`; what is absent takes its default.

        `sources` names where each value came from, for the messages about values that do not fit
        together.
        """
        store = object.__setattr__
        for name, default in DEFAULTS.items():
            store(self, name, values.get(name, default))
        store(self, "given", frozenset(values))
        if self.hook_budget is not None:
            most = _longest_budget(self.grace_period, self.last_call)
            if self.hook_budget >= most:
                last_call = self.grace_period - most
                where = (sources or {}).get("hook_budget", "hook_budget")
                raise ConfigurationError(
                    f"{where}: {self.hook_budget:g} s leave the handler no time to unwind: the "
                    f"grace period is {self.grace_period:g} s, last call {last_call:g} s before "
                    "its end; "
                    f"use less than {most:g}, for example {self.grace_period / 3:.2g}"
                )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **options: object) -> Self:
        """Read the settings of `environ`; `options` given in code take their place.

        An empty variable counts as not set. Names with the prefix that are no setting are warned
        of, once each: most are typing mistakes.
        """
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for variable in environ:
            if not variable.startswith(PREFIX):
                continue
            name = variable[len(PREFIX) :].lower()
            if name not in PARSERS or variable != PREFIX + name.upper():
                _warn_of_unknown(variable)
            elif (text := environ[variable].strip()) and options.get(name) is None:
                source = f"{variable}={text!r}"
                values[name] = PARSERS[name](text, source)
                sources[name] = source
        for name, value in options.items():
            if value is None:
                continue
            source = f"{name}={value!r}"
            if name not in OPTIONS:
                raise ConfigurationError(f"{source} is no option; {_suggest(name, OPTIONS)}")
            values[name] = PARSERS[name](value, source)
            sources[name] = source
        is_given = [options.get(name) is not None for name in ("grace_period", "hook_budget")]
        if is_given == [True, False] and "hook_budget" in values:
            # The environment's budget was chosen for the environment's grace period.
            values["hook_budget"] = budget_within(
                values["grace_period"],
                values["hook_budget"],
                chosen_for=_grace_period_of(environ),
            )
        return cls(values, sources)

    def replaced(self, options: Mapping[str, object]) -> Settings:
        """These settings with validated `options` in the place of some."""
        values = {name: getattr(self, name) for name in self.given}
        for name, value in options.items():
            values[name] = PARSERS[name](value, f"{name}={value!r}")
        grace_period = values.get("grace_period", DEFAULT_GRACE_PERIOD)
        if "hook_budget" in self.given and "hook_budget" not in options:
            # It was chosen for the other grace period.
            values["hook_budget"] = budget_within(
                grace_period, values["hook_budget"], chosen_for=self.grace_period
            )
        most = _longest_budget(grace_period, values.get("last_call", DEFAULT_LAST_CALL))
        if values.get("hook_budget", 0.0) >= most:
            # Each was right by itself, and an invocation is under way: the default always fits.
            del values["hook_budget"]
        return Settings(values)

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"Settings are frozen; {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in DEFAULTS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{n}={getattr(self, n)!r}' for n in DEFAULTS)})"


DEFAULTS: Mapping[str, Any] = {
    "handler": None,
    "grace_period": DEFAULT_GRACE_PERIOD,
    "hook_budget": None,
    "interrupt": "timeout-error",
    "last_call": DEFAULT_LAST_CALL,
    "last_resort": "report",
    "wake_signal": "auto",
    "timeout": None,
    "sigterm": False,
    "metrics_namespace": None,
    "disabled": False,
}


def _longest_budget(grace_period: float, last_call: float) -> float:
    """Seconds that hooks must stay below, or the handler has no time to unwind."""
    return grace_period - min(last_call, grace_period / 4)


def _seconds(example: str, most: float = math.inf) -> Callable[[object, str], float]:
    def parse(value: object, source: str) -> float:
        try:
            # bool is an int, and True no number of seconds.
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isnan(number) or math.isinf(number):
            raise ConfigurationError(
                f"{source} is not a number of seconds; use for example {example}"
            )
        if number <= 0:
            raise ConfigurationError(f"{source} must be more than 0; use for example {example}")
        if number > most:
            raise ConfigurationError(f"{source} is more than {most:g} s; use for example {example}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[object, str], str]:
    def parse(value: object, source: str) -> str:
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        raise ConfigurationError(
            f"{source} is not one of {', '.join(choices)}; {_suggest(str(value), choices)}"
        )

    return parse


def _flag(value: object, source: str) -> bool:
    text = str(value).lower()
    if text in {"1", "true"}:
        return True
    if text in {"0", "false"}:
        return False
    raise ConfigurationError(
        f"{source} is neither 1 nor 0; use 1 to switch it on, 0 to leave it off"
    )


def _text(value: object, source: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise ConfigurationError(f"{source} is not a name; use for example 'app.handler'")


def _namespace(value: object, source: str) -> str:
    """What CloudWatch takes as a namespace; it drops what it does not take, without a word."""
    if (
        isinstance(value, str)
        and value.strip()
        and len(value) <= 255
        and value.isascii()
        and value.isprintable()
        and not value.startswith(("AWS/", ":"))
    ):
        return value
    raise ConfigurationError(
        f"{source} is no namespace that CloudWatch takes: at most 255 printable ASCII characters, "
        "without AWS/ or a colon at the start; use for example 'Orders'"
    )


_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


def _wake_signal(value: object, source: str) -> str | int | None:
    """A signal's number, ``auto``, or None for no nudge at all."""
    text = str(value).upper()
    if text == "AUTO":
        return "auto"
    if text == "NONE":
        return None
    sign = -1 if "-" in text else 1
    name, _, offset = text.partition("-" if sign < 0 else "+")
    number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    # Of two digits: Python refuses to read thousands of them.
    if (
        isinstance(number, signal.Signals)
        and (not offset or offset.isdecimal())
        and len(offset) < 3
    ):
        chosen = int(number) + sign * int(offset or 0)
        # SIGKILL and SIGSTOP cannot be caught; SIGALRM is what handlers have timers of their own
        # on; with a Python handler for a fault, C code would fault again and again.
        forbidden = {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM, *_FAULTS}
        if chosen in signal.valid_signals() and chosen not in forbidden:
            return chosen
    raise ConfigurationError(
        f"{source} is no signal that can serve as the nudge; use auto, none, SIGURG or SIGRTMIN+3"
    )


PARSERS: Mapping[str, Callable[[Any, str], Any]] = {
    "handler": _text,
    "grace_period": _seconds("3.0", LONGEST_TIMEOUT),
    "hook_budget": _seconds("1.0", LONGEST_TIMEOUT),
    "interrupt": _one_of(*INTERRUPTS),
    "last_call": _seconds("0.5", LONGEST_TIMEOUT),
    "last_resort": _one_of(*LAST_RESORTS),
    "wake_signal": _wake_signal,
    "timeout": _seconds("30.0", LONGEST_TIMEOUT),
    "sigterm": _flag,
    "metrics_namespace": _namespace,
    "disabled": _flag,
}

OPTIONS = tuple(name for name in PARSERS if name not in {"handler", "sigterm"})
"""The settings that can be given in code; the others are the process's, not a handler's."""

_warned: set[str] = set()


def _grace_period_of(environ: Mapping[str, str]) -> float:
    """The environment's grace period, where code gives another; what cannot be read is none."""
    try:
        return _seconds("3.0")(environ.get(f"{PREFIX}GRACE_PERIOD", ""), "")
    except ConfigurationError:
        return DEFAULT_GRACE_PERIOD


def _warn_of_unknown(variable: str) -> None:
    if variable in _warned:
        return
    _warned.add(variable)
    suggestion = _suggest(variable.upper(), [PREFIX + name.upper() for name in PARSERS])
    shown = ascii(variable)[1:-1]  # on one line, whatever is in it
    logger().warning("%s is no setting of watchdog_lambda and has no effect; %s", shown, suggestion)


def _suggest(name: str, known: list[str] | tuple[str, ...]) -> str:
    import difflib  # noqa: PLC0415 - for the rare case only

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
