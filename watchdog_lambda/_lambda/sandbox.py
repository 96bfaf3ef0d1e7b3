"""Sandbox shutdown (``SIGTERM=1``): runs hooks when Lambda ends the sandbox.

Without an extension Lambda kills the runtime at once. With an internal extension it sends SIGTERM
first and kills 500 ms later (document "Understanding the Lambda execution environment lifecycle").
So we register one that wants no events.

A signal's Python handler runs only when the main thread executes bytecode, but outside AWS's images
for 3.12 and newer, that thread waits for the next event in C. So a thread reads the descriptor to
which CPython's own C handler writes signal numbers (``signal.set_wakeup_fd``), and runs the hooks.
Our Python handler is installed only if there is no other. It keeps the default action from killing
the process at once, and informs the thread if other code has taken over the descriptor (asyncio's
``add_signal_handler`` does).

The user's own SIGTERM handler stays. If the main thread cannot run it, our thread does.
"""

from __future__ import annotations

import json
import os
import signal
from _thread import allocate_lock, get_ident, start_new_thread

from watchdog_lambda import _report
from watchdog_lambda._cpython.stacks import frame_of
from watchdog_lambda._engine.clock import Stopwatch
from watchdog_lambda._engine.stage import Stage
from watchdog_lambda._hooks import HookRegistry
from watchdog_lambda._log import logger
from watchdog_lambda._report.record import timestamp

from .plain_http import EXTENSION, LONGEST_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from types import FrameType
    from typing import Any

    from watchdog_lambda._engine.clock import Clock

    from .plain_http import PlainApi

EVENT = "watchdog.sandbox_shutdown"

BUDGET = 0.4
"""Seconds for all hooks, of the 500 ms that Lambda gives; writing the record takes time, too."""

hooks = HookRegistry()


class Sandbox:
    """Waits for SIGTERM, runs the hooks, and ends the process as SIGTERM would have.

    Thread: created by the main one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._main = get_ident()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)

    def listen(self) -> None:
        """Install the handler and start the thread.

        Raises:
            ValueError: this is not the main thread of the main interpreter.
            RuntimeError: no thread can be started.
        """
        before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        if before != -1:
            # Another loop needs it. Then only our Python handler is left.
            signal.set_wakeup_fd(before)
        os.register_at_fork(after_in_child=self._after_fork)
        # Start the thread before installing the handler: with the handler alone, SIGTERM would have
        # no effect at all.
        start_new_thread(self._run, ())
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, signum: int, _frame: FrameType | None) -> None:
        try:
            os.write(self._write_end, bytes((signum,)))
        except BlockingIOError:
            pass  # the pipe is full of signals, which the thread is about to read

    def _after_fork(self) -> None:
        # The child is not the sandbox's runtime: Process.terminate() must end it, and its signals
        # must not reach the parent through the pipe that both share.
        try:
            descriptor = signal.set_wakeup_fd(-1)
            if descriptor != self._write_end:
                signal.set_wakeup_fd(descriptor)
            if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        except ValueError:
            pass  # not in the main interpreter

    def _run(self) -> None:
        while signal.SIGTERM not in os.read(self._read_end, 512):
            pass  # another signal that has a Python handler
        # Run the user's handler and the hooks in parallel: neither has time to wait for the other.
        handler = _Handler(signal.getsignal(signal.SIGTERM))
        if handler.call != self._on_sigterm and self._main_waits_in_c():
            handler.start()
        self._run_hooks()
        if handler.call == self._on_sigterm:
            # Exit, as by the default action. Not by sys.exit(): the main thread may be stuck.
            os._exit(0)
        code = handler.exit_code()
        if code is not None:
            os._exit(code)

    def _main_waits_in_c(self) -> bool:
        """Return whether the main thread waits for an event in C, and cannot run a handler."""
        frame = frame_of(self._main)
        return frame is not None and frame.f_code.co_name == "wait_next_invocation"

    def _run_hooks(self) -> None:
        registered = sorted(hooks.snapshot(), key=lambda hook: hook.key, reverse=True)
        if not registered:
            return
        stopwatch = Stopwatch(self._clock, self._clock.monotonic())
        stage = Stage(registered, None, BUDGET, stopwatch, _nobody_waits)
        stage.begin()
        stage.wait()
        stage.close()
        _report.write_line(
            json.dumps(
                {"level": "INFO", "message": EVENT, "timestamp": timestamp()}
                | {"event": EVENT, "hooks": [record.as_dict() for record in stage.records]}
            )
        )


def _nobody_waits() -> None:
    """Do nothing: only :meth:`Stage.wait` waits for the stage's end."""


def announced_by(api: PlainApi) -> socket | None:
    """Register the extension. Return the connection that keeps it alive; None if it was refused.

    Never raises. If it was refused, Lambda sends no SIGTERM, unless there is an external extension.
    Thread: any.
    """
    try:
        return api.register_extension(EXTENSION, LONGEST_WAIT)
    except OSError as error:
        logger().warning(
            "SIGTERM=1: no extension could be registered (%s), so Lambda may end the sandbox "
            "without a SIGTERM",
            error,
        )
        return None


class _Handler:
    """Runs the user's own SIGTERM handler on a separate thread, instead of the main one."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._code: int | None = None
        self._done = allocate_lock()

    def start(self) -> None:
        if callable(self.call):
            self._done.acquire()
            start_new_thread(self._run, ())

    def exit_code(self) -> int | None:
        """Wait for its end. Return its exit status; None if it did not exit, or did not run."""
        with self._done:
            return self._code

    def _run(self) -> None:
        try:
            self.call(signal.SIGTERM, None)
        except SystemExit as end:
            # Such a handler usually exits. On this thread, that would only end the thread.
            self._code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:  # noqa: BLE001 - the user's code
            _report.write_failure(error)
        finally:
            self._done.release()
