"""Any text in any variable is a setting, or is refused with a helpful message."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, example, given
from hypothesis import settings as tuned
from hypothesis import strategies as st

from watchdog_lambda import ConfigurationError
from watchdog_lambda._config import SETTINGS, Settings
from watchdog_lambda._log import said
from watchdog_lambda._plan import NO_FALLBACK, Plan
from watchdog_lambda._setting import PREFIX

if TYPE_CHECKING:
    import pytest

SPICE = (
    "0", "1", "-1", "1e-320", "1e400", "nan", "inf", "86400", "86400.01", "0x10", "1_000", "٣",
    "225", "225.01",
    "auto", "none", "AUTO", "base", "timeout-error", "exit", "restart", "supervise", "report",
    "true", "yes",
    "SIGURG", "SIGALRM", "SIGKILL", "SIGRTMIN", "SIGRTMIN+3", "SIGRTMIN+99", "RTMIN+1", "+3",
    "SIGRTMIN+" + "9" * 5000, "_DFL", "SIG_DFL", "AWS/x", ":x", "Orders", "O" * 256,
    "\x85", "\u2028",
)  # fmt: skip
"""Values that random text would hardly ever produce."""

# A process's environment cannot contain a NUL.
texts = st.one_of(
    st.sampled_from(SPICE),
    st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=40),
    st.floats().map(repr),
    st.integers().map(str),
)

names = st.sampled_from(sorted(SETTINGS))


def remedies(message: str) -> list[str]:
    """Return the values that the message suggests."""
    offered = re.search(r"use (?:less than \S+ )?for example '?([^' ]+)'?$", message)
    if offered:
        return [offered[1]]
    offered = re.search(r"did you mean (\S+)\?$", message)
    if offered:
        return [offered[1]]
    offered = re.search(r"; use (?:one of )?([^;]+)$", message)
    assert offered, message
    words = re.split(r", | or | ", offered[1])
    known = {"1", "0", "auto", "none", "SIGURG", "SIGRTMIN+3", "timeout-error", "base"}
    return [word for word in words if word in known | {"report", "exit", "supervise"}]


@given(names, texts)
def test_any_text_is_valid_or_refused_with_a_working_remedy(name: str, text: str) -> None:
    """Any text is a setting or is refused with a remedy that works.

    The message has the variable, the value, and a valid value.
    """
    variable = PREFIX + name.upper()
    try:
        read = Settings.from_environ({variable: text})
    except ConfigurationError as refusal:
        message = str(refusal)
    else:
        assert isinstance(read, Settings)
        assert (name in read.given) == bool(text.strip())
        return

    assert message.startswith(f"{variable}={text.strip()!r}")
    offered = remedies(message)
    assert offered, message
    for remedy in offered:
        Settings.from_environ({variable: remedy})


@given(st.dictionaries(names, texts, max_size=11))
def test_any_environment_is_read_or_refused(variables: dict[str, str]) -> None:
    """Any environment is read or refused, including values that do not fit together.

    The settings that were read can be used.
    """
    environ = {PREFIX + name.upper(): text for name, text in variables.items()}
    try:
        read = Settings.from_environ(environ)
    except ConfigurationError as error:
        assert any(str(error).startswith(name) for name in environ)  # noqa: PT017 - or it is read
        return

    assert 0 < read.grace_period <= 225
    assert 0 < read.last_call <= 225
    assert read.hook_budget is None or 0 < read.hook_budget < read.grace_period


@given(st.text(st.characters(exclude_characters="\0=", codec="utf-8"), max_size=20), texts)
@tuned(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unknown_names_only_give_a_warning(
    caplog: pytest.LogCaptureFixture, tail: str, text: str
) -> None:
    """Any other name is only warned of, because a typing mistake must not change a setting."""
    if tail in {name.upper() for name in SETTINGS}:
        return
    said.clear()
    caplog.clear()

    read = Settings.from_environ({PREFIX + tail: text})

    assert read == Settings.from_environ({})
    assert len(caplog.records) == 1
    assert PREFIX + ascii(tail)[1:-1] in caplog.records[0].getMessage()
    assert repr(text) not in caplog.records[0].getMessage() or len(text) < 8  # may be a secret


class Odd:
    """A value whose representation raises."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.builds(object),
)


options = st.sampled_from(sorted(name for name in SETTINGS if SETTINGS[name].is_option))


@given(options, values)
@example("grace_period", 10**400)
def test_any_option_value_is_used_or_refused(name: str, value: Any) -> None:
    """Any value of an option is used or refused; in code it may be no text."""
    try:
        Settings.from_environ({}, **{name: value})
    except ConfigurationError as error:
        assert str(error).startswith(f"{name}=")  # noqa: PT017 - both ways are right


spans = st.none() | st.floats(0.001, 900.0)


@given(spans, spans, spans, spans, spans, spans)
@example(None, 2.4, None, 1.0, None, None)
@example(0.5, None, None, None, 1.0, None)
def test_options_of_nested_watched_handlers_always_combine(  # noqa: PLR0917
    grace: float | None,
    budget: float | None,
    last_call: float | None,
    inner_grace: float | None,
    inner_budget: float | None,
    inner_last_call: float | None,
) -> None:
    """The options of two watched handlers, valid by themselves, can always be combined.

    The inner one's would be no error in an invocation.
    """
    plans = []
    for one, two, three in (
        (grace, budget, last_call),
        (inner_grace, inner_budget, inner_last_call),
    ):
        options = {"grace_period": one, "hook_budget": two, "last_call": three}
        try:
            settings = Settings.from_environ({}, **options)
        except ConfigurationError:
            return
        given_ = {name: value for name, value in options.items() if value is not None}
        plans.append(Plan(settings, (), NO_FALLBACK, given_))
    outer, inner = plans

    merged = outer.with_inner(inner).settings

    assert merged.grace_period == (inner_grace or grace or 3.0)
    last = min(merged.last_call, merged.grace_period / 4)
    assert merged.hook_budget is None or 0 < merged.hook_budget < merged.grace_period - last
