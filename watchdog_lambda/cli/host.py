"""What runs a function: its processes, its log, and the end of both."""

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
    """Told what begins, and when by ``time.monotonic()``."""

    def __call__(self, what: Literal["init", "invocation"], at: float, /) -> None:
        """Take note."""
        ...


class Host:
    """Entered, it can start the function's process; left, nothing of it runs.

    Thread: one; `on_line` is called on another.
    """

    def __init__(self, function: Function, on_line: Callable[[Line], None]) -> None:
        self._function = function
        self._on_line = on_line
        self.mark = uuid.uuid4().hex
        """What is in the environment of everything it has started; see :mod:`.processes`."""
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: list[Line] = []  # those that have not been handed out
        self._is_open = True
        self._log = Log("function", self._add)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def invoke(self, event: bytes, on_start: OnStart) -> Invocation:
        """Invoke the function, with a new process if there is none, and wait for its answer.

        `on_start` is called when the invocation's clock starts, and when a start of the process
        begins that is outside of it.

        Raises:
            CannotRun: the host itself failed.
        """
        raise NotImplementedError

    def close(self) -> list[Line]:
        """End everything; what was written after the last invocation. Idempotent.

        A function with an extension has notice.
        """
        if not self._is_open:
            return []
        self._end()
        self._log.close()
        # Last: cut short by Ctrl-C it is done once more. Pinned by
        # test_ctrl_c_while_closing_leaves_nothing_either.
        self._is_open = False
        return self._new_lines()

    def _end(self) -> None:
        """End all processes."""
        raise NotImplementedError

    def _add(self, line: Line) -> None:
        """A line of the function's. Thread: the log's."""
        self._lines.append(line)
        self._on_line(line)

    def _new_lines(self) -> list[Line]:
        count = len(self._lines)
        lines = self._lines[:count]
        del self._lines[:count]
        return lines

    def _start_process(self, name: str, command: list[str], stderr: int, **environ: str) -> Any:
        """Start one that has the mark, and the function's environment.

        Raises:
            CannotRun: it could not be started; the message has its `name`.
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
