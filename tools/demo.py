"""One handler runs into its timeout twice, without the watchdog and with it, side by side.

    python3 dev.py demo
    python3 dev.py demo --path my/function --handler app.handler --event '{"id": 7}' --timeout 5

AWS's Lambda emulator runs the real runtime (awslambdaric) and kills it at the timeout, as Lambda
does. Each run makes three calls: one with the quick event, so that no import counts; the one that
takes too long; and the quick one again, to see what the timeout has left behind.

The handler is yours to choose. It needs an event that takes it longer than the timeout, and a quick
one. Without the watchdog it runs as AWS's runtime runs it; a @watch in its code is disabled.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import platform
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from tools.demo_screen import Screen
from tools.emulator import Emulator, EmulatorError, EmulatorUnavailable, fetch_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.emulator import Line, Response

ROOT: Final = Path(__file__).resolve().parent.parent
SKIPPED: Final = 77
"""The exit status for "cannot run here", as automake and others have it."""

_REPORT: Final = "watchdog.timeout"
_PROCESS: Final = "demo.process "
# The shell tells its process id and becomes the runtime, so that it is known for any handler.
_LAUNCH: Final = ("/bin/sh", "-c", f'echo "{_PROCESS}$$"; exec "$@"', "sh")
_PLATFORM: Final = re.compile(rf"(START|END|REPORT) RequestId: |{re.escape(_PROCESS)}")
_KILL: Final = re.compile(r"Sending SIGKILL to runtime\S*\((\d+)\)")
_TICK: Final = 5  # seconds between two signs of life


class UnusableError(RuntimeError):
    """The demo says nothing with this handler and these events; the message says why."""


# ---- one run -----------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A line of the log of the call that timed out."""

    at: float
    """Seconds since the request."""
    level: str
    """The logger's; empty for what is printed."""
    message: str

    @property
    def is_report(self) -> bool:
        return self.message == _REPORT


class Phase(NamedTuple):
    """A part of that call: running, hooks, interrupt, cleanup, left, kill."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one handler in one way to run it."""

    command: str
    timeout: int
    answer: Response
    log: list[Entry]
    report: dict[str, Any] | None
    cleanup_marker: str
    process: int
    next_answer: Response
    next_process: int

    @property
    def was_killed(self) -> bool:
        return self.answer.body.startswith("Task timed out")

    @property
    def spare(self) -> float:
        """Seconds between the answer and the hard deadline."""
        return self.timeout - self.answer.seconds

    @property
    def answered_in_time(self) -> bool:
        return self.answer.status == HTTPStatus.OK and not self.was_killed and self.spare > 0

    @property
    def next_is_warm(self) -> bool:
        return self.next_process == self.process and self.next_answer.status == HTTPStatus.OK

    @property
    def cleanup_at(self) -> float | None:
        """When the handler's cleanup wrote its line; None if it never did."""
        marked = (entry.at for entry in self.log if self.cleanup_marker in entry.message)
        return next(marked, None)

    def phases(self) -> list[Phase]:
        """The call that timed out, from the request to the hard deadline."""
        limit = float(self.timeout)
        answered = limit if self.was_killed else min(self.answer.seconds, limit)
        last = Phase("kill", limit, limit) if self.was_killed else Phase("left", answered, limit)
        report = self.report
        if report is None:
            return [Phase("running", 0.0, answered), last]
        # The watchdog's clock started a moment after ours: both meet where it wrote its record.
        written = next(entry.at for entry in self.log if entry.is_report)
        start = written - report["elapsed_ms"] / 1000
        landed = [
            start + interrupt["landed_after_ms"] / 1000
            for interrupt in report["interrupts"]
            if interrupt["landed_after_ms"] is not None
        ]
        cleans_up = bool(landed) and report["outcome"] != "stuck"
        first = landed[0] if cleans_up else answered
        phases = [Phase("running", 0.0, first), *(Phase("interrupt", at, at) for at in landed)]
        if report["hooks"]:
            fired = written + (report["remaining_ms"] - report["grace_period_ms"]) / 1000
            took = sum(hook["duration_ms"] for hook in report["hooks"]) / 1000
            phases.append(Phase("hooks", fired, min(fired + took, first)))
        if cleans_up:
            phases.append(Phase("cleanup", first, answered))
        return [*phases, last]

    def as_dict(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "status": self.answer.status,
            "answer": self.answer.body,
            "seconds": self.answer.seconds,
            "killed": self.was_killed,
            "cleanup_at": self.cleanup_at,
            "log": [entry._asdict() for entry in self.log],
            "report": self.report,
            "timeline": [phase._asdict() for phase in self.phases()],
            "process": self.process,
            "next": {
                "status": self.next_answer.status,
                "answer": self.next_answer.body,
                "seconds": self.next_answer.seconds,
                "process": self.next_process,
                "is_warm": self.next_is_warm,
            },
        }


@dataclass(frozen=True, slots=True)
class Demo:
    """A handler, its two events, its timeout."""

    handler: str
    path: Path
    event: object
    quick_event: object
    timeout: int
    cleanup_marker: str
    environment: dict[str, str]

    def run(self, module: str, environment: dict[str, str], *, name: str) -> Run:
        """Run the handler under this module's runtime.

        Raises:
            UnusableError: It did not answer the quick event.
            EmulatorError: The emulator itself failed.
        """
        say(f"{name}: starting the emulator and the runtime")
        python_path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        emulator = Emulator(
            [*_LAUNCH, sys.executable, "-m", module, self.handler],
            cwd=self.path,
            environment={"PYTHONPATH": os.pathsep.join(python_path)}
            | self.environment
            | environment,
            timeout=self.timeout,
        )
        with emulator:
            self._check(emulator.invoke(self.quick_event), emulator)
            process = _process(emulator.lines)
            say(f"{name}: calling the handler; the emulator kills it at {self.timeout} s")
            since, start = len(emulator.lines), time.monotonic()
            with _signs_of_life():
                answer = emulator.invoke(self.event)
            lines = emulator.lines[since:]
            say(f"{name}: the caller has an answer after {answer.seconds:.2f} s; calling again")
            next_answer = emulator.invoke(self.quick_event)
            next_process = _process(emulator.lines)
        log, report = _read(lines, start)
        return Run(
            command=f"python -m {module} {self.handler}",
            timeout=self.timeout,
            answer=answer,
            log=log,
            report=report,
            cleanup_marker=self.cleanup_marker,
            process=process,
            next_answer=next_answer,
            next_process=next_process,
        )

    def _check(self, answer: Response, emulator: Emulator) -> None:
        event, error = json.dumps(self.quick_event), _decoded(answer.body)
        kind = str(error.get("errorType", ""))
        if kind.startswith("Runtime.") or (kind and answer.status != HTTPStatus.OK):
            raise UnusableError(f"{kind}: {error.get('errorMessage')}")
        if answer.status != HTTPStatus.OK:
            raise UnusableError(f"the function's process ended in its start\n{emulator.log_text}")
        if answer.body.startswith("Task timed out"):
            raise UnusableError(
                f"the handler, its import included, did not answer {event} within {self.timeout} "
                "s; name an event that it answers at once with --quick-event, or raise --timeout"
            )
        if kind:
            say(f"the handler answers {event} with an error ({kind}); going on")


def _process(lines: Sequence[Line]) -> int:
    told = [line.text for line in lines if line.text.startswith(_PROCESS)]
    return int(told[-1].removeprefix(_PROCESS))


def _read(lines: Sequence[Line], start: float) -> tuple[list[Entry], dict[str, Any] | None]:
    """The log of one call: what the handler and the watchdog wrote, and the platform's kill."""
    log: list[Entry] = []
    report = None
    for line in lines:
        at = round(line.at - start, 3)
        if line.stream == "stderr":
            if killed := _KILL.search(line.text):
                log.append(Entry(at, "", f"the emulator: SIGKILL to {killed[1]}"))
            continue
        if _PLATFORM.match(line.text):
            continue
        record = _decoded(line.text)
        if record.get("event") == _REPORT:
            report = record
            log.append(Entry(at, "", _REPORT))
            continue
        # The runtime separates the lines of one traceback with \r.
        message = record.get("message", line.text.partition("\r")[0])
        text = message if isinstance(message, str) else json.dumps(message)
        log.append(Entry(at, str(record.get("level", "")), text))
    return log, report


def _decoded(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}


@contextlib.contextmanager
def _signs_of_life() -> Iterator[None]:
    """Say every few seconds how long it has been waiting."""
    is_over = threading.Event()

    def tell() -> None:
        start = time.monotonic()
        while not is_over.wait(_TICK):
            say(f"    ... {time.monotonic() - start:.0f} s")

    teller = threading.Thread(target=tell, name="signs of life", daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()


def say(text: str) -> None:
    """Tell who waits; what they wait for goes to the other stream."""
    print(f"demo: {text}", file=sys.stderr, flush=True)


# ---- what it shows -----------------------------------------------------------------------------


class Claim(NamedTuple):
    """What the demo is there to show, and whether it did."""

    shown: bool
    text: str


def claims(without: Run, watched: Run) -> list[Claim]:
    """The three things that make the difference."""
    killed, in_time = without.was_killed, watched.answered_in_time
    limit = f"{without.timeout} s limit"
    before = f"had an answer {watched.spare:.2f} s" if in_time else "had no answer"
    was = "was" if killed else "was not"
    found = "found" if watched.next_is_warm else "did not find"
    return [
        Claim(killed, f"without the watchdog the handler {was} killed at its {limit}"),
        Claim(in_time, f"with it the caller {before} before the {limit}"),
        Claim(watched.next_is_warm, f"and the next call {found} the process warm"),
    ]


# ---- the command -------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parse(arguments)
    reason = _unavailable()
    if reason is not None:
        print(json.dumps({"skipped": reason}) if options.json else f"SKIPPED: no demo: {reason}")
        return SKIPPED
    demo = Demo(
        handler=options.handler,
        path=options.path.resolve(),
        event=options.event,
        quick_event=options.quick_event,
        timeout=options.timeout,
        cleanup_marker=options.cleanup_marker,
        environment=dict(options.env),
    )
    try:
        disabled = {"WATCHDOG_LAMBDA_DISABLED": "1"}
        without = demo.run("awslambdaric", disabled, name="1/2 without")
        watched = demo.run("watchdog_lambda", {}, name="2/2 with")
    except (UnusableError, EmulatorError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    shown = claims(without, watched)
    if options.json:
        print(json.dumps(_result(demo, without, watched, shown), indent=2))
    else:
        _print(demo, without, watched, shown)
    return 0 if all(claim.shown for claim in shown) else 1


def _result(demo: Demo, without: Run, watched: Run, shown: list[Claim]) -> dict[str, Any]:
    return {
        "handler": demo.handler,
        "path": _name(demo.path),
        "event": demo.event,
        "timeout": demo.timeout,
        "python": platform.python_version(),
        "awslambdaric": importlib.metadata.version("awslambdaric"),
        "without": without.as_dict(),
        "with": watched.as_dict(),
        "claims": [claim._asdict() for claim in shown],
    }


def _print(demo: Demo, without: Run, watched: Run, shown: list[Claim]) -> None:
    versions = f"awslambdaric {importlib.metadata.version('awslambdaric')}"
    versions += f", Python {platform.python_version()}"
    heading = [
        f"{demo.handler} in {_name(demo.path)}, called with {json.dumps(demo.event)}",
        f"AWS's Lambda emulator, limit {demo.timeout} s; {versions}",
    ]
    if sys.stdout.isatty():
        print(file=sys.stderr)  # apart from what has been said while it took its time
    Screen().show(heading, without, watched, shown)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _unavailable() -> str | None:
    """Why there can be no demo on this machine; None if there can."""
    try:
        importlib.metadata.version("awslambdaric")
    except importlib.metadata.PackageNotFoundError:
        return "awslambdaric, Lambda's runtime, is not installed: pip install awslambdaric"
    say("looking for AWS's Lambda emulator (downloaded once)")
    try:
        fetch_emulator()
    except EmulatorUnavailable as error:
        return str(error)
    return None


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="dev.py demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""\
exit status:
  0    it was seen: without the watchdog the handler is killed; with it the caller has an answer
       before the limit, and the next call the same process
  1    it was not
  2    wrong arguments
  {SKIPPED}   this machine cannot run it; the message says what is missing
  130  Ctrl-C; nothing is left running

more to see:
  a shorter grace period     --env WATCHDOG_LAMBDA_GRACE_PERIOD=0.3
  hooks, shield, fallback    --path examples/hooks_and_fallback \\
                             --event '{{"orders": ["a", "b"], "price_seconds": 30}}'
  signals of its own         --path examples/existing_signals --event '{{"work": 30}}'
""",
    )
    add = parser.add_argument
    add(
        "--path",
        type=_folder,
        default=ROOT / "examples" / "sigalrm_recipe",
        metavar="DIR",
        help="the handler's folder (default: examples/sigalrm_recipe)",
    )
    add(
        "--handler",
        default="app.handler",
        metavar="NAME",
        help="module.function in there (default: %(default)s)",
    )
    add(
        "--event",
        type=_json,
        default='{"sleep": 30}',
        metavar="JSON",
        help="one that takes longer than the timeout (default: %(default)s)",
    )
    add(
        "--quick-event",
        type=_json,
        default="{}",
        metavar="JSON",
        help="one that is answered at once (default: %(default)s)",
    )
    add(
        "--timeout",
        type=_timeout,
        default="3",
        metavar="SECONDS",
        help="the function's timeout in whole seconds, as in Lambda (default: %(default)s)",
    )
    add(
        "--env",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of the function; may be given again and again",
    )
    add(
        "--cleanup-marker",
        default="finally",
        metavar="TEXT",
        help="a piece of what the handler's cleanup writes to its log (default: %(default)s)",
    )
    add("--json", action="store_true", help="everything as JSON")
    return parser.parse_args(arguments)


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return path


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None


def _timeout(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,2}", text) or int(text) > 900:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds, 1 to 900")
    return int(text)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupted(_signum: int, _frame: object) -> NoReturn:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)  # what follows is short, and must not be cut short
    raise KeyboardInterrupt


if __name__ == "__main__":
    for each in _ENDS:
        signal.signal(each, _interrupted)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the handler has written is beyond us
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted; nothing is left running")
        sys.exit(130)
