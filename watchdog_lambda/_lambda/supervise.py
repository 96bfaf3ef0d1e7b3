"""``LAST_RESORT=supervise``: the process forks, and the original one supervises the child.

This happens while the entrypoint is imported, in a pristine state: the runtime is loaded, but none
of the user's code. So it works the same with every packaging, and a fresh process that replaces a
crashed one is forked from the same state.
"""

from __future__ import annotations

import os
import sys

from watchdog_lambda._engine.clock import Timeline

from .answers import Answers
from .fallback_file import FallbackFile
from .kernel import Kernel, threads_of_this_process
from .plain_http import PlainApi
from .runtime_client import WatchedClient
from .shared_state import SharedState
from .stack_files import StackFiles
from .supervised import Supervised
from .supervisor import RING, WAITED_FOR, Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import MutableMapping

    from watchdog_lambda._config import Settings
else:
    import _signal as signal  # without signal.py, whose enums take 0.6 ms of a cold start

_OOM_SCORE = b"500"
"""The score of the runtime's process, raised so that the kernel never kills the supervisor instead.
"""


class Refusal(Exception):
    """There can be no supervisor; the message says why."""


def refusal() -> str | None:
    """Return why this system allows no supervisor; None if it does. Thread: any."""
    try:
        _kernel()
    except Refusal as error:
        return str(error)
    return (
        None if hasattr(os, "memfd_create") else "in-memory files (memfd_create) are not available"
    )


def _kernel() -> Kernel:
    if not hasattr(os, "fork") or not hasattr(signal, "sigtimedwait"):
        raise Refusal(f"no fork on {sys.platform}")
    try:
        return Kernel()
    except (ImportError, OSError) as error:
        raise Refusal(str(error)) from error


def _check_threads() -> None:
    try:
        threads = threads_of_this_process()
    except OSError as error:
        raise Refusal(f"no /proc: {error}") from error
    if threads > 1:
        raise Refusal(
            f"{threads} threads are already running, and a fork would copy only one of them; "
            "start them in the handler's module"
        )


def begin(address: str, settings: Settings, environ: MutableMapping[str, str]) -> Supervised:
    """Fork. Returns in the runtime's process, and in each process that replaces it.

    Raises:
        Refusal: there can be no supervisor. Nothing has been changed.

    Thread: main, while there is no other.
    """
    _check_threads()
    kernel = _kernel()
    try:
        state, files, fallback = SharedState(settings.timeout), StackFiles(), FallbackFile()
        kernel.adopt_orphans()
    except (OSError, AttributeError, ImportError) as error:
        raise Refusal(str(error)) from error
    api = PlainApi(address)

    def grace_period(seconds: float) -> float:
        """Return the grace period in force for an invocation of `seconds`."""
        return Timeline(
            seconds,
            grace_period=settings.grace_period,
            hook_budget=settings.hook_budget,
            last_call=settings.last_call,
        ).grace_period

    answers = Answers(api, kernel, fallback, grace_period, environ)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    supervisor = Supervisor(api, answers, state, files, environ=environ, mask=set(mask))
    parent = os.getpid()
    try:
        first = supervisor.serve()
    except OSError as error:
        if os.getpid() != parent:
            raise
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise Refusal(f"no process can be started: {error}") from error
    # From here on this is the runtime's process.
    kernel.end_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the supervisor has ended before that
    _offer_to_the_oom_killer()
    state.set_dump_signal(files.catch())

    def ring() -> None:
        os.kill(parent, RING)

    WatchedClient(state, first=first, ring=ring).install()
    return Supervised(state, fallback, ring)


def _offer_to_the_oom_killer() -> None:
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:
            file.write(_OOM_SCORE)
    except OSError:
        pass  # then the kernel chooses by size, and the runtime's process is larger
