"""The servers: Debian's, which a command installs, moto's, and those of :mod:`.standins`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tools import ROOT

from .standins import SERVERS as STAND_INS

PYTHON: Final = os.environ.get("STACKS_PYTHON", "")
"""The interpreter of the environment with the clients; `dev.py stacks` says which."""

PACKAGES: Final = {
    "mariadb": ("mariadb-server", "mariadbd"),
    "memcached": ("memcached", "memcached"),
    "nats": ("nats-server", "nats-server"),
    "postgresql": ("postgresql", "initdb"),
    "rabbitmq": ("rabbitmq-server", "rabbitmq-server"),
    "redis": ("redis-server", "redis-server"),
    "ssh": ("openssh-server", "sshd"),
}
"""For a server, Debian's package and a program of it."""

BUILT: Final = ("mysqlclient==2.3.1", "MySQLdb", ("gcc", "libmariadb-dev", "pkg-config"))
"""A client that is there as source only: what is installed, imported, and needed to build it."""

_READY_WITHIN: Final = 60.0
_PATH: Final = os.pathsep.join(
    (
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
        "/usr/sbin",
        "/usr/lib/rabbitmq/bin",
        os.environ["PATH"],
    )
)


def available() -> set[str]:
    found = {name for name, (_, program) in PACKAGES.items() if shutil.which(program, path=_PATH)}
    return {*found, *STAND_INS, "moto"}


def install() -> None:
    """Install what is missing (root, Debian), and start nothing of it."""
    missing = [package for name, (package, _) in PACKAGES.items() if name not in available()]
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    pinned, module, needed = BUILT
    if subprocess.run([PYTHON, "-c", f"import {module}"], check=False).returncode:
        missing += needed
    if missing:
        command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        subprocess.run(command, check=True, env=quietly)
    if not set(missing).isdisjoint(needed):
        uv = [sys.executable, "-m", "uv", "--system-certs", "pip", "install", "--python", PYTHON]
        subprocess.run([*uv, pinned], check=True)


@contextmanager
def started(wanted: set[str]) -> Iterator[dict[str, int]]:
    """The ports of the servers, which end with the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        ports: dict[str, int] = {}
        for name in sorted(wanted):
            ports[name] = port = _free_port()
            own = folder / name
            own.mkdir()
            stack.enter_context(_process(_command(name, port, own), own))
        for port in ports.values():
            _wait_for(port)
        if "kafka" in ports:
            with socket.create_connection(("127.0.0.1", ports["kafka"])) as told:
                ports["kafka"] = int(told.makefile().read())
        yield ports


def _command(name: str, port: int, folder: Path) -> list[str]:  # noqa: C901, PLR0912 - a table
    """What starts a server; its data is prepared."""
    loopback = "127.0.0.1"
    if name in STAND_INS:
        return [PYTHON, "-m", "benchmarks.stacks.standins", name, str(port)]
    match name:
        case "moto":
            return [PYTHON, "-m", "moto.server", "-H", loopback, "-p", str(port)]
        case "redis":
            return ["redis-server", "--port", str(port), "--save", "", "--bind", loopback]
        case "memcached":
            return ["memcached", "-l", loopback, "-p", str(port), "-u", "nobody"]
        case "nats":
            return ["nats-server", "-a", loopback, "-p", str(port)]
        case "postgresql":
            # It refuses to run as root.
            as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
            if as_user:
                shutil.chown(folder, "postgres")
            _do([*as_user, "initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "postgres"])
            settings = [f"listen_addresses={loopback}", "fsync=off", "max_connections=300"]
            options = [part for setting in settings for part in ("-c", setting)]
            serve = ["postgres", "-D", f"{folder}/data", "-p", str(port), "-k", str(folder)]
            return [*as_user, *serve, *options]
        case "mariadb":
            if os.geteuid() == 0:
                shutil.chown(folder, "mysql")
            data = ["--no-defaults", f"--datadir={folder}/data", "--user=mysql"]
            _do(["mariadb-install-db", *data, "--auth-root-authentication-method=normal"])
            serve = [f"--port={port}", f"--socket={folder}/socket", f"--bind-address={loopback}"]
            return ["mariadbd", *data, *serve, "--max-connections=500"]
        case "rabbitmq":
            variables = {
                "NODENAME": f"stacks{port}@localhost",
                "NODE_IP_ADDRESS": loopback,
                "NODE_PORT": port,
                "DIST_PORT": _free_port(),
                "MNESIA_BASE": folder,
                "LOG_BASE": folder,
                "ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            }
            named = [f"RABBITMQ_{variable}={value}" for variable, value in variables.items()]
            return ["env", *named, "/usr/lib/rabbitmq/bin/rabbitmq-server"]
        case "ssh":
            for key in ("host", "user"):
                _do(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}"])
            Path("/run/sshd").mkdir(exist_ok=True)
            os.environ["STACKS_SSH_KEY"] = f"{folder}/user"
            options = [f"AuthorizedKeysFile={folder}/user.pub", "StrictModes=no", "UsePAM=no"]
            options += [f"ListenAddress={loopback}", "PermitRootLogin=yes", "MaxStartups=100"]
            told = [part for option in options for part in ("-o", option)]
            serve = ["-D", "-e", "-f", "/dev/null", "-p", str(port), "-h", f"{folder}/host"]
            return ["/usr/sbin/sshd", *serve, *told]
        case _:
            raise ValueError(name)


def _do(command: list[str]) -> None:
    environ = {**os.environ, "PATH": _PATH}
    subprocess.run(command, check=True, cwd="/", env=environ, stdout=subprocess.DEVNULL)


@contextmanager
def _process(command: list[str], folder: Path) -> Iterator[None]:
    environ = {**os.environ, "PATH": _PATH, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for(port: int) -> None:
    until = time.monotonic() + _READY_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
