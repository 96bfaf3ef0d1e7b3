"""Starts functions in the emulator, with and without the package, and collects their output."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tests import log_schema
from tests.runtime.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.runtime.emulator import Response

HANDLERS: Final = Path(__file__).parent / "handlers"
REPORT: Final = "watchdog.timeout"

Way = Literal["command", "setting"]
WAYS: Final[tuple[Way, ...]] = ("command", "setting")
"""How the package is given the handler: as the image's command, or by an environment variable."""


def wrapped(
    handler: str,
    *,
    way: Way = "command",
    command: Sequence[str] = (),
    cwd: Path = HANDLERS,
    timeout: int = 2,
    environment: Mapping[str, str] | None = None,
    warm_up: object = None,
) -> Emulator:
    """Make an emulator for this handler under the watchdog.

    `command` may replace the default one.
    """
    runtime = ["watchdog_lambda", *([handler] if handler else [])]
    environment = dict(environment or {})
    if way == "setting":
        runtime = ["awslambdaric", "watchdog_lambda.entrypoint.handler"]
        environment = {
            "WATCHDOG_LAMBDA_HANDLER": handler,
            # As in zip functions and AWS's images, where the runtime polls from a second thread.
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            **environment,
        }
    command = command or (sys.executable, "-m", *runtime)
    return _emulator(command, cwd, timeout, environment, warm_up)


def bare(
    handler: str,
    *,
    cwd: Path = HANDLERS,
    timeout: int = 2,
    environment: Mapping[str, str] | None = None,
    warm_up: object = None,
) -> Emulator:
    """Make an emulator for the same handler under AWS's runtime alone."""
    command = (sys.executable, "-m", "awslambdaric", handler)
    return _emulator(command, cwd, timeout, environment or {}, warm_up)


def _emulator(
    command: Sequence[str], cwd: Path, timeout: int, environment: Mapping[str, str], warm_up: object
) -> Emulator:
    return Emulator(
        command,
        cwd=cwd,
        timeout=timeout,
        # The package that this process imports, whether it is installed or in a checkout.
        environment={
            "PYTHONPATH": _where_is("watchdog_lambda"),
            "NO_PROXY": "127.0.0.1",
            **environment,
        },
        warm_up=warm_up,
    )


def _where_is(package: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return str(Path(spec.submodule_search_locations[0]).parent)


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation, and the output of the function during it."""

    response: Response
    request_id: str
    lines: list[str]

    @property
    def answer(self) -> Any:
        """The decoded body; it is an error, with the body in it, if the function was killed."""
        body = self.response.body
        assert "Task timed out" not in body, f"killed after {self.response.seconds:.3f} s"
        return json.loads(body)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The decoded records of timeouts among the lines, checked against their schema."""
        found = []
        for line in self.lines:
            if REPORT in line:
                record = json.loads(line)
                assert isinstance(record, dict), line
                if "service" not in record:  # otherwise a Powertools Logger has added its own keys
                    log_schema.check(record)
                found.append(record)
        return found


def call(emulator: Emulator, event: Mapping[str, object]) -> Call:
    """Invoke a function whose process survives the invocation, and collect its output."""
    since = len(emulator.lines)
    response = emulator.invoke(event)
    lines = [line.text for line in emulator.lines[since:] if line.stream == "stdout"]
    found = re.search(r"START RequestId: (\S+)", "\n".join(lines))
    assert found is not None
    return Call(response, found[1], lines)


@contextmanager
def log_shown(emulator: Emulator, *, since: int = 0) -> Iterator[None]:
    """Show the emulator's log if the block fails."""
    try:
        yield
    except BaseException as error:
        log = "\n".join(f"{line.at:.3f} {line.text}" for line in emulator.lines[since:])
        error.add_note(f"The emulator's log:\n{log}")
        raise


@contextmanager
def running(emulator: Emulator) -> Iterator[Emulator]:
    """Run the emulator for the block, and show its log if the block fails."""
    with log_shown(emulator), emulator:
        yield emulator
