"""The command line: its parser, and dispatch to the commands."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import watchdog_lambda

from . import texts, values
from .function import CannotRun
from .screen import complain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

WRONG = 2
"""The exit status for wrong usage or configuration, as in argparse."""

INTERRUPTED = 130
UNREAD = 141
"""The exit status when the reader of our output is gone: 128 plus SIGPIPE, as in a shell."""


def parser() -> argparse.ArgumentParser:
    """Build the command's parser. Shell completion is made from it too."""
    top = argparse.ArgumentParser(
        prog="watchdog-lambda",
        description=texts.DESCRIPTION,
        epilog=texts.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    version = f"watchdog-lambda {watchdog_lambda.__version__}"
    top.add_argument("--version", action="version", version=version)
    _add_completion(top)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    invoke = _add(
        commands, "invoke", "run one handler on one event here", texts.INVOKE, texts.INVOKE_EPILOG
    )
    _add_function(invoke)
    option = invoke.add_argument
    option(
        "--timeout",
        type=values.seconds,
        default="3",
        metavar="SECONDS",
        help="the function's timeout (default: %(default)s, as in Lambda)",
    )
    option(
        "--event",
        type=values.event,
        action="append",
        metavar="EVENT",
        help="JSON, a file with JSON, or - for standard input (default: {}); may be repeated, for "
        "one invocation each",
    )
    option(
        "--memory",
        type=values.memory,
        default="128",
        metavar="MB",
        help="the memory that the function is told it has; not enforced (default: %(default)s)",
    )
    option(
        "--repeat",
        type=values.count,
        default="1",
        metavar="N",
        help="how many times to send all events (default: %(default)s)",
    )
    option("--unwatched", action="store_true", help="run without the watchdog, @watch included")
    option(
        "--emulator",
        metavar="PATH",
        help="AWS's emulator, or none for the built-in Runtime API (default: emulator if found)",
    )
    option("--json", action="store_true", help="everything as JSON, on standard output")
    check = _add(
        commands, "check", "look at settings, handler and timeline", texts.CHECK, texts.CHECK_EPILOG
    )
    _add_function(check)
    option = check.add_argument
    option(
        "--timeout",
        type=values.seconds,
        metavar="SECONDS",
        help="the function's timeout (default: the template's, or 3, as in Lambda)",
    )
    option(
        "--caller-timeout",
        type=values.seconds,
        metavar="SECONDS",
        help="how long the function's caller waits, 29 for API Gateway (default: the template's)",
    )
    option(
        "--template",
        type=values.file,
        metavar="FILE",
        help="a SAM or CloudFormation template that has the function",
    )
    option("--strict", action="store_true", help="exit status 1 if there are warnings")
    option("--json", action="store_true", help="everything as JSON")
    # Only for the help's list and for completion: __init__ has handled "run" before we get here.
    run = commands.add_parser("run", help=texts.RUN_HELP, add_help=False)
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
        help="an environment variable for the function; may be repeated",
    )
    option(
        "--env-file",
        type=values.variables,
        default={},
        metavar="FILE",
        help="a file of environment variables, one per line; --env overrides it",
    )


def _add_completion(top: argparse.ArgumentParser) -> None:
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return
    shtab.add_argument_to(top, "--print-completion", help="print a completion script for a shell")


def main(arguments: Sequence[str]) -> int:
    """Run `invoke` or `check` and return the exit status. Thread: main."""
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a handler may write anything
    try:
        if options.command == "invoke":
            for number in _ENDS:
                # nohup ignores SIGHUP; leave it so.
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
        # The reader is gone. At exit the interpreter would flush the stream again and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupted(_signum: int, _frame: FrameType | None) -> NoReturn:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)  # the cleanup is short; let it finish
    raise KeyboardInterrupt
