"""Malformed answers of the Runtime API have the same effect with the watchdog as without it.

The real awslambdaric gets the same bytes with and without the package. What it then posts, and how
it ends, must be the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import pytest

import watchdog_lambda

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUND: Final = 20.0
"""The number of seconds in which a process must end or request another event."""

HANDLER: Final = """
def handler(event, context):
    return {"event": event, "told": context.get_remaining_time_in_millis() is not None}
"""

IN_TEN_SECONDS: Final = object()
GOOD: Final[dict[str, object]] = {
    "Lambda-Runtime-Aws-Request-Id": "11111111-2222-4333-8444-555555555555",
    "Lambda-Runtime-Deadline-Ms": IN_TEN_SECONDS,
    "Content-Type": "application/json",
}


def event(
    body: bytes = b"{}", *, status: str = "200 OK", length: int | None = None, **headers: object
) -> bytes:
    """Return an event's bytes; a header of None is left out."""
    told = {**GOOD, **{name.replace("_", "-"): value for name, value in headers.items()}}
    deadline = int((time.time() + 10) * 1000)
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [
        f"{name}: {deadline if value is IN_TEN_SECONDS else value}"
        for name, value in told.items()
        if value is not None
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


TAKEN: Final = b'HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{"status": "OK"}'
TOO_LARGE: Final = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"


class Scene(NamedTuple):
    """The API's answers to the first request for an event, and to what is then posted."""

    next: bytes
    posted: bytes = TAKEN
    hangs_up: bool = False
    """After the nonsense, whichever of the two it is."""


SCENES: Final = {
    "a good event": Scene(event(b'{"a": 1}')),
    "status 500": Scene(event(status="500 Internal Server Error")),
    "status 404": Scene(event(status="404 Not Found")),
    "no request id": Scene(event(Lambda_Runtime_Aws_Request_Id=None)),
    "no deadline": Scene(event(Lambda_Runtime_Deadline_Ms=None)),
    "a deadline in words": Scene(event(Lambda_Runtime_Deadline_Ms="soon")),
    "a deadline long past": Scene(event(Lambda_Runtime_Deadline_Ms=0)),
    "a deadline that is far": Scene(event(Lambda_Runtime_Deadline_Ms=10**17)),
    "a body that is no JSON": Scene(event(b"{")),
    "a body that is no text": Scene(event(b"\xff\xfe")),
    "a context that is no JSON": Scene(event(Lambda_Runtime_Client_Context="{")),
    "half of a body": Scene(event(b'{"a": ', length=100), hangs_up=True),
    "not HTTP": Scene(b"\0\1\2 hello\r\n\r\n", hangs_up=True),
    "nothing": Scene(b"", hangs_up=True),
    "an answer that is refused": Scene(event(), TOO_LARGE),
    "an answer met with nonsense": Scene(event(), b"\0\1\2\r\n\r\n", hangs_up=True),
}  # fmt: skip


class Api:
    """Plays one scene, and then lets the runtime wait for its next event."""

    def __init__(self, scene: Scene) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.asked_again = threading.Event()
        self._scene = scene
        self._requests = 0
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(0.1)
            received = b""
            while not self._over.is_set():
                try:
                    more = connection.recv(65_536)
                except TimeoutError:
                    continue
                if not more:
                    return
                received += more
                request = re.match(rb"(\w+) (\S+) .*?\r\n\r\n", received, re.DOTALL)
                if request is None:
                    continue
                length = re.search(rb"(?i)content-length: (\d+)", request[0])
                end = request.end() + (int(length[1]) if length else 0)
                if len(received) >= end:
                    body, received = received[request.end() : end], received[end:]
                    if not self._answer(connection, request[2].decode(), body):
                        return

    def _answer(self, connection: socket.socket, path: str, body: bytes) -> bool:
        """Answer one request, and return whether the connection stays open."""
        if path.endswith("/next"):
            self._requests += 1
            if self._requests > 1:
                self.asked_again.set()
                return True
            connection.sendall(self._scene.next)
            return self._scene.posted is not TAKEN or not self._scene.hangs_up
        said = json.loads(body) if body else None
        if isinstance(said, dict) and "errorType" in said:
            said = said["errorType"], said["errorMessage"]
        self.seen.append((path, said))
        connection.sendall(self._scene.posted)
        return not self._scene.hangs_up


def play(
    scene: Scene, command: list[str], folder: Path, extra: Mapping[str, str]
) -> tuple[object, ...]:
    """Return what the runtime posted, and whether it asks for another event or how it ended."""
    with Api(scene) as api:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(watchdog_lambda.__file__).parents[1]),
            "LAMBDA_TASK_ROOT": str(folder),
            "AWS_LAMBDA_RUNTIME_API": api.address,
            **extra,
        }
        with subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            until = time.monotonic() + BOUND
            while process.poll() is None and not api.asked_again.wait(0.02):
                if time.monotonic() > until:
                    process.kill()
                    raise AssertionError(
                        f"the runtime hangs; its output: {process.communicate()[0]}"
                    )
            asks = process.poll() is None
            if asks:
                process.kill()
            said, _ = process.communicate()
        # Only the last line of a traceback is compared, because line numbers may differ.
        error = [line for line in said.splitlines() if re.match(r"[\w.]*(Error|Exception)\b", line)]
        return api.seen, "asks again" if asks else process.returncode, error[-1:]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_malformed_answers_are_handled_as_without_the_watchdog(
    scene: Scene, tmp_path: Path
) -> None:
    """The runtime posts the same and ends in the same way as without the watchdog, in time."""
    (tmp_path / "app.py").write_text(HANDLER)
    with ThreadPoolExecutor() as pool:
        bare = pool.submit(play, scene, ["awslambdaric", "app.handler"], tmp_path, {})
        watched = pool.submit(play, scene, ["watchdog_lambda", "app.handler"], tmp_path, {})

    assert watched.result() == bare.result()


def test_malformed_registration_answer_does_not_delay_start(
    tmp_path: Path,
) -> None:
    """An extension's registration that gets a malformed answer does not delay the start.

    The log says that there is no extension, and events are served.
    """
    (tmp_path / "app.py").write_text(HANDLER)
    scene = Scene(event(), b"\0\1\2\r\n\r\n")

    seen: Any = play(
        scene,
        ["watchdog_lambda", "app.handler"],
        tmp_path,
        {"WATCHDOG_LAMBDA_SIGTERM": "1", "WATCHDOG_LAMBDA_LAST_RESORT": "supervise"},
    )[0]

    assert seen[0] == ("/2020-01-01/extension/register", {"events": []})
    assert seen[1][0].endswith("/response")
    assert seen[1][1] == {"event": {}, "told": True}
