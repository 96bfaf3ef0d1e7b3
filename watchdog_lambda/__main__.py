"""``python -m watchdog_lambda [app.handler]``: Lambda's runtime client with a watched handler."""

from __future__ import annotations

import os
import sys

from ._lambda import command
from .errors import ConfigurationError

_ENTRYPOINT = "watchdog_lambda.entrypoint.handler"

_HELP = """\
usage: {program} [HANDLER]

Run a Lambda handler under the watchdog, as a container image's entrypoint:

    ENTRYPOINT {entrypoint}
    CMD ["app.handler"]

HANDLER is module.function, for example app.handler. Without it, WATCHDOG_LAMBDA_HANDLER or _HANDLER
names the handler; WATCHDOG_LAMBDA_HANDLER overrides all others.

Lambda sets AWS_LAMBDA_RUNTIME_API. On your own machine AWS's Runtime Interface Emulator does:

    aws-lambda-rie {program} app.handler

Settings are environment variables:

{settings}

To try a handler out on this machine: watchdog-lambda invoke --help

exit codes: 2 for a wrong call; otherwise the runtime's own.
"""


def main(arguments: list[str], program: str = "python -m watchdog_lambda") -> int:
    """Hand over to awslambdaric. Returns only if that is not possible.

    `program` is what the user typed before the arguments, for the messages.
    """
    if arguments and arguments[0] in {"-h", "--help"}:
        print(_help(program), end="")  # noqa: T201
        return 0
    if len(arguments) > 1:
        return _complain(f"one handler at most, not {len(arguments)}: {' '.join(arguments)}")
    if arguments and arguments[0].startswith("-"):
        return _complain(f"no such option: {arguments[0]}")
    command.handler = arguments[0] if arguments else None
    if not os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        return _complain(
            "AWS_LAMBDA_RUNTIME_API is not set: this is not Lambda, nor its emulator; to run the "
            "handler on this machine: watchdog-lambda invoke app.handler, or under AWS's emulator: "
            f"aws-lambda-rie {program} app.handler"
        )
    try:
        import awslambdaric.__main__ as runtime  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "awslambdaric":
            raise
        return _complain(
            "awslambdaric, Lambda's runtime interface client, is not installed: "
            "pip install 'watchdog-lambda[runtime]'"
        )
    # AWS's own __main__ has the runtime under this name. Sentry and others look for it there in
    # order to patch it, and disable themselves if it is missing.
    globals()["awslambdaricmain"] = runtime
    try:
        # Let the runtime import the entrypoint, so that it posts any failure there to Lambda as an
        # init error, and logs it in its own format.
        runtime.main([sys.argv[0], _ENTRYPOINT])  # pyright: ignore[reportUnknownMemberType]
    except ConfigurationError as error:
        return _complain(str(error))
    return 0


def _help(program: str) -> str:
    import textwrap  # noqa: PLC0415 - rarely needed

    from ._config import SETTINGS  # noqa: PLC0415

    words = ", ".join(f'"{word}"' for word in program.split())
    indent = " " * 8
    told = textwrap.TextWrapper(100, initial_indent=indent, subsequent_indent=indent)
    settings = "\n".join(
        f"    {setting.variable}\n{told.fill(setting.meaning)}" for setting in SETTINGS.values()
    )
    return _HELP.format(program=program, entrypoint=f"[{words}]", settings=settings)


def _complain(problem: str) -> int:
    print(f"watchdog_lambda: {problem}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
