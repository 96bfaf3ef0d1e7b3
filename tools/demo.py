"""One handler runs into its timeout twice, without the watchdog and with it, side by side.

    python3 dev.py demo
    python3 dev.py demo --path my/function --handler app.handler --event '{"id": 7}' --timeout 5

AWS's Lambda emulator runs the real runtime (awslambdaric) and kills it at the timeout, as Lambda
does. Each run makes three calls: one with the quick event, so that no import counts; the one that
takes too long; and the quick one again, to see what the timeout has left behind.

Any handler will do that has one event which takes longer than the timeout, and a quick one; the
READMEs in examples/ have some. Without the watchdog, a @watch in its code is disabled.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools import ROOT, ending
from tools.emulator import EmulatorUnavailable, fetch_emulator
from watchdog_lambda.cli import values
from watchdog_lambda.cli.arguments import parser as command_parser
from watchdog_lambda.cli.emulator import Emulator
from watchdog_lambda.cli.function import CannotRun, Function, Invocation, record_in
from watchdog_lambda.cli.invoke import function_of
from watchdog_lambda.cli.outcome import drawn
from watchdog_lambda.cli.screen import Screen, printable
from watchdog_lambda.cli.view import spoken

_MARKER: Final = "finally"  # a piece of what the handler's cleanup writes to its log
_MOST_CHARACTERS: Final = 400  # of an answer or of a line of the log


@dataclass(frozen=True, slots=True)
class Run:
    """What came of the handler in one of the two ways to run it."""

    function: Function
    late: Invocation  # the call that takes too long
    after: Invocation  # the quick call that comes after it

    @property
    def was_killed(self) -> bool:
        return self.late.kind == "killed"

    @property
    def spare(self) -> float:
        """Seconds between the answer and the hard deadline."""
        return self.function.timeout - self.late.seconds

    @property
    def is_warm(self) -> bool:
        """Whether the process of the late call served the next one."""
        return self.after.init_seconds is None and self.after.kind == "response"


class Claim(NamedTuple):
    """What the demo is there to show, and whether it did."""

    shown: bool
    text: str


def claims(without: Run, watched: Run) -> list[Claim]:
    limit = f"{without.function.timeout:g} s limit"
    was = "was" if without.was_killed else "was not"
    in_time = not watched.was_killed and watched.spare > 0
    answer = f"had an answer {watched.spare:.2f} s" if in_time else "had no answer"
    found = "found" if watched.is_warm else "did not find"
    return [
        Claim(without.was_killed, f"without the watchdog the handler {was} killed at its {limit}"),
        Claim(in_time, f"with it the caller {answer} before the {limit}"),
        Claim(watched.is_warm, f"and the next call {found} the process warm"),
    ]


def run(options: argparse.Namespace, emulator: Path, *, is_watched: bool) -> Run:
    """Run the handler with the watchdog, or without; raises CannotRun if that shows nothing."""
    arguments = ["invoke", options.handler, f"--path={options.path}"]
    arguments += [f"--timeout={options.timeout}", *(f"--env={each}" for each in options.env)]
    arguments += [] if is_watched else ["--unwatched"]
    function = function_of(command_parser().parse_args(arguments))
    way = "with" if is_watched else "without"
    say(f"{way}: the emulator and the runtime start")
    with Emulator(str(emulator), function, lambda _line: None) as host:

        def call(event: bytes) -> Invocation:
            return host.invoke(event, lambda _what, _at: None)

        _check(call(options.quick_event), options)
        say(f"{way}: calling the handler; the emulator kills it at {options.timeout:g} s")
        since = time.monotonic()
        screen = Screen(sys.stderr)
        with screen.waiting(options.handler, function.timeout, lambda: time.monotonic() - since):
            late = call(options.event)
        say(f"{way}: the caller has an answer after {late.seconds:.2f} s; calling again")
        return Run(function, late, call(options.quick_event))


def _check(first: Invocation, options: argparse.Namespace) -> None:
    if first.kind == "killed":
        raise CannotRun(
            f"the handler, its import included, did not answer the quick event within "
            f"{options.timeout:g} s; use another --quick-event, or a longer --timeout"
        )
    if first.error_type.startswith("Runtime."):
        raise CannotRun(f"{first.error_type}: {first.answer.get('errorMessage')}")


def say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


def show(heading: str, without: Run, watched: Run, shown: list[Claim]) -> None:
    """Print both runs side by side, and the timelines below."""
    screen = Screen(sys.stdout)
    console = Console(width=screen.width, highlight=False)
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=10)
    table.add_column(ratio=43)
    table.add_column(ratio=57)  # with the watchdog there is more to tell
    table.add_row("", Text("WITHOUT THE WATCHDOG", "bold"), Text("WITH THE WATCHDOG", "bold"))
    for label, cell in _ROWS.items():
        table.add_row(label, cell(without), cell(watched))
    console.print(f"{heading}\n", table)
    for way, run in (("without", without), ("with", watched)):
        screen.show("")
        screen.show(f"{way} the watchdog:")
        for line in drawn(run.late, run.function.timeout, screen.width):
            screen.show(*line)
    console.print()
    for claim in shown:
        mark = ("shown", "green") if claim.shown else ("NOT SHOWN", "red")
        console.print(Text.assemble(mark, f": {claim.text}"))


def _good(is_good: bool, text: str) -> Text:  # noqa: FBT001 - a colour
    return Text(text, "green" if is_good else "red")


def _after(run: Run) -> Text:
    where = "past the limit" if run.spare < 0 else f"{run.spare:.2f} s before the limit"
    return Text(f"{run.late.seconds:.2f} s, {where}")


def _cleanup(run: Run) -> Text:
    marked = (line.at - run.late.began for line in run.late.lines if _MARKER in line.text)
    if (at := next(marked, None)) is not None:
        return _good(True, f"`{_MARKER}` ran after {at:.2f} s")
    if run.was_killed:
        return _good(False, f"no `{_MARKER}` ran: killed")
    return Text(f"its log has no `{_MARKER}`")


def _next(run: Run) -> Text:
    how = "warm: the same process" if run.is_warm else "cold: a new process"
    if run.after.kind != "response":
        how = f"failed: {_short(run.after.body)}"
    return _good(run.is_warm, f"{run.after.seconds * 1000:.0f} ms, {how}")


def _log(run: Run) -> Text:
    lines = []
    for line in run.late.lines:
        record = record_in(line.text)
        text = _short(spoken(line.text))
        if record is not None:
            text = f"watchdog.timeout in {record['location']}: {record['outcome']}"
        lines.append(Text(f"{line.at - run.late.began:.2f} {text}", "bold" if record else ""))
    return Text("\n").join(lines)


def _short(text: str) -> str:
    # The runtime separates the lines of one traceback with \r.
    text = printable(text.partition("\r")[0])
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


_ROWS: Final[dict[str, Callable[[Run], Text]]] = {
    "runtime": lambda run: Text(" ".join(["python", *run.function.command[1:]]), "dim"),
    "caller got": lambda run: _good(not run.was_killed, _short(run.late.body) or "nothing"),
    "after": _after,
    "cleanup": _cleanup,
    "next call": _next,
    "log": _log,
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    say("looking for AWS's Lambda emulator (downloaded once)")
    try:
        emulator = fetch_emulator()
    except EmulatorUnavailable as error:
        print(f"SKIPPED: no demo: {error}")
        return ending.SKIPPED
    try:
        without, watched = (run(options, emulator, is_watched=each) for each in (False, True))
    except CannotRun as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    shown = claims(without, watched)
    event, where = options.event.decode(), os.path.relpath(options.path)
    heading = (
        f"{options.handler} in {where}, called with {event}\n"
        f"AWS's Lambda emulator, limit {options.timeout:g} s, Python {sys.version.split()[0]}"
    )
    show(heading, without, watched, shown)
    return 0 if all(claim.shown for claim in shown) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = ending.parser(
        "dev.py demo",
        __doc__,
        "Exit status: 0 all of it was seen, 1 something was not, "
        f"{ending.SKIPPED} this machine cannot run it.",
    )
    add = parser.add_argument
    recipe = ROOT / "examples" / "sigalrm_recipe"
    add("--path", type=values.folder, default=recipe, metavar="DIR", help="the handler's folder")
    add("--handler", default="app.handler", metavar="NAME", help="module.function in there")
    add("--event", type=values.event, default='{"sleep": 30}', help="one that takes too long")
    add("--quick-event", type=values.event, default="{}", help="one that is answered at once")
    about = "the function's timeout in whole seconds (default: %(default)s)"
    add("--timeout", type=values.seconds, default="3", metavar="S", help=about)
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="may be given again")
    options = parser.parse_args(arguments)
    if options.timeout % 1:
        parser.error(f"--timeout {options.timeout:g}: AWS's emulator takes whole seconds")
    return options


if __name__ == "__main__":
    ending.run(main, "demo: interrupted; nothing is left running", signal.SIGHUP)
