"""Tests of the settings: which values are accepted or refused, and the messages."""

from __future__ import annotations

import logging
import signal
import sys
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest

from watchdog_lambda import (
    ConfigurationError,
    Watchdog,
    sandbox_shutdown_hook,
    shutdown_hook,
    typing,
    watch,
)
from watchdog_lambda._config import SETTINGS, Settings
from watchdog_lambda._lambda import sandbox as _sandbox
from watchdog_lambda._parsers import parse
from watchdog_lambda._setting import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable


def read(**variables: str) -> Settings:
    return Settings.from_environ({PREFIX + name: text for name, text in variables.items()})


def test_defaults_match_the_reference() -> None:
    """In an empty environment the settings have the reference's default values."""
    settings = Settings.from_environ({})

    assert settings.handler is None
    assert (settings.grace_period, settings.hook_budget, settings.last_call) == (3.0, None, 0.5)
    assert (settings.interrupt, settings.last_resort) == ("timeout-error", "report")
    assert (settings.wake_signal, settings.timeout, settings.disabled) == ("auto", None, False)
    assert (settings.sever, settings.recycle, settings.samples) == (True, "auto", 20)
    assert (settings.sigterm, settings.metrics_namespace) == (False, None)
    assert settings.given == frozenset()


def test_every_variable_is_read() -> None:
    """Each setting is read from its variable."""
    settings = read(
        HANDLER="app.handler",
        GRACE_PERIOD="2",
        HOOK_BUDGET="0.5",
        INTERRUPT="base",
        LAST_CALL="0.25",
        LAST_RESORT="supervise",
        WAKE_SIGNAL="SIGRTMIN+3",
        TIMEOUT="30",
        SEVER="0",
        RECYCLE="never",
        SAMPLES="7",
        SIGTERM="1",
        METRICS_NAMESPACE="",
        DISABLED="1",
    )

    assert settings.handler == "app.handler"
    assert (settings.grace_period, settings.hook_budget, settings.last_call) == (2.0, 0.5, 0.25)
    assert settings.interrupt == "base"
    assert settings.wake_signal == signal.SIGRTMIN + 3
    assert read(WAKE_SIGNAL="SIGRTMAX-1").wake_signal == signal.SIGRTMAX - 1
    assert (settings.timeout, settings.samples) == (30.0, 7)
    assert (settings.sever, settings.recycle) == (False, "never")
    assert (settings.last_resort, settings.sigterm) == ("supervise", True)
    assert settings.disabled is True


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("GRACE_PERIOD", "2s", "for example 3.0"),
        ("GRACE_PERIOD", "0", "for example 3.0"),
        ("GRACE_PERIOD", "-1", "for example 3.0"),
        ("GRACE_PERIOD", "nan", "for example 3.0"),
        ("GRACE_PERIOD", "inf", "for example 3.0"),
        (
            "GRACE_PERIOD",
            "2000",
            "is more than 225 s, a quarter of the longest timeout that Lambda allows: seconds",
        ),
        ("HOOK_BUDGET", "500", "seconds, not milliseconds?"),
        ("LAST_CALL", "225.5", "seconds, not milliseconds?"),
        ("TIMEOUT", "86400.5", "is more than 86400 s: seconds, not milliseconds?"),
        ("HOOK_BUDGET", "some", "for example 1.0"),
        ("HOOK_BUDGET", "2.5", "use less than 2.5"),
        ("INTERRUPT", "timeouterror", "did you mean timeout-error?"),
        ("INTERRUPT", "yes", "use one of timeout-error, base, none"),
        ("LAST_CALL", "", None),
        ("LAST_CALL", "0", "for example 0.5"),
        ("LAST_RESORT", "reboot", "report, exit, supervise"),
        ("LAST_RESORT", "restart", "was replaced by supervise; use supervise"),
        ("WAKE_SIGNAL", "SIGKILL", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIGALRM", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIGSEGV", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIGRTMAX-99", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIGRTMIN+99", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIGRTMIN+three", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIGRTMIN+003", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "SIG_IGN", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("WAKE_SIGNAL", "LOUD", "use auto, none, SIGURG or SIGRTMIN+3"),
        ("TIMEOUT", "3000000", "for example 30.0"),
        ("TIMEOUT", "1 minute", "for example 30.0"),
        ("SIGTERM", "maybe", "use 1 to switch it on"),
        ("METRICS_NAMESPACE", "AWS/Lambda", "use for example 'Orders'"),
        ("METRICS_NAMESPACE", "Zähler", "use for example 'Orders'"),
        ("METRICS_NAMESPACE", "O" * 256, "at most 255"),
        ("DISABLED", "yes please", "use 1 to switch it on"),
    ],
)
def test_bad_value_is_refused_with_name_value_and_remedy(
    name: str, text: str, remedy: str | None
) -> None:
    """The error for a bad value names the variable, the value and a valid one.

    An empty value counts as unset.
    """
    if remedy is None:
        assert read(**{name: text}) == Settings.from_environ({})
        return

    with pytest.raises(ConfigurationError) as caught:
        read(**{name: text})

    message = str(caught.value)
    assert PREFIX + name in message
    assert text in message
    assert remedy in message


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("GRACE_PERIOD", "225", 225.0),
        ("TIMEOUT", "86400", 86_400.0),
        ("INTERRUPT", "Base", "base"),
        ("WAKE_SIGNAL", "auto", "auto"),
        ("WAKE_SIGNAL", "None", None),
        ("WAKE_SIGNAL", "SIGURG", signal.SIGURG),
        ("WAKE_SIGNAL", "usr1", signal.SIGUSR1),
        ("WAKE_SIGNAL", "SIGRTMIN+12", signal.SIGRTMIN + 12),
        ("SIGTERM", "True", True),
        ("SIGTERM", "0", False),
        ("DISABLED", "False", False),
        ("METRICS_NAMESPACE", "O" * 255, "O" * 255),
    ],
)
def test_valid_value_is_read(name: str, text: str, value: object) -> None:
    """Values up to the very limits are read, in upper and lower case."""
    assert getattr(read(**{name: text}), name.lower()) == value


@pytest.mark.parametrize("value", ["", 3, None])
def test_non_text_handler_name_is_refused(value: object) -> None:
    """A value that is no text, or is empty, names no handler."""
    with pytest.raises(ConfigurationError, match=r"^there is not a name; use for example"):
        parse(SETTINGS["handler"], value, "there")


def test_options_typed_dict_matches_the_table() -> None:
    """The options' TypedDict agrees with the table of settings.

    It cannot be derived from the table.
    """
    options = get_type_hints(typing.Options)

    assert list(options) == [name for name in SETTINGS if SETTINGS[name].is_option]
    for name, kind in options.items():
        assert get_args(get_args(kind)[0]) == SETTINGS[name].choices
        assert type(None) in get_args(kind)


@pytest.mark.parametrize(
    ("environ", "handler"),
    [
        ({}, None),
        ({"HOME": "/"}, None),
        ({PREFIX + "HANDLER": " app.handler "}, "app.handler"),
        ({PREFIX + "HANDLER": " "}, None),
    ],
)
def test_parser_is_not_imported_for_handler_alone(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], handler: str | None
) -> None:
    """An environment that sets only the handler does not import the parser.

    Most functions set nothing else, and each start would pay for the import.
    """
    monkeypatch.setitem(sys.modules, "watchdog_lambda._parsers", None)

    settings = Settings.from_environ(environ)

    assert (settings.handler, settings.grace_period) == (handler, 3.0)
    assert settings.given == ({"handler"} if handler else set())
    with pytest.raises(ImportError):
        Settings.from_environ(environ, grace_period=2.0)


def test_unrelated_variables_are_ignored() -> None:
    """Other variables in the environment are ignored, in whatever order they come."""
    settings = Settings.from_environ({"HOME": "/", PREFIX + "TIMEOUT": "3", "PATH": "/bin"})

    assert settings.timeout == 3.0


def test_hook_budget_leaves_time_to_unwind() -> None:
    """The hook budget leaves time to unwind.

    Last call is a quarter of a short grace period, and the hooks get only a part of the time
    before it.
    """
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environ({}, grace_period=1.0, hook_budget=0.75)

    assert str(caught.value) == (
        "hook_budget=0.75: 0.75 s leave the handler no time to unwind: the grace period is 1 s, "
        "last call 0.25 s before its end; use less than 0.75, for example 0.33"
    )
    assert Settings.from_environ({}, grace_period=1.0, hook_budget=0.74).hook_budget == 0.74


def test_unknown_name_gives_one_warning_with_a_suggestion(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unknown name with the prefix is warned of once, with the name that was probably meant."""
    with caplog.at_level(logging.WARNING):
        read(GRACE_PERIODE="2")
        read(GRACE_PERIODE="2")

    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("WATCHDOG_LAMBDA_GRACE_PERIODE is not a setting")
    assert "did you mean WATCHDOG_LAMBDA_GRACE_PERIOD?" in messages[0]


def test_lower_case_name_is_suggested_in_upper_case(caplog: pytest.LogCaptureFixture) -> None:
    """A name in lower case gets its upper-case form suggested, and not the most similar setting."""
    with caplog.at_level(logging.WARNING):
        read(grace_period="2")

    assert "did you mean WATCHDOG_LAMBDA_GRACE_PERIOD?" in caplog.text


def test_option_in_code_overrides_the_environment() -> None:
    """An option in code replaces the variable's value, even an invalid one."""
    settings = Settings.from_environ({PREFIX + "GRACE_PERIOD": "bad"}, grace_period=2.0)

    assert settings.grace_period == 2.0


@pytest.mark.parametrize(
    ("grace_period", "hook_budget"), [("", 0.5 / 3), ("bad", 0.5 / 3), ("2.0", 0.25), ("0.5", 1.0)]
)
def test_environment_hook_budget_adapts_to_grace_period_in_code(
    grace_period: str, hook_budget: float
) -> None:
    """A hook budget from the environment is adapted to a grace period given in code.

    The handler's author need not know of the variable, so it is no error.
    """
    environ = {PREFIX + "HOOK_BUDGET": "1.0", PREFIX + "GRACE_PERIOD": grace_period}
    given = 1.5 if grace_period == "0.5" else 0.5

    settings = Settings.from_environ(environ, grace_period=given)

    assert settings.hook_budget == pytest.approx(hook_budget)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grace_period": "soon"}, "grace_period='soon'"),
        ({"grace_period": True}, "grace_period=True"),
        ({"grace": 2.0}, "did you mean grace_period?"),
        ({"handler": "app.handler"}, "handler='app.handler' is not an option"),
        ({"interrupt": "never"}, "timeout-error, base, none"),
    ],
)
def test_bad_option_in_code_is_refused(options: dict[str, object], message: str) -> None:
    """An invalid option is refused by the call that gives it, before any handler is decorated."""
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        watch(**options)  # type: ignore[call-overload]
    if "handler" not in options and "grace" not in options:
        with pytest.raises(ConfigurationError):
            Watchdog(**options)  # type: ignore[arg-type]


def test_positional_option_is_refused_with_a_correct_example() -> None:
    """``@watch(2.0)`` raises an error that shows the right call."""
    with pytest.raises(ConfigurationError, match=r"@watch\(grace_period=2.0\)"):
        watch(2.0)  # type: ignore[call-overload]


def test_watchdog_refuses_invalid_handler() -> None:
    """A watchdog refuses an object that is no handler at once, as ``watch`` does.

    It does not wait for the first invocation.
    """
    with pytest.raises(ConfigurationError, match=r"watch\(2\.0\): not a handler.*Watchdog\(grace"):
        Watchdog().watch(2.0)  # type: ignore[call-overload]


@pytest.mark.parametrize("before", [0, -1.0, float("inf"), float("nan"), "10", True])
def test_bad_stage_is_refused(before: object) -> None:
    """The number of seconds of a stage must be positive."""
    with pytest.raises(ConfigurationError, match="before="):
        shutdown_hook(before=before)  # type: ignore[call-overload]


def test_uncallable_hook_is_refused() -> None:
    """Both kinds of hooks must be callable, and are refused where they are registered."""
    with pytest.raises(ConfigurationError, match="not callable"):
        sandbox_shutdown_hook(3)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="not callable"):
        shutdown_hook(3)  # type: ignore[call-overload]


def test_async_fallback_or_sandbox_hook_is_refused() -> None:
    """An async fallback or sandbox hook is refused.

    It would never be awaited, and the record would say that it succeeded.
    """

    async def flush(*_details: object) -> None: ...

    def watched(fallback: Any) -> None:
        watch(fallback=fallback)

    def owned(fallback: Any) -> None:
        Watchdog(fallback=fallback)

    register: Callable[[Any], object]
    for register in (sandbox_shutdown_hook, watched, owned):
        with pytest.raises(ConfigurationError, match=r"flush.*use a plain one"):
            register(flush)


def test_settings_are_frozen() -> None:
    """The settings are immutable."""
    with pytest.raises(AttributeError, match="frozen"):
        Settings.from_environ({}).timeout = 3.0


def test_settings_are_equal_by_value() -> None:
    """Settings are equal if their values are, and their repr shows every value."""
    settings = Settings.from_environ({}, timeout=3.0)

    assert settings == Settings.from_environ({PREFIX + "TIMEOUT": "3"})
    assert settings != Settings.from_environ({})
    assert settings != "timeout=3.0"
    assert repr(settings).startswith("Settings(handler=None, grace_period=3.0, ")
    assert "timeout=3.0" in repr(settings)


def test_inner_options_scale_the_outer_hook_budget() -> None:
    """A hook budget that was set for an outer grace period is scaled to a shorter inner one."""
    outer = Settings.from_environ({}, grace_period=3.0, hook_budget=1.5)

    merged = outer.replaced({"grace_period": 1.0})

    assert merged.hook_budget == pytest.approx(0.5)


def test_inner_options_keep_other_outer_options() -> None:
    """Inner options keep the outer ones that they do not set.

    A missing hook budget stays missing, and a given one is used as it is.
    """
    outer = Settings.from_environ({}, timeout=9.0)
    budgeted = Settings.from_environ({}, grace_period=3.0, hook_budget=1.5)

    merged = outer.replaced({"grace_period": 1.0})
    given = budgeted.replaced({"grace_period": 1.0, "hook_budget": 0.25})

    assert (merged.grace_period, merged.hook_budget, merged.timeout) == (1.0, None, 9.0)
    assert (given.grace_period, given.hook_budget) == (1.0, 0.25)


def test_outer_hook_budget_too_long_for_inner_last_call_is_reset() -> None:
    """An outer hook budget that does not fit an inner last call is replaced by the default.

    The default always fits. An invocation is under way, so it is no error.
    """
    outer = Settings.from_environ({}, grace_period=3.0, hook_budget=2.25)

    assert outer.replaced({"last_call": 0.75}).hook_budget is None
    assert outer.replaced({"last_call": 0.7}).hook_budget == 2.25


@pytest.mark.parametrize(("sigterm", "warnings"), [("0", 1), ("1", 0)])
def test_sandbox_hook_without_sigterm_gives_warning_on_lambda(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sigterm: str,
    warnings: int,
) -> None:
    """A sandbox hook on Lambda warns without SIGTERM=1, because Lambda gives no notice then.

    Elsewhere there is no sandbox, and no warning.
    """

    def close_pool() -> None:
        """A hook that is never called."""

    keys = {hook.key for hook in _sandbox.hooks.snapshot()}
    monkeypatch.setenv("WATCHDOG_LAMBDA_SIGTERM", sigterm)
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API", raising=False)
    sandbox_shutdown_hook(close_pool)
    assert caplog.records == []

    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    sandbox_shutdown_hook(close_pool)

    for hook in _sandbox.hooks.snapshot():
        if hook.key not in keys:
            _sandbox.hooks.remove(hook.key)
    assert len(caplog.records) == warnings
    assert caplog.text.count("close_pool) never runs") == warnings
