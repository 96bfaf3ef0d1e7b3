"""``watchdog-lambda invoke``: a function run here as Lambda would run it, and what came of it."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from watchdog_lambda import ConfigurationError
from watchdog_lambda._config import SETTINGS, Settings
from watchdog_lambda._lambda.command import choose

from . import emulator_path
from .builtin import Builtin
from .emulator import Emulator
from .function import CannotRun, Function, environment, inherited
from .outcome import EXIT_STATUS, outcome_of
from .view import JsonView, TextView

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from .function import Invocation


def invoke(options: argparse.Namespace) -> int:
    """Run the command; the exit status.

    Raises:
        CannotRun: wrong configuration, or a host that does not start.
    """
    function = function_of(options)
    path, note = host_for(options.emulator, function.timeout)
    view = JsonView(function, path) if options.json else TextView(function, path, note)
    host = Builtin(function, view.line) if path is None else Emulator(path, function, view.line)
    invocations: list[Invocation] = []
    with host:
        for event in (options.event or [b"{}"]) * options.repeat:
            with view.waiting():
                invocation = host.invoke(event, view.on_start)
            invocations.append(invocation)
            view.show(invocation)
        status = max(EXIT_STATUS[outcome_of(each)] for each in invocations)
        view.end(status, host.close())
    return status


def function_of(options: argparse.Namespace) -> Function:
    """What the options say is to be run.

    Raises:
        CannotRun: no handler, settings that cannot be used, no runtime.
    """
    if importlib.util.find_spec("awslambdaric") is None:
        raise CannotRun(
            "awslambdaric, Lambda's runtime interface client, is not installed: "
            "pip install 'watchdog-lambda[runtime]'"
        )
    given = {**options.env_file, **dict(options.env)}
    try:
        handler = handler_of(options.handler, given)
        known = {setting.variable for setting in SETTINGS.values()}
        # The runtime warns of the others in the function's log.
        settings = {n: v for n, v in {**inherited(), **given}.items() if n in known}
        Settings.from_environ(settings)
    except ConfigurationError as error:
        raise CannotRun(str(error)) from error
    environ = environment(
        given,
        handler=handler,
        memory=options.memory,
        is_watched=not options.unwatched,
    )
    environ.pop("WATCHDOG_LAMBDA_HANDLER", None)  # it has been heard
    return Function(
        handler=handler,
        folder=options.path,
        timeout=options.timeout,
        memory=options.memory,
        environ=environ,
        is_watched=not options.unwatched,
    )


def handler_of(argument: str | None, given: Mapping[str, str]) -> str:
    """The handler, by the entrypoint's precedence.

    The command line overrides the shell's environment, though: a WATCHDOG_LAMBDA_HANDLER
    that is set there is not meant for this one call.

    Raises:
        ConfigurationError: none, or ourselves.
    """
    return choose(given if argument else {**os.environ, **given}, argument)


def host_for(wanted: str | None, timeout: float) -> tuple[str | None, str]:
    """The emulator's path, or None for the built-in Runtime API; and what to say about it.

    Raises:
        CannotRun: an emulator was named that cannot serve.
    """
    if wanted == "none":
        return None, ""
    source = "--emulator"
    if wanted is None and os.environ.get(emulator_path.VARIABLE):
        source, wanted = emulator_path.VARIABLE, os.environ[emulator_path.VARIABLE]
    is_whole = timeout == int(timeout)
    if wanted is not None:
        if not os.path.isfile(wanted) or not os.access(wanted, os.X_OK):
            raise CannotRun(
                f"{source}={wanted}: not an executable file; give the path of aws-lambda-rie, or "
                "--emulator none for the built-in Runtime API"
            )
        if not is_whole:
            raise CannotRun(
                f"--timeout {timeout:g}: AWS's emulator takes whole seconds; use for example "
                f"--timeout {int(timeout) + 1}, or --emulator none for the built-in Runtime API"
            )
        return os.path.abspath(wanted), ""
    found = emulator_path.find()
    if found is not None and not is_whole:
        return None, "the emulator takes whole seconds"
    return found, ""
