"""How a record is written: with which formatter, and what is left if something fails."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from watchdog_lambda import _report
from watchdog_lambda._report import metrics, stdout

LIMIT = 30.0


class Written:
    """Stands in for what `write` uses: notes the lines, the metrics and the formatter's calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[bytes] = []
        self.in_order: list[str] = []
        self.metrics: list[tuple[Any, ...]] = []
        self.formatter: object = None
        self.answer: tuple[bytes | None, str] = b"the user's\n", ""
        self.formatted: list[tuple[Any, ...]] = []
        self.heard: list[dict[str, Any]] = []
        monkeypatch.setattr(_report, "listeners", [self.heard.append])
        monkeypatch.setattr(stdout, "write", self._write)
        monkeypatch.setattr(metrics, "write", self._write_metric)
        monkeypatch.setattr(_report, "users_formatter", lambda: self.formatter)
        monkeypatch.setattr(_report, "formatted", self._formatted)
        monkeypatch.setattr(
            _report,
            "build",
            lambda firing, outcome, now, last_resort: {
                "of": firing.name,
                "outcome": outcome,
                "now": now,
                "last_resort": last_resort,
            },
        )

    def _write(self, line: bytes) -> bool:
        self.lines.append(line)
        self.in_order.append("line")
        return len(self.lines) < 2

    def _write_metric(self, *arguments: object) -> None:
        self.metrics.append(arguments)
        self.in_order.append("metric")

    def _formatted(self, *arguments: Any) -> tuple[bytes | None, str]:
        self.formatted.append(arguments)
        return self.answer

    def record(self) -> Any:
        [line] = self.lines
        return json.loads(line)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    return Written(monkeypatch)


def make_firing(elapsed: float = 29.0) -> Any:
    return SimpleNamespace(
        name="it", elapsed=lambda: elapsed, timeline=SimpleNamespace(limit=LIMIT)
    )


def test_record_comes_first_and_then_the_metric(written: Written) -> None:
    """The record is given to the listeners and written, and then the metric is."""
    firing = make_firing()

    _report.write(firing, "raised", "not exit")

    expected = {"of": "it", "outcome": "raised", "now": 29.0, "last_resort": "not exit"}
    assert written.heard == [expected]
    assert written.record().items() >= (expected | {"level": "ERROR"}).items()
    assert written.metrics == [(firing, "raised", 29.0)]
    assert written.in_order == ["line", "metric"]


@pytest.mark.parametrize(
    ("elapsed", "seconds"), [(20.0, 0.2), (29.6, 0.1), (30.0, 0.0), (31.0, 0.0)]
)
def test_users_formatter_gets_a_quarter_of_the_time_left(
    written: Written, elapsed: float, seconds: float
) -> None:
    """The user's formatter gets a quarter of the time that is left, and no more than a bound."""
    written.formatter = "formatter"

    _report.write(make_firing(elapsed), "raised")

    [(formatter, record, given)] = written.formatted
    assert (formatter, record["of"]) == ("formatter", "it")
    assert given == pytest.approx(seconds)
    assert written.lines == [b"the user's\n"]


def test_users_formatter_is_not_used_for_a_stuck_handler(written: Written) -> None:
    """A stuck handler may hold what the formatter waits for."""
    written.formatter = "formatter"

    _report.write(make_firing(), "stuck")

    assert written.formatted == []
    assert written.record()["outcome"] == "stuck"
    assert "report_error" not in written.record()


def test_failed_formatter_is_named(written: Written) -> None:
    """If the user's formatter fails, the record is in our own format, with the error."""
    written.formatter, written.answer = "formatter", (None, "KeyError")

    _report.write(make_firing(), "raised")

    assert written.record()["report_error"] == "KeyError"


def test_record_that_cannot_be_built_leaves_a_short_line(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the record cannot be built, a line has the outcome and the error."""

    def fail(*_: object) -> Any:
        raise KeyError("secret")

    monkeypatch.setattr(_report, "build", fail)

    _report.write(make_firing(), "raised")

    record = written.record()
    del record["timestamp"]
    assert record == {
        "level": "ERROR",
        "message": "watchdog.timeout",
        "event": "watchdog.timeout",
        "outcome": "raised",
        "report_error": "KeyError",
    }
    assert len(written.metrics) == 1


def test_without_memory_the_prepared_line_is_written(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If not even the short line can be made, the one that is prepared is written."""

    def fail(*_: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(_report, "build", fail)
    monkeypatch.setattr(_report, "dumps", fail)

    _report.write(make_firing(), "raised")

    assert written.lines[0].endswith(b"}\n")
    assert written.record() == {
        "level": "ERROR",
        "message": "watchdog.timeout",
        "event": "watchdog.timeout",
        "report_error": "MemoryError",
    }
    assert len(written.metrics) == 1


def broken() -> BaseException:
    try:
        raise KeyError("secret")
    except KeyError as error:
        return error


def test_failure_of_the_watchdog_has_type_and_place(written: Written) -> None:
    """The line about the watchdog's own failure has the error's type and its innermost place."""
    error = broken()
    assert error.__traceback__ is not None

    _report.write_failure(error)

    record = written.record()
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "level": "ERROR",
        "message": "watchdog.failure",
        "event": "watchdog.failure",
        "error": "KeyError",
        "location": f"test_write.py:{error.__traceback__.tb_lineno}",
    }


def test_failure_that_was_not_raised_has_no_place(written: Written) -> None:
    _report.write_failure(KeyError())

    assert written.record()["location"] == ""


def test_failure_without_memory_leaves_the_prepared_line(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", fail)
        _report.write_failure(MemoryError())

    [line] = written.lines
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "level": "ERROR",
        "message": "watchdog.failure",
        "event": "watchdog.failure",
    }


def test_line_of_text_is_encoded_and_its_fate_returned(written: Written) -> None:
    assert _report.write_line("one\ntwo")
    assert not _report.write_line("refused")
    assert written.lines == [b"one\\ntwo\n", b"refused\n"]


def test_preload_imports_what_writing_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(stdout, "preload", lambda: called.append("stdout"))

    _report.preload()

    assert called == ["stdout"]
