"""Parsers from texts and options to the values of settings, one for each kind of setting.

This module is imported only if something is set. Every message names the setting, the value, and a
value that would be accepted.
"""

from __future__ import annotations

import math

from ._setting import LONGEST_GRACE_PERIOD, PREFIX
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ._setting import Kind, Setting
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start


class Reading:
    """The settings in an environment, with everything that is wrong. Making one never raises."""

    __slots__ = ("errors", "sources", "unknown", "values")

    def __init__(self, environ: Mapping[str, str], table: Mapping[str, Setting]) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}  # by name: how messages refer to the value
        self.errors: dict[str, ConfigurationError] = {}
        self.unknown: dict[str, str] = {}  # by variable: a suggestion for the message
        for variable in environ:
            if not variable.startswith(PREFIX):
                continue
            setting = table.get(variable[len(PREFIX) :].lower())
            if setting is None or variable != setting.variable:
                variables = [each.variable for each in table.values()]
                self.unknown[variable] = _suggestion(variable.upper(), variables)
            elif text := environ[variable].strip():
                source = self.sources[setting.name] = f"{variable}={text!r}"
                try:
                    self.values[setting.name] = parse(setting, text, source)
                except ConfigurationError as error:
                    self.errors[setting.name] = error


def option(name: str, value: object, table: Mapping[str, Setting]) -> Any:
    """Return the validated value of an option that is given in code.

    Raises:
        ConfigurationError: there is no such option, or the value cannot be used.
    """
    source = f"{name}={value!r}"
    setting = table.get(name)
    if setting is None or not setting.is_option:
        options = [each.name for each in table.values() if each.is_option]
        raise ConfigurationError(f"{source} is not an option; {_suggestion(name, options)}")
    return parse(setting, value, source)


def parse(setting: Setting, value: object, source: str) -> Any:
    """Return the value of a setting, from a text or an option.

    Raises:
        ConfigurationError: the value cannot be used; the message begins with `source`.
    """
    return _PARSERS[setting.kind](setting, value, source)


def _seconds(setting: Setting, value: object, source: str) -> float:
    remedy = f"use for example {setting.example}"
    try:
        # bool is an int, but True is not a number of seconds.
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number) or math.isinf(number):
        raise ConfigurationError(f"{source} is not a number of seconds; {remedy}")
    if number <= 0:
        raise ConfigurationError(f"{source} must be more than 0; {remedy}")
    if number > setting.most:
        why = (
            ", a quarter of the longest timeout that Lambda allows"
            if setting.most == LONGEST_GRACE_PERIOD
            else ""
        )
        raise ConfigurationError(
            f"{source} is more than {setting.most:g} s{why}: seconds, not milliseconds? {remedy}"
        )
    return number


def _count(setting: Setting, value: object, source: str) -> int:
    # bool is an int, but True is not a count. Python refuses to parse thousands of digits, so allow
    # 9 at most.
    text = "" if isinstance(value, bool) else str(value).strip()
    if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= setting.most:
        return int(text)
    raise ConfigurationError(
        f"{source} is not a whole number from 0 to {setting.most:g}; "
        f"use for example {setting.example}"
    )


def _word(setting: Setting, value: object, source: str) -> str:
    if isinstance(value, str) and value.lower() in setting.choices:
        return value.lower()
    successor = setting.gone.get(value.lower()) if isinstance(value, str) else None
    if successor is not None:
        raise ConfigurationError(f"{source} was replaced by {successor}; use {successor}")
    raise ConfigurationError(
        f"{source} is not one of {', '.join(setting.choices)}; "
        f"{_suggestion(str(value), setting.choices)}"
    )


def _flag(_setting: Setting, value: object, source: str) -> bool:
    text = str(value).lower()
    if text in {"1", "true"}:
        return True
    if text in {"0", "false"}:
        return False
    raise ConfigurationError(
        f"{source} is neither 1 nor 0; use 1 to switch it on, 0 to leave it off"
    )


def _text(setting: Setting, value: object, source: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise ConfigurationError(f"{source} is not a name; use for example {setting.example!r}")


def _namespace(_setting: Setting, value: object, source: str) -> str:
    """Accept what CloudWatch accepts: it silently drops metrics of any other namespace."""
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
        f"{source} is not a namespace that CloudWatch accepts: at most 255 printable ASCII "
        "characters, without AWS/ or a colon at the start; use for example 'Orders'"
    )


_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}

# SIGKILL and SIGSTOP cannot be handled. Handlers have their own timers on SIGALRM. With a Python
# handler for a fault signal, C code would fault again and again.
_FORBIDDEN = {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM, *_FAULTS}


def _signal(_setting: Setting, value: object, source: str) -> str | int | None:
    """Return a signal's number, ``auto``, or None for no nudge at all."""
    text = str(value).upper()
    if text == "AUTO":
        return "auto"
    if text == "NONE":
        return None
    sign = -1 if "-" in text else 1
    name, _, offset = text.partition("-" if sign < 0 else "+")
    name = name if name.startswith("SIG") else f"SIG{name}"
    number = None if name.startswith("SIG_") else getattr(signal, name, None)
    # Python refuses to parse thousands of digits, so allow two at most.
    if isinstance(number, int) and (not offset or offset.isdecimal()) and len(offset) < 3:
        chosen = number + sign * int(offset or 0)
        if chosen in signal.valid_signals() and chosen not in _FORBIDDEN:
            return chosen
    raise ConfigurationError(
        f"{source} is not a signal that can be used as the nudge; "
        "use auto, none, SIGURG or SIGRTMIN+3"
    )


_PARSERS: Mapping[Kind, Callable[[Setting, Any, str], Any]] = {
    "text": _text,
    "seconds": _seconds,
    "word": _word,
    "signal": _signal,
    "flag": _flag,
    "count": _count,
    "namespace": _namespace,
}


def _suggestion(name: str, known: Sequence[str]) -> str:
    """Suggest the closest of the `known` names, or list all of them."""
    import difflib  # noqa: PLC0415 - rarely needed

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
