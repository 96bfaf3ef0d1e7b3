"""A share of a processor, as Lambda gives it to a function by its memory.

128 MB are 7 % of a core, in periods of 20 ms. The kernel's own quota is taken where this process
may set one: cgroup v2, or v1. Where not, a thread stops and continues the process in turns,
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


class Quota(NamedTuple):
    means: str
    """What enforces it, for the page."""
    share: float
    """Of a processor."""
    members: Path | None = None
    """The file by which a process joins; None if the kernel does not enforce it."""

    @property
    def launch(self) -> tuple[str, ...]:
        """What a command is started by, so that it is under it from its first instruction."""
        if self.members is None:
            return ()
        # By a shell, which becomes the process: no instruction of it is outside.
        return "/bin/sh", "-c", f'echo $$ > {self.members} && exec "$@"', "sh"

    @contextlib.contextmanager
    def held(self, pid: int, *, wanted: bool = True) -> Iterator[None]:
        """For the block, hold the process to it if the kernel does not."""
        if self.members is not None or not wanted:
            yield
            return
        over = threading.Event()
        turns = threading.Thread(target=_by_turns, args=(pid, self.share, over), daemon=True)
        turns.start()
        try:
            yield
        finally:
            over.set()
            turns.join()


@contextlib.contextmanager
def quota(share: float = SHARE, period_us: int = PERIOD_US) -> Iterator[Quota]:
    """Make one for the block; its processes must have ended by then."""
    used = str(int(period_us * share))
    v1 = {"cpu.cfs_period_us": str(period_us), "cpu.cfs_quota_us": used}
    for root, means, settings in (
        (Path("/sys/fs/cgroup"), "cgroup v2", {"cpu.max": f"{used} {period_us}"}),
        (Path("/sys/fs/cgroup/cpu"), "cgroup v1", v1),
    ):
        group = root / f"costs-{os.getpid()}"
        with contextlib.suppress(OSError):
            group.mkdir()
        try:
            for name, value in settings.items():
                _set(group / name, value)
        except OSError:
            _remove(group)
            continue
        try:
            yield Quota(f"{means}, {list(settings)[-1]}", share, group / "cgroup.procs")
        finally:
            _remove(group)
        return
    yield by_turns(share)


def by_turns(share: float = SHARE) -> Quota:
    """The one that needs no permission."""
    return Quota("SIGSTOP and SIGCONT by turns", share)


def _set(file: Path, value: str) -> None:
    # Opened for update: where the folder is none of the kernel's, it must fail and not make a file.
    with file.open("r+") as setting:
        setting.write(value)


def _remove(folder: Path) -> None:
    for _ in range(1000):
        if not folder.exists():
            return
        with contextlib.suppress(OSError):  # a process is on its way out
            folder.rmdir()
        time.sleep(0.01)


def _by_turns(pid: int, share: float, over: threading.Event) -> None:
    runs, waits = PERIOD_US * share / 1e6, PERIOD_US * (1 - share) / 1e6
    with contextlib.suppress(ProcessLookupError):
        while not over.is_set():
            os.kill(pid, signal.SIGCONT)
            time.sleep(runs)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(waits)
        os.kill(pid, signal.SIGCONT)
