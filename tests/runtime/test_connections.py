"""The package connects to nothing but the Runtime API's address, as strace shows.

The function runs under strace, with every variable set that HTTP clients take a proxy from. A
listener stands for the proxy, so a connection to it would be noticed at both ends.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.runtime.emulator import Emulator

from .harness import HANDLERS, log_shown, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRACE = shutil.which("strace")
pytestmark = pytest.mark.skipif(STRACE is None, reason="needs strace")

PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

# This matches connect(3, {sa_family=AF_INET, sin_port=htons(9001),
# sin_addr=inet_addr("127.0.0.1")}, 16) = ..., and sendto() and sendmsg() with an address, which
# name look-ups and UDP use.
_ADDRESS = re.compile(r"^\S+ +(?:connect|sendto|sendmsg|sendmmsg)\(.*?\{sa_family=(\w+), (.*?)\}")
_INET = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([\d.]+)"\)')


class Trap:
    """Listens where no connection is expected, and keeps what is received."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.caught = 0
        self._thread = threading.Thread(target=self._listen, name="trap", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.caught += 1
                connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.close()


def function(log: Path, trap: Trap, *, timeout: int = 2, **environment: str) -> Emulator:
    """Make the function under strace, which follows children and threads."""
    strace = [str(STRACE), "-f", "--seccomp-bpf", "-qq", "-o", str(log)]
    strace += ["-e", "trace=connect,sendto,sendmsg,sendmmsg"]
    proxies = dict.fromkeys(PROXIES, f"http://{trap.address}")
    return Emulator(
        [*strace, sys.executable, "-m", "watchdog_lambda", "phoning.handler"],
        cwd=HANDLERS,
        timeout=timeout,
        environment={
            "PYTHONPATH": str(HANDLERS.parents[2]),
            "NO_PROXY": "",
            "no_proxy": "",
            "WATCHDOG_LAMBDA_SIGTERM": "1",
            "WATCHDOG_LAMBDA_METRICS_NAMESPACE": "Orders",
            **proxies,
            **environment,
        },
        warm_up={"do": "ok"},
    )


def addresses_used(log: Path) -> set[str]:
    """Return every address that any process of the function has passed to the system."""
    addresses: set[str] = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        found = _ADDRESS.search(line)
        if found is not None:
            internet = _INET.search(found[2])
            addresses.add(f"{internet[2]}:{internet[1]}" if internet else f"{found[1]} {found[2]}")
    return addresses


def assert_one_address(emulator: Emulator, log: Path, trap: Trap) -> None:
    """End the function normally, and check that it has connected only to the Runtime API."""
    api = json.loads(emulator.invoke({"do": "ok"}).body)["api"]
    emulator.close()
    assert addresses_used(log) == {api}
    assert trap.caught == 0


@pytest.mark.parametrize("last_resort", ["report", "exit", "supervise"])
def test_function_connects_only_to_the_runtime_api(
    tmp_path: Path, trap: Trap, last_resort: str
) -> None:
    """The function connects to one address only, with the extension registered.

    The handler returns, is interrupted, or gets stuck and is answered for.
    """
    log = tmp_path / "strace.log"
    emulator = function(log, trap, WATCHDOG_LAMBDA_LAST_RESORT=last_resort)

    with running(emulator):
        emulator.invoke({"do": "sleep"})
        answer = emulator.invoke({"do": "stuck"}).body
        assert ("gave up" in answer) == (last_resort != "report")
        assert_one_address(emulator, log, trap)


def test_runtime_api_address_changed_by_handler_has_no_effect(tmp_path: Path, trap: Trap) -> None:
    """The answer for a stuck handler goes to the address that Lambda gave at the start.

    A handler that changes the variable does not change the address.
    """
    log = tmp_path / "strace.log"
    emulator = function(log, trap, WATCHDOG_LAMBDA_LAST_RESORT="exit")

    with log_shown(emulator), emulator:
        answer = emulator.invoke({"do": "redirect", "to": trap.address}).body
        emulator.invoke({"do": "ok"})

    assert "gave up" in answer
    assert trap.address not in addresses_used(log)
    assert trap.caught == 0


def test_strace_detects_connections_elsewhere(tmp_path: Path, trap: Trap) -> None:
    """The control: a connection of the handler's own is seen by strace and by the listener."""
    log = tmp_path / "strace.log"
    emulator = function(log, trap)

    with log_shown(emulator), emulator:
        emulator.invoke({"do": "phone", "to": trap.address})

    assert trap.address in addresses_used(log)
    assert trap.caught == 1
