"""Tests of the pipe to which a function writes."""

from __future__ import annotations

import os

from watchdog_lambda.cli.log import Line, Log


def test_sync_waits_for_all_lines_written() -> None:
    """sync() waits for all lines, including one without an end and more than a pipe holds."""
    lines: list[Line] = []
    log = Log("test", lines.append)

    os.write(log.write_end, b"one\n\ntwo")
    log.sync()
    assert [line.text for line in lines] == ["one", "", "two"]
    for _ in range(100):
        os.write(log.write_end, b"x" * 9_999 + b"\n")
    log.sync()
    assert [line.text for line in lines[3:]] == ["x" * 9_999] * 100
    log.sync()
    assert len(lines) == 103
    log.close()
    log.close()


def test_failing_line_callback_does_not_block_the_function() -> None:
    """A reader that cannot show the lines goes on reading.

    The function would block in print otherwise.
    """

    def fail(_line: Line) -> None:
        raise BrokenPipeError

    log = Log("test", fail)
    os.write(log.write_end, b"one\ntwo\n")
    log.close()

    assert not log._reader.is_alive()
