"""Processes of a function, at a Runtime API that is built in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from tools import ROOT, environment


@contextlib.contextmanager
def running(
    command: Sequence[str],
    address: str,
    log: IO[bytes] | int,
    settings: Mapping[str, str],
    count: int = 1,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start this command so often, in this checkout; kill what is left of it in the end."""
    own = {
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": "function",
        # The tests of what uses this put defects into the processes.
        "PYTHONPATH": os.pathsep.join([os.environ.get("DEFECTS", ""), str(ROOT)]),
    }
    environ = environment(**{**own, **settings})
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environ, start_new_session=True, **streams)
        for _ in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
