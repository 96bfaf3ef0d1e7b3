"""Run an unpacked container image in namespaces of its own, without a container engine.

    with Container(root, config, log=Path("run.log")) as container:
        print(container.processes(), container.output)

Needs root on Linux, as :mod:`tools.buildah` does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tools.buildah import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from tools.buildah import ImageConfig

__all__ = ["Container", "Process"]

# Run in namespaces of its own, so that its mounts end with it. As on Lambda, /tmp alone can be
# written to. unshare changes the root, then the folder, then the user, and becomes the command.
_START: Final = """
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
root=$1 workdir=$2 uid=$3 gid=$4
shift 4
exec unshare --root="$root" --wd="$workdir" --setgid="$gid" --setuid="$uid" -- "$@"
"""


class Container:
    """A command in an image's files: its own processes and mounts, as unprivileged as it says.

    Ends on exit with all that it started. The network is the machine's.

    Args:
        root: The image's files; mounted read-only for it, but for /tmp, as on Lambda.
        config: How the image wants to be run.
        log: The file that takes its output.
        command: Takes the place of entrypoint and command together.
        environment: Set on top of the image's.
    """

    def __init__(
        self,
        root: Path,
        config: ImageConfig,
        *,
        log: Path,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [*NAMESPACES, "--kill-child", "--", "/bin/sh", "-euc", _START, "container"]
        self._command += [str(root), config.working_directory, *map(str, config.user)]
        self._command += command or (*config.entrypoint, *config.command)
        self._environment = {**config.environment, **(environment or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace: Path | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # A file, not a pipe: nobody has to read it for the container to go on. A session, so that
        # Ctrl-C reaches this process alone, which then ends the container in its own order.
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The kernel ends a namespace's processes with its first one, and unshare ends after that:
        # then the files are free again too. Its own --kill-child is of use only up to the change of
        # user, which takes the signal for the parent's death from a process.
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if self.wait(timeout=5) is None:
            self._started.kill()
            self._started.wait()

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the container has not been started; use it as a context manager")
        return self._process

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float) -> int | None:
        """Return its exit status, or None if it still runs after that many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._started.wait(timeout)
        return None

    def terminate(self) -> None:
        """Send SIGTERM to its first process, as ``docker stop`` does."""
        for process in self.processes():
            if process.is_first:
                os.kill(process.pid, signal.SIGTERM)

    def processes(self) -> list[Process]:
        """Return the processes that are in it now, the first one first."""
        with contextlib.suppress(OSError):
            # Of unshare, which itself stays outside. Before it has made one, it is this one's.
            own = Path("/proc/self/ns/pid").readlink()
            inside = Path(f"/proc/{self._started.pid}/ns/pid_for_children").readlink()
            if inside != own:
                self._namespace = inside
        entries = Path("/proc").iterdir()
        found = (Process.read(int(each.name)) for each in entries if each.name.isdigit())
        mine = [each for each in found if each is not None and each.namespace == self._namespace]
        return sorted(mine, key=lambda each: not each.is_first)


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a container, as the machine sees it."""

    pid: int
    namespace: Path
    is_first: bool
    """Whether it is process 1 in there."""
    uid: int
    command: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def read(cls, pid: int) -> Self | None:
        """Read a process's facts; None if it has ended or is only waited for."""
        folder = Path("/proc", str(pid))
        try:
            namespace = (folder / "ns" / "pid").readlink()
            lines = (folder / "status").read_text(encoding="utf-8").splitlines()
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return None
        status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        return cls(
            pid=pid,
            namespace=namespace,
            is_first=status["NSpid"][-1] == "1",
            uid=int(status["Uid"][0]),
            command=tuple(command[:-1]),
            environment=dict(item.partition("=")[::2] for item in environment if "=" in item),
        )
