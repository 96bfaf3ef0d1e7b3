"""Ending what was started here, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

from watchdog_lambda.cli.processes import MARK, end_all, marked

from .support import is_running

FAMILY = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


def test_children_whose_parent_has_gone_are_found_by_their_mark() -> None:
    """In a session of their own, and nobody's children any more."""
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


def test_nothing_to_end_is_no_error() -> None:
    """Nor takes it long."""
    end_all(uuid.uuid4().hex)
