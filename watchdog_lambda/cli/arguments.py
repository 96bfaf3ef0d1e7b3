"""The command line: what there is to say, what it says, and to whom it goes."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import watchdog_lambda

from . import values
from .function import CannotRun
from .screen import complain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

WRONG = 2
"""The exit status for wrong usage or configuration, as argparse has it."""

INTERRUPTED = 130
UNREAD = 141
"""Nobody reads what is written: 128 and SIGPIPE, as a shell has it."""

_DESCRIPTION = """\
Lambda handlers that end gracefully at their timeout: try them out, check them, run them.
"""

_EPILOG = """\
examples:
  watchdog-lambda invoke app.handler --event '{"id": 7}' --timeout 3
  watchdog-lambda check app.handler --timeout 30
  watchdog-lambda run app.handler                     in a container image, as its entrypoint

Each has a --help of its own. Settings are environment variables, WATCHDOG_LAMBDA_...
"""

_INVOKE = """\
Run one handler on one event, on this machine, as Lambda would: the real runtime (awslambdaric), the
watchdog, and a hard kill at the timeout. Then see what happened, drawn to scale.

It runs under AWS's Runtime Interface Emulator where there is one: --emulator, AWS_LAMBDA_RIE,
aws-lambda-rie on PATH, or the copy of an aws-sam-cli. Otherwise, and for timeouts of fractions of
seconds, under a small Runtime API of its own, which kills as hard.

Standard output has the answer and nothing else; standard error has what the handler writes, as it
writes it, and the timeline.
"""

_INVOKE_EPILOG = """\
examples:
  watchdog-lambda invoke app.handler
  watchdog-lambda invoke app.handler --event event.json --timeout 10 --repeat 2
  watchdog-lambda invoke app.handler --event '{}' --event slow.json --event '{}'
  echo '{"id": 7}' | watchdog-lambda invoke app.handler --event - | jq .statusCode
  watchdog-lambda invoke app.handler --timeout 0.8 --env WATCHDOG_LAMBDA_GRACE_PERIOD=0.3
  watchdog-lambda invoke app.handler --unwatched        what Lambda does without the watchdog

exit status, of several invocations the highest:
  0    the handler answered
  1    it ended with an error, or its process did
  2    wrong usage or configuration
  3    it timed out and the watchdog caught it: the caller has an answer or an error in time
  4    it was killed at the hard deadline
  130  Ctrl-C; nothing is left running
"""

_CHECK = """\
Look at the settings and where each comes from, at the handler that they lead to, and at the
timeline that a timeout would have. The handler's module is imported, and nothing is invoked.
"""

_CHECK_EPILOG = """\
examples:
  watchdog-lambda check app.handler --timeout 30
  watchdog-lambda check app.handler --env-file production.env --strict
  watchdog-lambda check --json                        the handler from WATCHDOG_LAMBDA_HANDLER

exit status:
  0    it can be run (with warnings, if not --strict)
  1    there are warnings, and --strict
  2    wrong usage, settings that cannot be used, a handler that cannot be found
"""

_RUN_HELP = "run a handler in Lambda, as a container image's entrypoint"


def parser() -> argparse.ArgumentParser:
    """The command's parser; also what shell completion is made of."""
    top = argparse.ArgumentParser(
        prog="watchdog-lambda",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"watchdog-lambda {watchdog_lambda.__version__}"
    top.add_argument("--version", action="version", version=version)
    _add_completion(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    invoke = _add(commands, "invoke", "run one handler on one event here", _INVOKE, _INVOKE_EPILOG)
    _add_function(invoke)
    option = invoke.add_argument
    option(
        "--event",
        type=values.event,
        action="append",
        metavar="EVENT",
        help="JSON, a file with JSON, or - for standard input (default: {}); given again: one "
        "invocation each",
    )
    option(
        "--memory",
        type=values.memory,
        default="128",
        metavar="MB",
        help="what the function is told; not enforced (default: %(default)s)",
    )
    option(
        "--repeat",
        type=values.count,
        default="1",
        metavar="N",
        help="all of that so often (default: %(default)s)",
    )
    option("--unwatched", action="store_true", help="without the watchdog, @watch included")
    option(
        "--emulator",
        metavar="PATH",
        help="AWS's emulator; none: the built-in Runtime API (default: the emulator if found)",
    )
    option("--json", action="store_true", help="everything as JSON, on standard output")
    check = _add(commands, "check", "look at settings, handler and timeline", _CHECK, _CHECK_EPILOG)
    _add_function(check)
    option = check.add_argument
    option("--strict", action="store_true", help="exit status 1 if there are warnings")
    option("--json", action="store_true", help="everything as JSON")
    # For the listing and for completion: whoever says "run" does not come here.
    run = commands.add_parser("run", help=_RUN_HELP, add_help=False)
    run.add_argument("handler", nargs="?", metavar="HANDLER")
    return top


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    epilog: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_function(command: argparse.ArgumentParser) -> None:
    option = command.add_argument
    option(
        "handler",
        nargs="?",
        metavar="HANDLER",
        help="module.function (default: WATCHDOG_LAMBDA_HANDLER, or _HANDLER)",
    )
    option(
        "--timeout",
        type=values.seconds,
        default="3",
        metavar="SECONDS",
        help="the function's timeout (default: %(default)s, as in Lambda)",
    )
    option(
        "--path",
        type=values.folder,
        default=".",
        metavar="DIR",
        help="the function's folder (default: the working directory)",
    )
    option(
        "--env",
        type=values.variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of the function; may be given again and again",
    )
    option(
        "--env-file",
        type=values.variables,
        default={},
        metavar="FILE",
        help="a file of them, one a line; --env goes before it",
    )


def _add_completion(top: argparse.ArgumentParser) -> None:
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return
    shtab.add_argument_to(top, "--print-completion", help="print a completion script for a shell")


def main(arguments: Sequence[str]) -> int:
    """Run `invoke` or `check`; the exit status. Thread: main."""
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a handler writes is beyond us
    try:
        if options.command == "invoke":
            for number in _ENDS:
                # Ignored by nohup, which is to hold.
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, _interrupted)
            from .invoke import invoke  # noqa: PLC0415 - one or the other

            return invoke(options)
        from .check import check  # noqa: PLC0415 - one or the other

        return check(options)
    except CannotRun as error:
        complain(str(error))
        return WRONG
    except KeyboardInterrupt:
        complain("interrupted; nothing is left running")
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more. The interpreter would flush the stream once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupted(_signum: int, _frame: FrameType | None) -> NoReturn:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)  # what follows is short, and must not be cut short
    raise KeyboardInterrupt
