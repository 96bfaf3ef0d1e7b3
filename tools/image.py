"""Build the container image and run it for real, with podman and a storage of its own.

    python3 dev.py image --base both

No public image is pulled. A plain base is made of Debian's packages, and the layout of AWS's Python
base on top of it; the project's Dockerfile is built on both. Each image is then run as it says it
wants to be run (entrypoint, command, user), read-only as on Lambda, with AWS's emulator in it:

* started by nobody, as with `docker run`: the entrypoint has to start the emulator;
* started by the emulator, as Lambda starts it: the entrypoint has to start the runtime.

On AWS's layout also by AWS's own entrypoint, with the user's handler as its command and our
exec-wrapper in AWS_LAMBDA_EXEC_WRAPPER.

Each time a call that ends in time, one that does not, and one after it in the same process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from tools import ending
from tools.emulator import EmulatorUnavailable, fetch_emulator
from watchdog_lambda.cli.emulator import _free_ports

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterator, Mapping, Sequence

BASES: Final = ("plain", "aws")
STARTS: Final = ("docker run", "Lambda")
WRAPPED: Final = "Lambda with exec-wrapper"
ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".cache" / "image"
LOGS: Final = CACHE / "logs"

# vfs copies instead of layering: slower and larger, but it asks nothing of the file system. The
# user's own images are neither used nor touched.
_PODMAN: Final = (
    *("podman", "--log-level=error", "--runtime=runc", "--cgroup-manager=cgroupfs"),
    *("--storage-driver=vfs", f"--root={CACHE / 'podman'}", f"--runroot={CACHE / 'run'}"),
)
# A build reaches the package index the way that this machine does.
_SHARED_WITH_BUILDS: Final = ("/etc/ssl/certs", "/etc/pip.conf")

_AWS_BASE: Final = ROOT / "tests" / "image" / "aws_base"
_SUITE: Final = "trixie"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_ARCHIVE: Final = CACHE / f"{_SUITE}.tar"
_TIMEOUT: Final = 2
"""Seconds; the emulator takes whole ones, and 1 would leave no room for the init."""

_REPORT: Final = "watchdog.timeout"
_RIE: Final = "/usr/local/bin/aws-lambda-rie"


class StepFailed(RuntimeError):
    """A command of a build failed; the message ends with the last lines that it wrote."""


class Check(NamedTuple):
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"  {'ok  ' if self.passed else 'FAIL'} {self.text}"


def unavailable() -> str | None:
    """Return why this machine can't do all this, or None if it can."""
    if os.geteuid() != 0:
        return "needs root; run it with sudo or in a container"
    tools = ["podman", "runc", *([] if _ARCHIVE.exists() else ["debootstrap"])]
    if absent := [tool for tool in tools if shutil.which(tool) is None]:
        return f"needs {', '.join(absent)} (on Debian: apt-get install {' '.join(absent)})"
    try:
        _podman("info")
        fetch_emulator()
    except (StepFailed, EmulatorUnavailable) as error:
        return str(error)
    return None


# ---- building ----------------------------------------------------------------------------------


def build(base: str) -> str:
    """Build the project's image on a base, which is made first where need be; return its name.

    Raises:
        StepFailed: Something could not be built; the message has its last output.
    """
    with _alone():
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


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for another process that builds: its clearing up would take this one's images."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _plain_base() -> str:
    image = "localhost/watchdog-lambda-base:plain"
    if not _has(image):
        if not _ARCHIVE.exists():
            _debootstrap()
        _podman("import", "--quiet", str(_ARCHIVE), image)
    return image


def _debootstrap() -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        root, partial = Path(scratch, "root"), Path(scratch, "base.tar")
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)]
        _run_logged(f"making a plain base of Debian {_SUITE}", command, "debootstrap")
        # What was downloaded on the way, and devices, which images have none of.
        left_out = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./dev/*")
        command = ["tar", "--create", "--numeric-owner", "--file", str(partial)]
        command += [f"--exclude={each}" for each in left_out]
        _run_logged("packing it", [*command, "--directory", str(root), "."], "tar")
        partial.replace(_ARCHIVE)


def _build(image: str, context: Path, base: str) -> None:
    command = [*_PODMAN, "build", "--isolation=chroot", "--pull=never", "--layers=false"]
    # It asks for higher limits than a machine may allow.
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        soft, hard = resource.getrlimit(limit)
        command.append(f"--ulimit={name}={soft}:{hard}")
    shared = [path for path in _SHARED_WITH_BUILDS if Path(path).exists()]
    command += [f"--volume={path}:{path}:ro" for path in shared]
    command += [f"--build-arg=BASE_IMAGE={base}", f"--tag={image}", str(context)]
    _run_logged(f"building {image}", command, f"build-{image.rpartition(':')[2]}")
    # The image that had this name before is without one now.
    _podman("image", "prune", "--force")


def _has(image: str) -> bool:
    return bool(_podman("images", "--quiet", "--filter", f"reference={image}").strip())


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


def _podman(*arguments: str) -> str:
    done = subprocess.run([*_PODMAN, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"podman {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


# ---- running -----------------------------------------------------------------------------------


class Process(NamedTuple):
    """One process of a container, as the machine sees it."""

    pid: int
    uid: int
    command: list[str]
    environment: list[str]

    @classmethod
    def read(cls, pid: int) -> Self:
        folder = Path("/proc", str(pid))
        command, environment = ((folder / f).read_bytes() for f in ("cmdline", "environ"))
        texts = [data.decode(errors="replace").split("\0")[:-1] for data in (command, environment)]
        return cls(pid, folder.stat().st_uid, *texts)


class Container:
    """An image that runs read-only but for /tmp, as on Lambda; the network is the machine's.

    Ends on exit with all that it started.

    Args:
        log: The file that takes its output.
        entrypoint: Takes the place of the image's.
        environment: Set on top of the image's.
        files: What lies in it in addition to the image's own files, by the path in there.
    """

    def __init__(
        self,
        image: str,
        *,
        log: Path,
        entrypoint: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        self._name = f"watchdog-lambda-{uuid.uuid4().hex[:12]}"
        self._log = log
        self._command = [*_PODMAN, "run", f"--name={self._name}", "--rm", "--network=host"]
        self._command += ["--read-only", "--tmpfs=/tmp:mode=1777"]
        self._command += ["--security-opt=seccomp=unconfined"]
        self._command += [f"--env={k}={v}" for k, v in (environment or {}).items()]
        self._command += [f"--volume={file}:{path}:ro" for path, file in (files or {}).items()]
        command: Sequence[str] = ()
        if entrypoint:
            self._command.append(f"--entrypoint={json.dumps(list(entrypoint))}")
            command = config_of(image)["Cmd"]  # another entrypoint drops it
        self._command += [image, *command]

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # A file, not a pipe: nobody has to read it for the container to go on. A session, so that
        # Ctrl-C reaches this process alone, which then ends the container in its own order.
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
        _podman("rm", "--force", "--ignore", "--time=0", self._name)
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
        _podman("kill", "--signal=TERM", self._name)

    def processes(self) -> list[Process]:
        """Return the processes that are in it now, the first one first."""
        first = int(_podman("inspect", "--format={{.State.Pid}}", self._name))
        return [Process.read(pid) for pid in _descendants(first)]


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # of each of its threads
        for child in children.read_text().split():
            yield from _descendants(int(child))


def config_of(image: str) -> dict[str, Any]:
    """How an image wants to be run."""
    [report] = json.loads(_podman("image", "inspect", image))
    config: dict[str, Any] = report["Config"]
    return config


# ---- looking -----------------------------------------------------------------------------------


def verify(image: str, base: str) -> Generator[Check]:
    """Run an image in every way there is, and say what was seen."""
    config = config_of(image)
    root = Path(_podman("image", "mount", image).strip())
    try:
        yield from _contents(root / config["WorkingDir"].lstrip("/"), root)
    finally:
        _podman("image", "unmount", image)
    if base == "plain":  # AWS's base has an emulator of its own
        with Container(image, log=LOGS / "refusal.log") as container:
            status = container.wait(timeout=20)
            told = "there is no emulator" in container.output
        yield Check(status == 2 and told, f"without an emulator: exit status {status}, says why")
    for start in (*STARTS, WRAPPED) if base == "aws" else STARTS:
        yield from _invocations(image, config, base, start)


def _contents(task: Path, root: Path) -> Iterator[Check]:
    size = sum(path.lstat().st_size for path in task.rglob("*") if path.is_file())
    yield Check(size < 20e6, f"the task root has {size / 1e6:.1f} MB")
    # The tools of the first stage, and what would shadow the base's own runtime.
    unwanted = ["build", "root/.cache", "usr/bin/gcc"]
    unwanted += [f"var/task/{name}" for name in ("pip", "hatchling", "bin")]
    if (root / "var/runtime/awslambdaric").exists():
        unwanted.append("var/task/awslambdaric")
    found = [name for name in unwanted if (root / name).exists()]
    yield Check(not found, f"nothing is left of the build ({', '.join(found) or 'looked for all'})")
    closed = [path for path in task.rglob("*") if not path.stat().st_mode & 0o004]
    yield Check(not closed, f"every user can read it ({len(closed)} files are closed)")


def _invocations(image: str, config: dict[str, Any], base: str, start: str) -> Iterator[Check]:
    entrypoint, environment = [], {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(_TIMEOUT)}
    if start == "Lambda":
        entrypoint = [_RIE, *config["Entrypoint"]]
    elif start == WRAPPED:
        entrypoint = [_RIE, "/lambda-entrypoint.sh"]
        environment["AWS_LAMBDA_EXEC_WRAPPER"] = "/watchdog-lambda-exec-wrapper"
    log = LOGS / f"{base}-{start.replace(' ', '-')}.log"
    print(f"{base} base, started as by {start}:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        port, rie = _emulator_in(Path(folder))
        files = {_RIE: rie, f"{_RIE}.real": fetch_emulator()}
        with Container(
            image, log=log, entrypoint=entrypoint, environment=environment, files=files
        ) as container:
            try:
                yield from _calls(container, port)
                yield from _process(container, config, base)
                yield from _end(container)
            except (OSError, http.client.HTTPException, ValueError) as error:
                yield Check(passed=False, text=f"{error!r}; its output:\n{container.output}")


def _emulator_in(folder: Path) -> tuple[int, Path]:
    """The port that the emulator will listen on, and a script that has it do so."""
    port, runtime_port = _free_ports(2)
    rie = folder / "aws-lambda-rie"
    # The network is the machine's, where 8080 may be taken, and who starts the emulator in there
    # gives it no ports.
    rie.write_text(
        f'#!/bin/sh\nexec "$0.real" --runtime-interface-emulator-address 127.0.0.1:{port} '
        f'--runtime-api-address 127.0.0.1:{runtime_port} "$@"\n',
        encoding="utf-8",
    )
    rie.chmod(0o755)
    folder.chmod(0o755)
    return port, rie


def _calls(container: Container, port: int) -> Iterator[Check]:
    _wait_until_listening(container, port)
    cold, seconds = _invoke(port, {})
    yield Check(cold.get("call") == 1, f"first call: {cold} after {seconds:.2f} s, init included")
    late, seconds = _invoke(port, {"sleep": 30})
    in_time = 1.0 < seconds < _TIMEOUT
    yield Check(
        in_time and late.get("statusCode") == 504 and late.get("call") == 2,
        f"a call of 30 s: the handler's own {late} after {seconds:.2f} s of {_TIMEOUT}",
    )
    warm, seconds = _invoke(port, {})
    same = warm.get("call") == 3 and warm.get("pid") == cold.get("pid")
    yield Check(same, f"next call: {warm} after {seconds * 1000:.0f} ms, in the same process")
    for _ in range(100):  # what it writes comes to the file by way of podman
        if (cleanups := container.output.count("finally: ")) >= 3:
            break
        time.sleep(0.02)
    yield Check(cleanups == 3, f"the handler's `finally` ran {cleanups} times, in 3 calls")
    lines = (line for line in container.output.splitlines() if line.startswith("{"))
    reports = [record for record in map(json.loads, lines) if record.get("event") == _REPORT]
    yield Check(
        len(reports) == 1 and "app.py" in str(reports[0].get("location")),
        f"reports in the log: {[report.get('location') for report in reports]}, for one timeout",
    )


def _wait_until_listening(container: Container, port: int) -> None:
    for _ in range(400):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if (status := container.wait(timeout=0.05)) is not None:
            raise ConnectionError(f"it ended with exit status {status}")
    raise ConnectionError("the emulator did not listen within 20 s")


def _invoke(port: int, event: object) -> tuple[dict[str, object], float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT + 10)
    start = time.monotonic()
    with contextlib.closing(connection):
        connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
        text = connection.getresponse().read().decode()
    answer = json.loads(text) if text.startswith("{") else {"errorMessage": text}
    return answer, time.monotonic() - start


def _process(container: Container, config: dict[str, Any], base: str) -> Iterator[Check]:
    processes = container.processes()
    users = {each.uid for each in processes}
    wanted = int(str(config["User"]).partition(":")[0])
    yield Check(users == {wanted} and 0 not in users, f"it runs as user {users}, not root")
    # No shell: every start on the way was an exec.
    names = [Path(each.command[0]).name for each in processes]
    yield Check(
        len(names) == 2 and "aws-lambda-rie" in names[0] and "python" in names[1],
        f"its processes, first to last: {', '.join(names)}",
    )
    if base == "aws":
        runtime = [v for v in processes[-1].environment if v.startswith("AWS_EXECUTION_ENV=")]
        yield Check(bool(runtime), f"AWS's start was gone through ({runtime})")


def _end(container: Container) -> Iterator[Check]:
    start = time.monotonic()
    container.terminate()
    status = container.wait(timeout=10)
    seconds = time.monotonic() - start
    yield Check(status is not None, f"SIGTERM ended it after {seconds:.2f} s, exit status {status}")


def main() -> int:
    options = _parse()
    reason = unavailable()
    if reason is not None:
        print(f"SKIPPED: the image was not built or run: {reason}")
        return ending.SKIPPED
    failures = 0
    for base in BASES if options.base == "both" else (options.base,):
        image = build(base)
        # Closed here, not when it is collected: an interrupt may come while it waits for us.
        with contextlib.closing(verify(image, base)) as checks:
            for check in checks:
                print(check, flush=True)
                failures += not check.passed
    print(f"{failures} FAILED; logs are in {LOGS}" if failures else "all passed")
    return min(failures, 1)


def _parse() -> argparse.Namespace:
    parser = ending.parser(
        "dev.py image",
        __doc__,
        f"Exit status: 0 passed, 1 something failed, {ending.SKIPPED} it cannot run here.\n"
        f"Files and logs are in {CACHE.relative_to(ROOT)}; removing the folder starts anew.",
    )
    about = "plain: Debian's python3. aws: the layout of AWS's Python images. (default: both)"
    parser.add_argument("--base", choices=(*BASES, "both"), default="both", help=about)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        ending.run(main, "interrupted; nothing is left running")
    except StepFailed as error:
        sys.exit(f"FAILED: {error}")
