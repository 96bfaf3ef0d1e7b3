"""Settings: one table of them, and their values from the environment and from options in code.

Each line of :class:`Settings` is a setting. Its environment variable, the options of
:func:`~watchdog_lambda.watch`, what ``check`` lists and what a typing mistake is compared with are
read off :data:`SETTINGS`, which is made of those lines. To add a setting: add a line, its option to
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
"""What hooks have of the grace period in force if nothing is set."""

MOST_HOOK_SHARE = 0.7
"""What they have at most of a grace period that has shrunk: they end before last call."""

# What type checkers see in the table's lines is the value that an instance has.
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
        "who answers for a handler that cannot be reached: report, exit or supervise",
        choices=("report", "exit", "supervise"),
        gone={"restart": "supervise"},
    )
    wake_signal: str | int | None = _setting(
        "auto", "signal", "the signal that wakes a blocked call: auto, a name, or none"
    )
    timeout: float | None = _setting(
        None,
        "seconds",
        "seconds that the caller waits; counts where it is earlier than the context's time, "
        "or where the context has none",
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
        "how many times at the most the handler's stack is looked at in the second half of its "
        "time, for the record of a timeout; 0: never",
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
    """The names of those that somebody has set; the others have their defaults."""

    def __init__(
        self,
        values: Mapping[str, Any],
        sources: Mapping[str, str] | None = None,
        budget_beside: float | None = None,
    ) -> None:
        """Make settings of validated `values`; what is absent takes its default.

        Args:
            values: by name.
            sources: where each value came from, for the messages about values that do not fit
                together.
            budget_beside: the grace period that the hook budget was chosen for, if it is another
                one. The budget is then made to fit: neither its author nor that of the grace
                period can know of the other.
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
        """Read the settings of `environ`; `options` given in code take their place.

        An empty variable counts as not set, and an option that is None as not given. Names with the
        prefix that are no setting trigger one warning each: most are typing mistakes.
        """
        given = {name: value for name, value in options.items() if value is not None}
        set_here = {variable for variable in environ if variable.startswith(PREFIX)}
        if not given and set_here <= {SETTINGS["handler"].variable}:
            # Most functions set nothing else, and every text is taken for a handler's name.
            handler = environ.get(SETTINGS["handler"].variable, "").strip()
            return cls({"handler": handler} if handler else {})
        from ._parsers import Reading, option  # noqa: PLC0415 - only where something else is set

        read = Reading(environ, SETTINGS)
        for variable, suggestion in read.unknown.items():
            warn_once(
                ("setting", variable),
                "%s is no setting of watchdog_lambda and has no effect; %s",
                ascii(variable)[1:-1],  # on one line, whatever is in it
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
        """These settings with validated `options` in the place of some."""
        from ._parsers import option  # noqa: PLC0415 - for those who nest watched handlers

        values = {name: getattr(self, name) for name in self.given}
        values.update((name, option(name, value, SETTINGS)) for name, value in options.items())
        # An invocation is under way, so what does not go together is made to fit, not refused.
        chosen_with = values if "hook_budget" in options else {"grace_period": self.grace_period}
        return Settings(
            values, budget_beside=chosen_with.get("grace_period", SETTINGS["grace_period"].default)
        )

    def _fitting_budget(
        self, budget: float, sources: Mapping[str, str], beside: float | None
    ) -> float | None:
        """The hook budget in force; None for the default, which always fits."""
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
"""The table, by name, in the order in which people read it."""

_TOGETHER = {"grace_period", "hook_budget"}


def budget_within(grace_period: float, budget: float, *, chosen_for: float) -> float:
    """What is left in force of a hook budget that was set beside another grace period.

    All of it, as long as it is no more than hooks would have without it; otherwise its share.
    """
    if grace_period >= chosen_for:
        return budget
    share = min(max(budget / chosen_for, HOOK_SHARE), MOST_HOOK_SHARE)
    return min(budget, grace_period * share)
