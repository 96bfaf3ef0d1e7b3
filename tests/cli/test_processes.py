"""Ending what was started here, and nothing else."""

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


def test_children_whose_parent_has_gone_are_found_by_their_mark() -> None:
    """In a session of their own, and orphaned."""
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


def test_one_that_is_still_ending_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no environment any more, and so no mark; held at that point, it is still there."""
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


def test_nothing_to_end_is_no_error() -> None:
    """Nor takes it long."""
    end_all(uuid.uuid4().hex)
