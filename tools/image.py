"""Build the container image and run it for real, with podman and a storage of its own.

    python3 dev.py image --base both

No public image is pulled. A plain base is made of Debian's packages, and the layout of AWS's Python
base on top of it; the project's Dockerfile is built on both. Each image is then run as it says it
wants to be run (entrypoint, command, user), read-only as on Lambda, with AWS's emulator in it:
started by nobody, as with `docker run`, so that the entrypoint starts the emulator; and started by
the emulator, as on Lambda. On AWS's layout also by AWS's own entrypoint, with the user's handler as
its command and our exec-wrapper in AWS_LAMBDA_EXEC_WRAPPER.

Each time a call that ends in time, one that does not, and one after it in the same process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tools import ROOT, ending
from tools.containers import (
    BASES,
    CACHE,
    LOGS,
    Container,
    StepFailed,
    build,
    config_of,
    podman,
    unavailable,
)
from tools.emulator import fetch_emulator
from watchdog_lambda.cli.emulator import _free_ports

STARTS: Final = ("docker run", "Lambda")
WRAPPED: Final = "Lambda with exec-wrapper"
_TIMEOUT: Final = 2
"""Seconds; the emulator takes whole ones, and 1 would leave no room for the init."""

_REPORT: Final = "watchdog.timeout"
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_RIE: Final = "/usr/local/bin/aws-lambda-rie"


class Check(NamedTuple):
    passed: bool
    text: str

    def __str__(self) -> str:
        return f"  {'ok  ' if self.passed else 'FAIL'} {self.text}"


def verify(image: str, base: str) -> Generator[Check]:
    """Run an image in every way there is, and say what was seen."""
    config = config_of(image)
    root = Path(podman("image", "mount", image).strip())
    try:
        yield from _contents(root / config["WorkingDir"].lstrip("/"), root)
    finally:
        podman("image", "unmount", image)
    if base == "plain":  # AWS's base has an emulator of its own
        with Container(image, LOGS / "refusal.log") as container:
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
    entrypoint, options = [], [f"--env=AWS_LAMBDA_FUNCTION_TIMEOUT={_TIMEOUT}"]
    if start == "Lambda":
        entrypoint = [_RIE, *config["Entrypoint"]]
    elif start == WRAPPED:
        entrypoint = [_RIE, "/lambda-entrypoint.sh"]
        options.append("--env=AWS_LAMBDA_EXEC_WRAPPER=/watchdog-lambda-exec-wrapper")
    log = LOGS / f"{base}-{start.replace(' ', '-')}.log"
    print(f"{base} base, started as by {start}:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        port, rie = _emulator_in(Path(folder))
        for file, path in ((rie, _RIE), (fetch_emulator(), f"{_RIE}.real")):
            options.append(f"--volume={file}:{path}:ro")
        with Container(image, log, *options, entrypoint=entrypoint) as container:
            try:
                yield from _calls(container, port)
                yield from _process(container, config, base)
                yield from _end(container)
            except (OSError, http.client.HTTPException, ValueError) as error:
                yield Check(passed=False, text=f"{error!r}; its output:\n{container.output}")


def _emulator_in(folder: Path) -> tuple[int, Path]:
    """The port that the emulator will listen on, and the script that starts it so."""
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
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        if (status := container.wait(timeout=0.05)) is not None:
            raise ConnectionError(f"it ended with exit status {status}")
    raise ConnectionError("the emulator did not listen within 20 s")


def _invoke(port: int, event: object) -> tuple[dict[str, object], float]:
    url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    start = time.monotonic()
    with _DIRECT.open(url, json.dumps(event).encode(), timeout=_TIMEOUT + 10) as response:
        text = response.read().decode()
    answer = json.loads(text) if text.startswith("{") else {"errorMessage": text}
    return answer, time.monotonic() - start


def _process(container: Container, config: dict[str, Any], base: str) -> Iterator[Check]:
    processes = container.processes()
    users = {folder.stat().st_uid for folder in processes}
    wanted = int(str(config["User"]).partition(":")[0])
    yield Check(users == {wanted} and 0 not in users, f"it runs as user {users}, not root")
    # No shell: every start on the way was an exec.
    names = [Path((each / "cmdline").read_text().partition("\0")[0]).name for each in processes]
    yield Check(
        len(names) == 2 and "aws-lambda-rie" in names[0] and "python" in names[1],
        f"its processes, first to last: {', '.join(names)}",
    )
    if base == "aws":
        environment = (processes[-1] / "environ").read_text(errors="replace").split("\0")
        runtime = [each for each in environment if each.startswith("AWS_EXECUTION_ENV=")]
        yield Check(bool(runtime), f"AWS's start was gone through ({runtime})")


def _end(container: Container) -> Iterator[Check]:
    start = time.monotonic()
    container.terminate()
    status = container.wait(timeout=10)
    seconds = time.monotonic() - start
    yield Check(status is not None, f"SIGTERM ended it after {seconds:.2f} s, exit status {status}")


def main() -> int:
    parser = ending.parser(
        "dev.py image",
        __doc__,
        f"Exit status: 0 passed, 1 something failed, {ending.SKIPPED} it cannot run here.\n"
        f"Files and logs are in {CACHE.relative_to(ROOT)}; removing the folder starts anew.",
    )
    about = "plain: Debian's python3. aws: the layout of AWS's Python images. (default: both)"
    parser.add_argument("--base", choices=(*BASES, "both"), default="both", help=about)
    chosen = parser.parse_args().base
    reason = unavailable()
    if reason is not None:
        print(f"SKIPPED: the image was not built or run: {reason}")
        return ending.SKIPPED
    failures = 0
    for base in BASES if chosen == "both" else (chosen,):
        image = build(base)
        # Closed here, not when it is collected: an interrupt may come while it waits for us.
        with contextlib.closing(verify(image, base)) as checks:
            for check in checks:
                print(check, flush=True)
                failures += not check.passed
    print(f"{failures} FAILED; logs are in {LOGS}" if failures else "all passed")
    return min(failures, 1)


if __name__ == "__main__":
    try:
        ending.run(main, "interrupted; nothing is left running")
    except StepFailed as error:
        sys.exit(f"FAILED: {error}")
