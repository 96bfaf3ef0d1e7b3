"""The command ends the processes that it has started, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING

from watchdog_lambda.cli import processes
from watchdog_lambda.cli.processes import MARK, end_all, marked

from .support import is_running

if TYPE_CHECKING:
    import pytest

FAMILY = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


def test_orphans_are_found_by_their_mark() -> None:
    """Children whose parent has ended are found by their mark, also in a session of their own."""
    mark = uuid.uuid4().hex
    environ = os.environ | {MARK: mark}
    orphan = int(subprocess.check_output([sys.executable, "-c", FAMILY], env=environ))
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        assert set(marked(mark)) == {orphan}

        end_all(mark)

        assert not is_running(orphan)
        assert list(marked(mark)) == []
        assert is_running(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_exiting_process_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is still ending is waited for.

    It has no environment any more, and so no mark; the test stops it at that point.
    """
    process = subprocess.Popen(["sleep", "60"])
    seen = iter([{process.pid}])
    monkeypatch.setattr(processes, "marked", lambda _mark: next(seen, set()))
    release = threading.Timer(0.2, os.kill, (process.pid, signal.SIGKILL))
    monkeypatch.setattr(os, "kill", lambda _pid, _number: None)
    try:
        release.start()

        end_all("a mark")

        assert not is_running(process.pid)
    finally:
        release.join()
        process.wait()


def test_no_marked_processes_is_no_error() -> None:
    """If there is nothing to end, this is no error and takes no time."""
    end_all(uuid.uuid4().hex)
