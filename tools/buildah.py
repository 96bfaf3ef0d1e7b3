"""Container images without a container engine: buildah, with a storage of its own.

    store = Store(Path(".cache/image"))
    with store.locked():
        store.build("localhost/function", context, arguments={"BASE_IMAGE": base})
        with store.unpacked("localhost/function") as root:
            print(store.config("localhost/function").entrypoint, list(root.iterdir()))

All that is stored lies in the store's folder: the user's own images are neither used nor touched.
Needs root on Linux, for chroot, mounts and namespaces; ``missing()`` says what a machine lacks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["NAMESPACES", "ImageConfig", "StepFailed", "Store", "missing", "run_logged"]

NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork")
"""The start of a command whose processes and mounts end together."""

_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A build reaches the package index the way that this machine does.
_SHARED_WITH_BUILDS: Final = ("/etc/ssl/certs", "/etc/pip.conf")


class StepFailed(RuntimeError):
    """A command of a build failed; the message ends with the last lines that it wrote."""


def missing() -> str | None:
    """Return what this machine lacks for all this, or None if nothing."""
    if sys.platform != "linux":
        return f"needs Linux, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "needs root (for chroot, mounts and namespaces); run it with sudo or in a container"
    absent = [tool for tool in ("buildah", "unshare", "tar") if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}; install it (on Debian: apt-get install {absent[0]})"
    probe = subprocess.run(
        [*NAMESPACES, "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        return f"needs namespaces and mounts, which are refused here: {probe.stderr.strip()}"
    return None


def run_logged(what: str, command: Sequence[str], log: Path) -> None:
    """Run a command that takes long: its output in a file, a line of progress now and then.

    However it ends, nothing that it started or mounted is left.

    Raises:
        StepFailed: It ended with an error.
    """
    print(f"{what} (output in {log})", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*NAMESPACES, "--kill-child", "--mount-proc", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
                break
            last = (_tail(log, 1) or [""])[0][:80]
            print(f"  {time.monotonic() - start:4.0f} s  {last}", flush=True)
    finally:
        # Interrupted: the kernel ends the namespaces with the first process in them.
        process.kill()
        status = process.wait()
    if status != 0:
        lines = "\n".join(_tail(log, 30))
        raise StepFailed(f"{what}: exit status {status} of {' '.join(command)}\n{lines}")
    print(f"  done after {time.monotonic() - start:.1f} s", flush=True)


def _tail(log: Path, count: int) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip()][-count:]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how it wants to be run."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str
    user: tuple[int, int]

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> Self:
        """Read the ``config`` part of an OCI image's configuration."""

        def strings(key: str) -> tuple[str, ...]:
            value = config.get(key) or []
            if not isinstance(value, list):
                raise TypeError(f"{key}={value!r} is not a list")
            return tuple(str(item) for item in value)

        uid, _, gid = str(config.get("User") or "0").partition(":")
        return cls(
            entrypoint=strings("Entrypoint"),
            command=strings("Cmd"),
            environment={"PATH": _DEFAULT_PATH}
            | {name: value for name, _, value in (item.partition("=") for item in strings("Env"))},
            working_directory=str(config.get("WorkingDir") or "/"),
            # By name would mean to read the image's /etc/passwd.
            user=(int(uid), int(gid or uid)),
        )


class Store:
    """A buildah storage of its own.

    Args:
        folder: Where it lies; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        # vfs copies instead of layering: slower and larger, but it asks nothing of the file system.
        self._buildah = ["buildah", "--storage-driver", "vfs"]
        self._buildah += ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out: they would remove each other's working containers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that uses {self.folder}", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            # What an interrupted run left behind.
            self._run("rm", "--all")
            yield

    def has(self, image: str) -> bool:
        """Whether an image of this name is here."""
        return bool(self._run("images", "--quiet", "--filter", f"reference={image}").strip())

    def import_archive(self, image: str, archive: Path) -> None:
        """Make an image of one layer, from scratch, out of a tar archive of its files."""
        container = self._run("from", "scratch").strip()
        run_logged(
            f"making {image} of {archive.name}",
            [*self._buildah, "add", "--quiet", container, str(archive), "/"],
            self.logs / "import.log",
        )
        self._run("commit", "--rm", "--quiet", container, image)

    def build(self, image: str, context: Path, *, arguments: Mapping[str, str]) -> None:
        """Build the Dockerfile of a folder.

        Raises:
            StepFailed: The build failed.
        """
        command = [*self._buildah, "build", "--isolation", "chroot", "--pull=never"]
        # buildah asks for higher limits than a machine may allow.
        for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
            soft, hard = resource.getrlimit(limit)
            command += ["--ulimit", f"{name}={soft}:{hard}"]
        for path in _SHARED_WITH_BUILDS:
            if Path(path).exists():
                command += ["--volume", f"{path}:{path}:ro"]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        command += ["--tag", image, str(context)]
        log = self.logs / f"build-{image.rpartition('/')[2].replace(':', '-')}.log"
        run_logged(f"building {image}", command, log)
        # The image that had this name before is without one now.
        self._run("rmi", "--prune", "--force")

    def clear(self) -> None:
        """Remove all images."""
        self._run("rmi", "--all", "--force")

    def config(self, image: str) -> ImageConfig:
        """Return how an image wants to be run."""
        report = json.loads(self._run("inspect", "--type", "image", image))
        return ImageConfig.parse(report["OCIv1"]["config"])

    def size(self, image: str) -> int:
        """Return the size of an image in bytes, its base included, as it is stored."""
        layers = json.loads(json.loads(self._run("inspect", "--type", "image", image))["Manifest"])
        return sum(int(layer["size"]) for layer in layers["layers"])

    @contextlib.contextmanager
    def unpacked(self, image: str) -> Iterator[Path]:
        """Give the root folder of a copy of an image, for as long as the block lasts."""
        container = self._run("from", "--pull=never", image).strip()
        try:
            yield Path(self._run("mount", container).strip())
        finally:
            self._run("rm", container)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._buildah, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise StepFailed(f"buildah {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout
