"""The table of settings, and their values from the environment and from options in code.

Each line of :class:`Settings` is a setting. :data:`SETTINGS` is made of those lines, and gives the
environment variables, the options of :func:`~watchdog_lambda.watch`, the list that ``check`` shows,
and the names that a mistyped one is compared with. To add a setting, add a line, its option to
:class:`watchdog_lambda.typing.Options` if it has one, and its row to docs/reference/settings.md;
tests compare the three.
"""

from __future__ import annotations

from ._log import warn_once
from ._setting import LONGEST_TIMEOUT, MOST_SAMPLES, PREFIX, Setting
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Never, Self

GRACE_SHARE = 0.25
"""The grace period is never more than this share of the time that the invocation has."""

SAMPLES_SHARE = 0.5
"""The first sample of the handler's stack is taken when this share of its time has passed."""

LAST_CALL_SHARE = 0.25
"""Last call is never more than this share of the grace period in force."""

HOOK_SHARE = 1 / 3
"""The hooks' share of the grace period in force, if nothing is set."""

MOST_HOOK_SHARE = 0.7
"""The hooks' largest share of a grace period that has shrunk, so that they end before last call."""

# Any, because type checkers must see the type of the instance's value in the table's lines.
_setting: Any = Setting


class Settings:
    """One validated set of settings, and the table of all of them. Frozen.

    Raises:
        ConfigurationError: a value that cannot be used, alone or together with another.
    """

    handler: str | None = _setting(
        None, "text", "the handler to wrap, module.function", example="app.handler", is_option=False
    )
    grace_period: float = _setting(
        3.0,
        "seconds",
        "seconds before the hard deadline at which the watchdog fires; "
        "at most a quarter of the invocation's time",
    )
    hook_budget: float | None = _setting(
        None,
        "seconds",
        "seconds that the hooks of one stage share; default: a third of the grace period in force",
        example="1.0",
    )
    interrupt: str = _setting(
        "timeout-error",
        "word",
        "what lands in the handler: timeout-error, base, or none",
        choices=("timeout-error", "base", "none"),
    )
    last_call: float = _setting(
        0.5,
        "seconds",
        "seconds before the hard deadline at which the watchdog gives up on the handler; "
        "at most a quarter of the grace period in force",
    )
    last_resort: str = _setting(
        "report",
        "word",
        "what to do about a handler that cannot be reached: report, exit or supervise",
        choices=("report", "exit", "supervise"),
        gone={"restart": "supervise"},
    )
    wake_signal: str | int | None = _setting(
        "auto", "signal", "the signal that wakes a blocked call: auto, a name, or none"
    )
    timeout: float | None = _setting(
        None,
        "seconds",
        "seconds that the caller waits; applies where it is shorter than the context's time, "
        "or where the context gives none",
        example="30.0",
        most=LONGEST_TIMEOUT,
    )
    sever: bool = _setting(
        True,
        "flag",
        "0: never end a connection or a child process that a blocked C call waits for",
    )
    recycle: str = _setting(
        "auto",
        "word",
        "whether a fresh process serves the next event after a timeout: auto, always or never",
        choices=("auto", "always", "never"),
        is_option=False,
    )
    samples: int = _setting(
        20,
        "count",
        "how many times, at most, the handler's stack is sampled in the second half of its time, "
        "for the record of a timeout; 0: never",
        most=MOST_SAMPLES,
    )
    sigterm: bool = _setting(
        False, "flag", "1: run sandbox_shutdown_hooks when Lambda ends the sandbox", is_option=False
    )
    metrics_namespace: str | None = _setting(
        None, "namespace", "a CloudWatch metric for each timeout, in this namespace"
    )
    disabled: bool = _setting(False, "flag", "1: call the handler without the watchdog")

    given: frozenset[str]
    """The names of the settings that have been set; all others have their defaults."""

    def __init__(
        self,
        values: Mapping[str, Any],
        sources: Mapping[str, str] | None = None,
        budget_beside: float | None = None,
    ) -> None:
        """Make settings of validated `values`. Missing ones take their defaults.

        Args:
            values: by name.
            sources: the source of each value, for messages about values that conflict.
            budget_beside: the grace period that the hook budget was chosen for, if it is a
                different one. The budget is then adjusted, not refused: the two were set in
                different places, and neither place knows about the other.
        """
        for name, setting in SETTINGS.items():
            self.__dict__[name] = values.get(name, setting.default)
        self.__dict__["given"] = frozenset(values)
        if self.hook_budget is not None:
            self.__dict__["hook_budget"] = self._fitting_budget(
                self.hook_budget, sources or {}, budget_beside
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **options: object) -> Self:
        """Read the settings from `environ`. `options` given in code take precedence.

        An empty variable counts as not set, and an option that is None as not given. Each unknown
        name with the prefix triggers one warning, because most are typing mistakes.
        """
        given = {name: value for name, value in options.items() if value is not None}
        set_here = {variable for variable in environ if variable.startswith(PREFIX)}
        if not given and set_here <= {SETTINGS["handler"].variable}:
            # Most functions set nothing else, and any text is accepted as a handler's name.
            handler = environ.get(SETTINGS["handler"].variable, "").strip()
            return cls({"handler": handler} if handler else {})
        from ._parsers import Reading, option  # noqa: PLC0415 - only if something else is set

        read = Reading(environ, SETTINGS)
        for variable, suggestion in read.unknown.items():
            warn_once(
                ("setting", variable),
                "%s is not a setting of watchdog_lambda and has no effect; %s",
                ascii(variable)[1:-1],  # escaped, so that it stays on one line
                suggestion,
            )
        for name, error in read.errors.items():
            if name not in given:
                raise error
        beside = None
        if "hook_budget" in read.values and given.keys() & _TOGETHER == {"grace_period"}:
            beside = read.values.get("grace_period", SETTINGS["grace_period"].default)
        for name, value in given.items():
            read.sources[name] = f"{name}={value!r}"
            read.values[name] = option(name, value, SETTINGS)
        return cls(read.values, read.sources, beside)

    def replaced(self, options: Mapping[str, object]) -> Settings:
        """Return these settings with some replaced by `options`, which are validated."""
        from ._parsers import option  # noqa: PLC0415 - only for nested watched handlers

        values = {name: getattr(self, name) for name in self.given}
        values.update((name, option(name, value, SETTINGS)) for name, value in options.items())
        # An invocation is running, so conflicting values are adjusted, not refused.
        chosen_with = values if "hook_budget" in options else {"grace_period": self.grace_period}
        return Settings(
            values, budget_beside=chosen_with.get("grace_period", SETTINGS["grace_period"].default)
        )

    def _fitting_budget(
        self, budget: float, sources: Mapping[str, str], beside: float | None
    ) -> float | None:
        """Return the hook budget in force; None for the default, which always fits."""
        last_call = min(self.last_call, self.grace_period * LAST_CALL_SHARE)
        most = self.grace_period - last_call
        if beside is not None:
            budget = budget_within(self.grace_period, budget, chosen_for=beside)
            return budget if budget < most else None
        if budget >= most:
            raise ConfigurationError(
                f"{sources.get('hook_budget', 'hook_budget')}: {budget:g} s leave the handler no "
                f"time to unwind: the grace period is {self.grace_period:g} s, last call "
                f"{last_call:g} s before its end; "
                f"use less than {most:g}, for example {self.grace_period / 3:.2g}"
            )
        return budget

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"Settings are frozen; {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in SETTINGS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{n}={getattr(self, n)!r}' for n in SETTINGS)})"


SETTINGS: Mapping[str, Setting] = {
    name: setting for name, setting in vars(Settings).items() if isinstance(setting, Setting)
}
"""The table by name, in the order in which it is shown."""

_TOGETHER = {"grace_period", "hook_budget"}


def budget_within(grace_period: float, budget: float, *, chosen_for: float) -> float:
    """Adjust a hook budget that was chosen for another grace period.

    In a shorter grace period it keeps its share, but gets at least HOOK_SHARE and at most
    MOST_HOOK_SHARE. It never grows.
    """
    if grace_period >= chosen_for:
        return budget
    share = min(max(budget / chosen_for, HOOK_SHARE), MOST_HOOK_SHARE)
    return min(budget, grace_period * share)
