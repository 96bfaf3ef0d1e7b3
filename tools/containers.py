"""Builds images with podman on bases that are made here, and runs containers as Lambda does."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from tools import ROOT, descendants
from tools.emulator import EmulatorUnavailable, fetch_emulator

BASES: Final = ("plain", "aws")
CACHE: Final = ROOT / ".cache" / "image"
LOGS: Final = CACHE / "logs"

# vfs copies instead of layering: slower and larger, but it needs nothing of the file system. The
# user's own images are neither used nor touched.
PODMAN: Final = (
    *("podman", "--log-level=error", "--runtime=runc", "--cgroup-manager=cgroupfs"),
    *("--storage-driver=vfs", f"--root={CACHE / 'podman'}", f"--runroot={CACHE / 'run'}"),
)
# A build reaches the package index the way that this machine does.
_SHARED_WITH_BUILDS: Final = ("/etc/ssl/certs", "/etc/pip.conf")

_AWS_BASE: Final = ROOT / "tests" / "image" / "aws_base"
_SUITE: Final = "trixie"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_ARCHIVE: Final = CACHE / f"{_SUITE}.tar"


class StepFailed(RuntimeError):
    """A command of a build failed; the message ends with the last lines that it wrote."""


def unavailable() -> str | None:
    """Return why this machine can't do all this, or None if it can."""
    if os.geteuid() != 0:
        return "needs root; run it with sudo or in a container"
    tools = ["podman", "runc", *([] if _ARCHIVE.exists() else ["mmdebstrap"])]
    if absent := [tool for tool in tools if shutil.which(tool) is None]:
        return f"needs {', '.join(absent)} (on Debian: apt-get install {' '.join(absent)})"
    try:
        podman("info")
        fetch_emulator()
    except (StepFailed, EmulatorUnavailable) as error:
        return str(error)
    return None


def build(base: str) -> str:
    """Build the project's image on a base, which is made first where need be; return its name."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        # Another process that builds would, when it clears up, take this one's images.
        fcntl.flock(lock, fcntl.LOCK_EX)
        base_image = _plain_base()
        if base == "aws":
            # Named after what it is made of, so that a change there makes a new one.
            parts = sorted(path for path in _AWS_BASE.iterdir() if path.is_file())
            made_of = hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()[:12]
            aws_base = f"localhost/watchdog-lambda-base:aws-{made_of}"
            if not _has(aws_base):
                _build(aws_base, _AWS_BASE, base_image)
            base_image = aws_base
        image = f"localhost/watchdog-lambda:{base}"
        # APP is left to the Dockerfile: the default there is what most people will see first.
        _build(image, ROOT, base_image)
        return image


def _plain_base() -> str:
    image = "localhost/watchdog-lambda-base:plain"
    if not _has(image):
        if not _ARCHIVE.exists():
            _make_archive()
        podman("import", "--quiet", str(_ARCHIVE), image)
    return image


def _make_archive() -> None:
    partial = _ARCHIVE.with_suffix(".partial.tar")
    command = ["mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(partial)]
    # Images have no devices.
    command += ["--skip=output/dev", "--quiet"]
    _run_logged(f"making a plain base of Debian {_SUITE}", command, "mmdebstrap")
    partial.replace(_ARCHIVE)


def _build(image: str, context: Path, base: str) -> None:
    command = [*PODMAN, "build", "--isolation=chroot", "--pull=never", "--layers=false"]
    # The build would set higher limits than a machine may allow.
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        soft, hard = resource.getrlimit(limit)
        command.append(f"--ulimit={name}={soft}:{hard}")
    shared = [path for path in _SHARED_WITH_BUILDS if Path(path).exists()]
    command += [f"--volume={path}:{path}:ro" for path in shared]
    command += [f"--build-arg=BASE_IMAGE={base}", f"--tag={image}", str(context)]
    _run_logged(f"building {image}", command, f"build-{image.rpartition(':')[2]}")
    # The image that had this name before is without one now.
    podman("image", "prune", "--force")


def _has(image: str) -> bool:
    return bool(podman("images", "--quiet", "--filter", f"reference={image}").strip())


def _run_logged(what: str, command: Sequence[str], name: str) -> None:
    log = LOGS / f"{name}.log"
    print(f"{what} (output in {log})", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        ).returncode
    if status:
        lines = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise StepFailed(f"{what}: exit status {status} of {' '.join(command)}\n{lines}")


def podman(*arguments: str) -> str:
    done = subprocess.run([*PODMAN, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Container:
    """An image that runs read-only but for /tmp, as on Lambda; the network is the machine's.

    Its output goes to the file `log`. Ends on exit with all that it started.
    """

    def __init__(
        self, image: str, log: Path, *options: str, entrypoint: Sequence[str] = ()
    ) -> None:
        self._name = f"watchdog-lambda-{uuid.uuid4().hex[:12]}"
        self._log = log
        self._command = [*PODMAN, "run", f"--name={self._name}", "--rm", "--network=host"]
        self._command += ["--read-only", "--tmpfs=/tmp:mode=1777"]
        self._command += ["--security-opt=seccomp=unconfined", *options]
        if entrypoint:  # another one drops the image's command
            self._command.append(f"--entrypoint={json.dumps(list(entrypoint))}")
        self._command += [image, *(config_of(image)["Cmd"] if entrypoint else ())]

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # A file, not a pipe, which would have to be read. A session, so that Ctrl-C reaches this
        # process alone, which then ends the container.
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_error: object) -> None:
        podman("rm", "--force", "--ignore", "--time=0", self._name)
        self._process.wait(10)

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float) -> int | None:
        """Return its exit status, or None if it still runs after that many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def terminate(self) -> None:
        """Send SIGTERM to its first process, as ``docker stop`` does."""
        podman("kill", "--signal=TERM", self._name)

    def processes(self) -> list[Path]:
        """The folders in /proc of the processes that are in it now, the first one first."""
        first = int(podman("inspect", "--format={{.State.Pid}}", self._name))
        return [Path(f"/proc/{pid}") for pid in descendants(first)]


def config_of(image: str) -> dict[str, Any]:
    """The configuration of an image: how it is to be run."""
    [report] = json.loads(podman("image", "inspect", image))
    config: dict[str, Any] = report["Config"]
    return config
