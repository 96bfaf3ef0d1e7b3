"""For any handler name the error is the runtime's own, or says what to set."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from awslambdaric.bootstrap import _get_handler
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from watchdog_lambda import ConfigurationError
from watchdog_lambda._lambda import command

if TYPE_CHECKING:
    from pathlib import Path

MODULES = {
    "named": "value = 3\ndef handler(event, context):\n    return event\n",
    "broken": "def handler(:\n",
    "raising": "raise OSError('its own')\n",
    "missing": "import no_such_module_at_all\n",
    "leaving": "raise SystemExit(3)\n",
}

words = st.sampled_from(
    [*MODULES, "handler", "value", "folder", "no_such_module", "sys", "watchdog_lambda", "", " "]
)
odd = st.text(st.characters(exclude_categories=()), max_size=6)
names = st.one_of(
    st.lists(words | odd, max_size=4).map(".".join),
    st.lists(words, min_size=1, max_size=4).map("/".join),
    st.tuples(words, words, words).map(lambda three: f"{three[0]}/{three[1]}.{three[2]}"),
    odd,
)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [*sys.modules]:
        if name.partition(".")[0] in {*MODULES, "folder"}:
            monkeypatch.delitem(sys.modules, name)


def outcome(look_up: Any) -> tuple[object, ...]:
    """Return the outcome in a form that can be compared."""
    try:
        return "found", look_up()
    except BaseException as error:
        attributes = {name: str(value) for name, value in vars(error).items()}
        return type(error), str(error), attributes


@given(names)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("named.handler")
@example("folder/named.handler")
@example("named")
@example(".")
@example("\0.handler")
@example("broken.handler")
@example("raising.handler")
@example("leaving.handler")
def test_any_name_resolves_as_in_the_runtime(name: str) -> None:
    """Any name is resolved to the runtime's handler, or refused with its type and message."""
    assert outcome(lambda: command.resolve({}, name)) == outcome(lambda: _get_handler(name))


@given(st.none() | names, st.none() | names, st.none() | names)
def test_any_choice_gives_a_handler_or_helpful_error(
    setting: str | None, argument: str | None, lambdas: str | None
) -> None:
    """Any choice results in one of the names by precedence, or in an error that says what to set.

    A name of the package itself is never taken for a handler.
    """
    given_ = {"WATCHDOG_LAMBDA_HANDLER": setting, "_HANDLER": lambdas}
    environ = {variable: name for variable, name in given_.items() if name is not None}
    candidates = [(setting or "").strip(), argument or "", lambdas or ""]
    first = next((name for name in candidates if name), None)
    try:
        chosen = command.choose(environ, argument)
    except ConfigurationError as error:
        assert "for example app.handler" in str(error)  # noqa: PT017 - or one is chosen
        assert first is None or first.startswith("watchdog_lambda")
        return

    assert chosen == first
    assert chosen.replace("/", ".").split(".")[0] != "watchdog_lambda"
