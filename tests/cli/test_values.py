"""Tests of the values of options: those that are accepted, and the messages for others."""

from __future__ import annotations

import io
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda.cli import values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_event_is_read_from_json_file_or_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event is given as JSON, by a file or on standard input."""
    file = tmp_path / "event.json"
    file.write_text('{"id": "grün"}', encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))

    assert values.event('{"id": 7}') == b'{"id": 7}'
    assert values.event(str(file)) == '{"id": "grün"}'.encode()
    assert values.event("-") == b"[1]"


def test_env_file_is_parsed(tmp_path: Path) -> None:
    """A file of variables can have comments, quotes and ``export``.

    A value may contain any characters.
    """
    file = tmp_path / ".env"
    file.write_text("# a comment\n\nA=1\nexport B='two words'\nC=\"x=y#z\"\nD=\n")

    assert values.variables(str(file)) == {"A": "1", "B": "two words", "C": "x=y#z", "D": ""}


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (values.event, "{", "neither JSON .* nor a file"),
        (values.event, "[NaN]", "NaN is valid in Python, but not in JSON"),
        (values.seconds, "0", "use for example 3 or 0.5"),
        (values.seconds, "nan", "above 0, up to 900"),
        (values.seconds, "901", "'901'"),
        (values.count, "0", "from 1 up"),
        (values.memory, "64", "128 to 10240"),
        (values.folder, "no/where", "'no/where' is not a folder"),
        (values.variable, "NAME", "is not NAME=VALUE"),
        (values.variable, "=x", "is not NAME=VALUE"),
        (values.variables, "no/file", "cannot be read"),
    ],
)
def test_wrong_value_is_refused_with_a_valid_example(
    parse: Callable[[str], Any], text: str, message: str
) -> None:
    """A wrong value is refused with a message that has the value and a valid one."""
    with pytest.raises(ArgumentTypeError, match=message):
        parse(text)


def test_bad_line_of_a_file_is_reported_with_its_number(tmp_path: Path) -> None:
    """A wrong line of a file is reported with its number.

    So is a file of events that is not JSON.
    """
    file = tmp_path / "file"
    file.write_text("A=1\nnothing\n")

    with pytest.raises(ArgumentTypeError, match="file:2: 'nothing' is not NAME=VALUE"):
        values.variables(str(file))
    with pytest.raises(ArgumentTypeError, match="file is not JSON"):
        values.event(str(file))
