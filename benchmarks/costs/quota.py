"""A share of a processor, as Lambda gives it to a function by its memory.

128 MB are 7 % of a core, in periods of 20 ms. The kernel's own quota is taken where this process
may set one: cgroup v2, or v1. Where not, a thread stops the process and lets it go on by turns,
which is as good for what takes much longer than a period.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PERIOD_US: Final = 20_000
SHARE: Final = 0.0725
"""Of a core; 128 MB of the 1,769 that come with a whole one."""

_V2: Final = Path("/sys/fs/cgroup")
_V1: Final = Path("/sys/fs/cgroup/cpu")


class Quota(NamedTuple):
    """How processes are put under it."""

    means: str
    """What enforces it, for the page."""
    launch: tuple[str, ...]
    """What a command is started by, so that it is under it from its first instruction."""
    is_stopped_by_us: bool = False

    @contextlib.contextmanager
    def held(self, pid: int, *, wanted: bool = True) -> Iterator[None]:
        """For the block, hold the process to it if the kernel does not."""
        if not (wanted and self.is_stopped_by_us):
            yield
            return
        over = threading.Event()
        turns = threading.Thread(target=_by_turns, args=(pid, over), daemon=True)
        turns.start()
        try:
            yield
        finally:
            over.set()
            turns.join()


@contextlib.contextmanager
def quota() -> Iterator[Quota]:
    """Make one for the block; its processes must have ended by then."""
    for make in (_version_2, _version_1):
        group = make()
        if group is None:
            continue
        folder, means = group
        procs = folder / "cgroup.procs"
        try:
            # Of a shell, which becomes the process: no instruction of it is outside.
            yield Quota(means, ("/bin/sh", "-c", f'echo $$ > {procs} && exec "$@"', "sh"))
        finally:
            _remove(folder)
        return
    yield by_turns()


def by_turns() -> Quota:
    """The one that needs no permission."""
    return Quota("SIGSTOP and SIGCONT by turns", (), is_stopped_by_us=True)


def _version_2() -> tuple[Path, str] | None:
    folder = _V2 / f"costs-{os.getpid()}"
    try:
        if "cpu" not in (_V2 / "cgroup.subtree_control").read_text().split():
            return None
        folder.mkdir()
    except OSError:
        return None
    try:
        _set(folder / "cpu.max", f"{int(PERIOD_US * SHARE)} {PERIOD_US}")
    except OSError:
        _remove(folder)
        return None
    return folder, "cgroup v2, cpu.max"


def _version_1() -> tuple[Path, str] | None:
    folder = _V1 / f"costs-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        _set(folder / "cpu.cfs_period_us", str(PERIOD_US))
        _set(folder / "cpu.cfs_quota_us", str(int(PERIOD_US * SHARE)))
    except OSError:
        _remove(folder)
        return None
    return folder, "cgroup v1, cpu.cfs_quota_us"


def _set(file: Path, value: str) -> None:
    # Opened for update: where the folder is none of the kernel's, it must fail and not make a file.
    with file.open("r+") as setting:
        setting.write(value)


def _remove(folder: Path) -> None:
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)  # a process is on its way out
        else:
            return


def _by_turns(pid: int, over: threading.Event) -> None:
    runs, waits = PERIOD_US * SHARE / 1e6, PERIOD_US * (1 - SHARE) / 1e6
    with contextlib.suppress(ProcessLookupError):
        while not over.is_set():
            os.kill(pid, signal.SIGCONT)
            time.sleep(runs)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(waits)
        os.kill(pid, signal.SIGCONT)
