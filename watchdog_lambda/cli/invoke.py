"""``watchdog-lambda invoke``: run a function here as Lambda would, and show what happened."""

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
    """Run the command and return its exit status.

    Raises:
        CannotRun: the configuration is wrong, or the host does not start.
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
    """Return the function that the options describe.

    Raises:
        CannotRun: there is no handler or no runtime, or the settings cannot be used.
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
        # The runtime warns about unknown settings, in the function's log.
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
    environ.pop("WATCHDOG_LAMBDA_HANDLER", None)  # it is in `handler` now
    return Function(
        handler=handler,
        folder=options.path,
        timeout=options.timeout,
        memory=options.memory,
        environ=environ,
        is_watched=not options.unwatched,
    )


def handler_of(argument: str | None, given: Mapping[str, str]) -> str:
    """Choose the handler by the entrypoint's precedence, with one exception.

    The command line overrides a WATCHDOG_LAMBDA_HANDLER that is set in the shell, because that one
    is not meant for this one call.

    Raises:
        ConfigurationError: no handler is named, or it is in this package itself.
    """
    return choose(given if argument else {**os.environ, **given}, argument)


def host_for(wanted: str | None, timeout: float) -> tuple[str | None, str]:
    """Return the emulator's path, or None for the built-in Runtime API, and a note for the user.

    Raises:
        CannotRun: the emulator that was named cannot be used.
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
