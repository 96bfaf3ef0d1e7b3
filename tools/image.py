"""Build the container image and run it for real, on a machine without a container engine.

    python tools/image.py --base both

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

import argparse
import contextlib
import hashlib
import http.client
import json
import shutil
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # started as a script, Python looks in tools/ only

from tools.buildah import StepFailed, Store, missing, run_logged  # noqa: E402
from tools.container import Container  # noqa: E402
from tools.emulator import EmulatorUnavailable, fetch_emulator  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tools.buildah import ImageConfig

BASES: Final = ("plain", "aws")
STARTS: Final = ("docker run", "Lambda")
WRAPPED: Final = "Lambda with exec-wrapper"
CACHE: Final = ROOT / ".cache" / "image"
SKIPPED: Final = 77
"""The exit status for "cannot run here", as automake and others have it."""

_AWS_BASE: Final = ROOT / "tests" / "image" / "aws_base"
_SUITE: Final = "trixie"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_ARCHIVE: Final = f"{_SUITE}.tar"
_TIMEOUT: Final = (
    2  # seconds; the emulator takes whole ones, and 1 would not leave room for the init
)
_REPORT: Final = "watchdog.timeout"
_RIE: Final = "usr/local/bin/aws-lambda-rie"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and what was seen."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return f"  {'ok  ' if self.passed else 'FAIL'} {self.text}"


def unavailable() -> str | None:
    """Return why this machine can't do all this, or None if it can."""
    if (reason := missing()) is not None:
        return reason
    if not (CACHE / _ARCHIVE).exists() and shutil.which("debootstrap") is None:
        return "needs debootstrap to make a base image (on Debian: apt-get install debootstrap)"
    try:
        fetch_emulator()
    except EmulatorUnavailable as error:
        return str(error)
    return None


def build(store: Store, base: str) -> str:
    """Build the project's image on a base, which is made first where need be; return its name.

    Raises:
        StepFailed: Something could not be built; the message has its last output.
    """
    base_image = _plain_base(store)
    if base == "aws":
        base_image = _aws_base(store, base_image)
    image = f"localhost/watchdog-lambda:{base}"
    # APP is left to the Dockerfile: the default there is what most people will see first.
    store.build(image, ROOT, arguments={"BASE_IMAGE": base_image})
    return image


def verify(store: Store, image: str, base: str) -> Generator[Check]:
    """Run an image in every way there is, and say what was seen."""
    config = store.config(image)
    with store.unpacked(image) as root:
        yield from _contents(root, config)
        if base == "plain":  # AWS's base has an emulator of its own
            yield from _refusal(root, config, store.logs / f"{base}-refusal.log")
        for start in (*STARTS, WRAPPED) if base == "aws" else STARTS:
            yield from _invocations(root, config, store.logs, base, start)


def _plain_base(store: Store) -> str:
    image = "localhost/watchdog-lambda-base:plain"
    if not store.has(image):
        archive = store.folder / _ARCHIVE
        if not archive.exists():
            _debootstrap(archive, store.logs)
        store.import_archive(image, archive)
    return image


def _aws_base(store: Store, plain: str) -> str:
    # Named after what it is made of, so that a change there makes a new one.
    contents = b"".join(path.read_bytes() for path in sorted(_AWS_BASE.iterdir()) if path.is_file())
    image = f"localhost/watchdog-lambda-base:aws-{hashlib.sha256(contents).hexdigest()[:12]}"
    if not store.has(image):
        store.build(image, _AWS_BASE, arguments={"BASE_IMAGE": plain})
    return image


def _debootstrap(archive: Path, logs: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        root, partial = Path(scratch, "root"), Path(scratch, "base.tar")
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(root)]
        run_logged(f"making a plain base of Debian {_SUITE}", command, logs / "debootstrap.log")
        # What was downloaded on the way, and devices, which images have none of.
        left_out = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./dev/*")
        command = ["tar", "--create", "--numeric-owner", "--file", str(partial)]
        command += [f"--exclude={each}" for each in left_out]
        run_logged("packing it", [*command, "--directory", str(root), "."], logs / "tar.log")
        partial.replace(archive)


def _contents(root: Path, config: ImageConfig) -> Iterator[Check]:
    task = root / config.working_directory.lstrip("/")
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


def _refusal(root: Path, config: ImageConfig, log: Path) -> Iterator[Check]:
    with Container(root, config, log=log) as container:
        status = container.wait(timeout=10)
        told = "there is no emulator" in container.output
        yield Check(status == 2 and told, f"without an emulator: exit status {status}, says why")


def _invocations(
    root: Path, config: ImageConfig, logs: Path, base: str, start: str
) -> Iterator[Check]:
    port = _install_emulator(root)
    command = (*config.entrypoint, *config.command)
    environment = {"AWS_LAMBDA_FUNCTION_TIMEOUT": str(_TIMEOUT)}
    if start == WRAPPED:
        command = ("/lambda-entrypoint.sh", *config.command)
        environment["AWS_LAMBDA_EXEC_WRAPPER"] = "/watchdog-lambda-exec-wrapper"
    if start != "docker run":
        command = (f"/{_RIE}", *command)
    log = logs / f"{base}-{start.replace(' ', '-')}.log"
    print(f"{base} base, started as by {start}:", flush=True)
    with Container(root, config, log=log, command=command, environment=environment) as container:
        try:
            yield from _calls(container, port)
            yield from _process(container, config, base)
            yield from _end(container)
        except (OSError, http.client.HTTPException, ValueError) as error:
            yield Check(passed=False, text=f"{error!r}; its output:\n{container.output}")


def _install_emulator(root: Path) -> int:
    """Put the emulator into an unpacked image; return the port that it will listen on."""
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        port, runtime_port = (int(each.getsockname()[1]) for each in taken)
    rie = root / _RIE
    shutil.copy(fetch_emulator(), f"{rie}.real")
    # The network is the machine's, where 8080 may be taken, and who starts the emulator in there
    # gives it no ports.
    rie.write_text(
        f'#!/bin/sh\nexec "$0.real" --runtime-interface-emulator-address 127.0.0.1:{port} '
        f'--runtime-api-address 127.0.0.1:{runtime_port} "$@"\n',
        encoding="utf-8",
    )
    rie.chmod(0o755)
    return port


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
    cleanups = container.output.count("finally: ")
    yield Check(cleanups == 3, f"the handler's `finally` ran {cleanups} times, in 3 calls")
    reports = _reports(container.output)
    yield Check(
        len(reports) == 1 and "app.py" in str(reports[0].get("location")),
        f"reports in the log: {[report.get('location') for report in reports]}, for one timeout",
    )


def _reports(output: str) -> list[dict[str, object]]:
    lines = (line for line in output.splitlines() if line.startswith("{"))
    return [record for record in map(json.loads, lines) if record.get("event") == _REPORT]


def _wait_until_listening(container: Container, port: int) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if (status := container.wait(timeout=0.05)) is not None:
            raise ConnectionError(f"it ended with exit status {status}")
    raise ConnectionError("the emulator did not listen within 10 s")


def _invoke(port: int, event: object) -> tuple[dict[str, object], float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT + 10)
    start = time.monotonic()
    try:
        connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    seconds = time.monotonic() - start
    answer = json.loads(text) if text.startswith("{") else {"errorMessage": text}
    return answer, seconds


def _process(container: Container, config: ImageConfig, base: str) -> Iterator[Check]:
    processes = container.processes()
    users = {each.uid for each in processes}
    yield Check(users == {config.user[0]} and 0 not in users, f"it runs as user {users}, not root")
    # No shell: every start on the way was an exec.
    names = [Path(each.command[0]).name for each in processes]
    yield Check(
        len(names) == 2 and "aws-lambda-rie" in names[0] and "python" in names[1],
        f"its processes, first to last: {', '.join(names)}",
    )
    if base == "aws":
        runtime = processes[-1].environment.get("AWS_EXECUTION_ENV")
        yield Check(
            runtime is not None, f"AWS's start was gone through (AWS_EXECUTION_ENV={runtime})"
        )


def _end(container: Container) -> Iterator[Check]:
    start = time.monotonic()
    container.terminate()
    status = container.wait(timeout=5)
    seconds = time.monotonic() - start
    yield Check(status is not None, f"SIGTERM ended it after {seconds:.2f} s, exit status {status}")


def main() -> int:
    """Run the command; return its exit status."""
    options = _parse()
    reason = unavailable()
    if reason is not None:
        print(f"SKIPPED: the image was not built or run: {reason}")
        return SKIPPED
    bases = BASES if options.base == "both" else (options.base,)
    failures = 0
    store = Store(CACHE)
    with store.locked():
        if options.rebuild_base:
            _debootstrap(store.folder / _ARCHIVE, store.logs)
            store.clear()
        for base in bases:
            image = build(store, base)
            print(f"{image}: {store.size(image) / 1e6:.0f} MB with its base", flush=True)
            # Closed here, not when it is collected: an interrupt may come while it waits for us.
            with contextlib.closing(verify(store, image, base)) as checks:
                for check in checks:
                    print(check, flush=True)
                    failures += not check.passed
    print(f"{failures} FAILED; logs are in {store.logs}" if failures else "all passed")
    return min(failures, 1)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"Exit status: 0 all passed, 1 something failed, {SKIPPED} this machine can't. "
        f"Files and logs are in {CACHE.relative_to(ROOT)}; removing the folder starts anew.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--base",
        choices=(*BASES, "both"),
        default="both",
        help="plain: Debian's python3. aws: the layout of AWS's Python images. (default: both)",
    )
    parser.add_argument(
        "--rebuild-base",
        action="store_true",
        help="make the base anew, with today's packages (40 s), instead of the one made before",
    )
    return parser.parse_args()


def _interrupted(_signum: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # A killed job cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; nothing is left running", file=sys.stderr)
        sys.exit(130)
    except StepFailed as error:
        sys.exit(f"FAILED: {error}")
