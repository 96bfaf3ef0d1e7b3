"""Processes that are measured: started, heard line by line, and ended in any case."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from tools import ROOT, environment


class Broken(Exception):
    """A measured process did not do what it was to do; the message has what it wrote."""


class Child:
    """One measured process, ended when the block is left."""

    def __init__(
        self,
        module: str,
        *arguments: object,
        python: str = sys.executable,
        launch: Sequence[str] = (),
    ) -> None:
        self._command = [*launch, python, "-m", "benchmarks.child", module]
        self._command += [str(argument) for argument in arguments]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="measured-"))
            self._errors = Path(folder, "stderr")
            with _held_back(), self._errors.open("w") as stderr:
                self._process = subprocess.Popen(
                    self._command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=folder,
                    env=environment(),
                    start_new_session=True,
                )
                undo.callback(_end, self._process)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._undo.close()

    @property
    def pid(self) -> int:
        """The process's."""
        return self._process.pid

    def say(self, what: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(what.encode() + b"\n")

    def hear(self, within: float = 60.0) -> dict[str, Any]:
        """The next thing that it tells.

        Raises:
            Broken: It ended, or said nothing for so many seconds.
        """
        pipe = self._process.stdout
        line, why = b"", "said nothing"
        if pipe is not None and select.select([pipe], [], [], max(0.0, within))[0]:
            line = pipe.readline()
            why = "" if line else f"ended with {self._process.wait()}"
        if why:
            raise Broken(_anywhere(f"{' '.join(self._command)}: {why}\n{self.wrote}"))
        told: dict[str, Any] = json.loads(line)
        return told

    def hear_all(self, count: int, within: float = 60.0) -> Iterator[dict[str, Any]]:
        """So many things, each within so many seconds of the one before."""
        for _ in range(count):
            yield self.hear(within)

    def wait(self, within: float = 60.0) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(within)

    @property
    def wrote(self) -> str:
        """The end of what it has written to its standard error."""
        return self._errors.read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Have Ctrl-C wait for the end of the block, or a process could be started and forgotten."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _anywhere(text: str) -> str:
    """Without this machine's folders: the message may be shown on the page."""
    for folder in (sys.prefix, sys.base_prefix, str(ROOT)):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
