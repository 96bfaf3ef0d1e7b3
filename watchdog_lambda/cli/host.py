"""The base class of what runs a function: it owns the function's processes and its log."""

from __future__ import annotations

import subprocess
import uuid
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from .function import CannotRun
from .log import Log
from .processes import MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from .function import Function, Invocation
    from .log import Line


class OnStart(Protocol):
    """A callback that is told what begins, and at which ``time.monotonic()``."""

    def __call__(self, what: Literal["init", "invocation"], at: float, /) -> None:
        """Take note."""
        ...


class Host:
    """A context manager in which the function's process can run; at its end all processes are gone.

    Thread: one; `on_line` is called on another.
    """

    def __init__(self, function: Function, on_line: Callable[[Line], None]) -> None:
        self._function = function
        self._on_line = on_line
        self.mark = uuid.uuid4().hex
        """A value in the environment of every process that it starts; see :mod:`.processes`."""
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: list[Line] = []  # those not yet in an Invocation
        self._is_open = True
        self._log = Log("function", self._add)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def invoke(self, event: bytes, on_start: OnStart) -> Invocation:
        """Invoke the function and wait for its answer. Start a new process if there is none.

        `on_start` is called when the invocation's clock starts, and before that when a process's
        init begins that does not count as the invocation's time.

        Raises:
            CannotRun: the host itself failed.
        """
        raise NotImplementedError

    def close(self) -> list[Line]:
        """End all processes. Return the lines written after the last invocation. Idempotent.

        A function with an extension gets SIGTERM first.
        """
        if not self._is_open:
            return []
        self._end()
        self._log.close()
        # Set this last: if Ctrl-C interrupts the lines above, close() is called again and must
        # repeat them. Pinned by test_ctrl_c_while_closing_leaves_nothing_running.
        self._is_open = False
        return self._new_lines()

    def _end(self) -> None:
        """End all processes."""
        raise NotImplementedError

    def _add(self, line: Line) -> None:
        """Take a line of the function's output. Thread: the log's."""
        self._lines.append(line)
        self._on_line(line)

    def _new_lines(self) -> list[Line]:
        count = len(self._lines)
        lines = self._lines[:count]
        del self._lines[:count]
        return lines

    def _start_process(self, name: str, command: list[str], stderr: int, **environ: str) -> Any:
        """Start a process with the mark and the function's environment.

        Raises:
            CannotRun: the process could not be started; the message contains `name`.
        """
        try:
            return subprocess.Popen(  # noqa: S603 - the user's own command
                command,
                cwd=self._function.folder,
                env={**self._function.environ, **environ, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=self._log.write_end,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise CannotRun(f"{name} could not be started: {error}") from error
