"""A share of a processor, as Lambda gives it to a function by its memory.

128 MB are 7 % of a core, in periods of 20 ms. The kernel enforces it, by cgroup v2 or v1, where
this process may make a group, which mostly takes root.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PERIOD_US: Final = 20_000
SHARE: Final = 0.0725
"""Of a core; 128 MB of the 1,769 that come with a whole one."""
NO_QUOTA: Final = "the kernel sets no quota here; it needs root"


class Quota(NamedTuple):
    means: str
    """What enforces it, for the page."""
    members: Path
    """The file by which a process joins."""

    @property
    def launch(self) -> tuple[str, ...]:
        """What a command is started by, so that it is under it from its first instruction."""
        # By a shell, which becomes the process: no instruction of it is outside.
        return "/bin/sh", "-c", f'echo $$ > {self.members} && exec "$@"', "sh"


@contextlib.contextmanager
def quota(share: float = SHARE, period_us: int = PERIOD_US) -> Iterator[Quota | None]:
    """Make one for the block; its processes must have ended by then. None if that is impossible."""
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
            yield Quota(f"{means}, {list(settings)[-1]}", group / "cgroup.procs")
        finally:
            _remove(group)
        return
    yield None


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
