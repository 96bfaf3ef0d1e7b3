"""Each timeout gives one line and one answer, whatever state the process is in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from watchdog_lambda._report.record import MOST_BYTES

from .harness import REPORT, call, log_shown, running, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runtime.emulator import Emulator

ROOT: Final = Path(__file__).resolve().parents[2]

KINDS = (
    "memory_short",
    pytest.param(
        "memory_gone",
        marks=pytest.mark.skipif(
            (3, 15) <= sys.version_info < (3, 15, 2),
            reason="Python 3.15.0 crashes when such lists are cleared, also without a watchdog",
        ),
    ),
    "descriptors_gone",
    "threads_gone",
    # Each of these threads waits for the GIL and a processor. With other tests running, that takes
    # longer than the limit.
    pytest.param("thousand_threads", marks=pytest.mark.alone),
    "recursion",
    "streams_none",
    "streams_elsewhere",
    "streams_broken",
    "in_a_logging_handler",
    "in_print",
    "odd_names",
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    """Start one function for all cases.

    Each case runs in the process that the last one has left.
    """
    with running(wrapped("hard.handler")) as emulator:
        yield emulator


@pytest.mark.parametrize("do", KINDS)
def test_timeout_in_hard_state_gives_one_line_and_one_answer(shared: Emulator, do: str) -> None:
    """The interrupt lands, and its line is whole and within the bound.

    The process serves the next event.
    """
    if not shared.is_running:
        shared.close()
        shared.start()
    with log_shown(shared, since=len(shared.lines)):
        before = call(shared, {"do": "ok"})
        # A thread needs memory to start. The watchdog's may be new, and must have started by then.
        time.sleep(0.1)
        timed_out = call(shared, {"do": do})
        after = call(shared, {"do": "ok"})

        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert before.answer == after.answer == {"ok": True, "pid": before.answer["pid"]}
        [report] = [*timed_out.reports, *after.reports]
        [line] = [line for line in timed_out.lines if REPORT in line]
        assert len(line.encode()) < MOST_BYTES
        assert report["outcome"] == "raised"
        assert "hard.py" in report["location"] or do == "odd_names"
        if do == "threads_gone":
            assert [hook["outcome"] for hook in report["hooks"]] == ["not-run"]
        if do == "thousand_threads":
            assert len(report["threads"]) > 1


def test_wait_for_buffer_lock_is_reported_and_killed(shared: Emulator) -> None:
    """A handler that waits for a buffer's lock cannot be interrupted.

    It is reported, and Lambda kills. C code waits there without checking for signals. The line
    says where.
    """
    with log_shown(shared, since=len(shared.lines)):
        timed_out = call(shared, {"do": "in_anothers_print"})

        assert "Task timed out" in timed_out.response.body
        [report] = timed_out.reports
        assert report["outcome"] == "stuck"
        assert "(in_anothers_print)" in report["location"]


FILL: Final = """
os.set_blocking(1, False)
try:
    while True: os.write(1, bytes(4096))
except BlockingIOError: os.set_blocking(1, True)
"""

TIMES_OUT: Final = """
import os, time
from tests.support import Context
from watchdog_lambda import LambdaTimeout, watch

@watch(grace_period=0.2)
def handler(event, context):
    if event == "hang":
        time.sleep(60)
    return event

assert handler("warm", Context(5)) == "warm"
{setup}
context = Context(0.8)
try:
    handler("hang", context)
except LambdaTimeout:
    assert context.get_remaining_time_in_millis() > 0
    os.write(2, handler("served on\\n", Context(5)).encode())
"""


@pytest.mark.parametrize(
    "setup",
    [
        FILL,
        "reader, writer = os.pipe(); os.dup2(writer, 1); os.close(reader); os.close(writer)",
        "os.close(1)",
        "os.close(1); file = open('data.csv', 'w'); assert file.fileno() == 1",
    ],
    ids=["full", "reader gone", "closed", "the user's file"],
)
def test_record_goes_to_standard_error_without_standard_output(tmp_path: Path, setup: str) -> None:
    """Without standard output the whole line goes to standard error once, in time.

    The handler is interrupted, and the process serves the next event.
    """
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", TIMES_OUT.format(setup=setup)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    finally:
        os.close(writer)
        os.close(reader)

    line, served = done.stderr.splitlines()
    assert json.loads(line)["outcome"] == "raised"
    assert served == "served on"
    file = tmp_path / "data.csv"
    assert not file.exists() or not file.read_text()
