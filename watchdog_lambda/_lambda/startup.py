"""Prepares the process as the settings ask, once, at its start.

Mostly this is little: it notes the process's initial state, so that the program can be restarted
after a timeout. Only ``LAST_RESORT`` other than ``report`` and ``SIGTERM=1`` need the Runtime API,
and a registration before the first invocation.
"""

from __future__ import annotations

from watchdog_lambda._cpython.delivery import refusal_without_gil
from watchdog_lambda._engine import aftermath
from watchdog_lambda._engine.severing import spared
from watchdog_lambda._log import logger
from watchdog_lambda._process import process_watchdog
from watchdog_lambda.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import MutableMapping

    from watchdog_lambda._config import Settings
    from watchdog_lambda._plan import Plan

    from .plain_http import PlainApi
    from .process import Start
    from .supervised import Supervised

_ADDRESS = "AWS_LAMBDA_RUNTIME_API"
_IS_MANAGED = "AWS_LAMBDA_MAX_CONCURRENCY"
_HOW_INITIALIZED = "AWS_LAMBDA_INITIALIZATION_TYPE"

_done: set[str] = set()
_past: dict[str, str] = {}
"""What the process has done already, and a restarted one must not do again.

It is filled once, and changed in place, because the settings are handled one after the other.
"""

_supervised: list[Supervised] = []
"""This process's connection to its supervisor, if it has one."""

_registered: list[socket | None] = []
"""The connection that keeps the extension registered; None if it was refused."""

_starts: list[Start] = []
"""The initial state of this process, noted once; empty outside Lambda."""

_NOT_IMPORTED_FIRST = (
    "only the entrypoint, which Lambda imports before the handler, can start it; "
    "see Choosing the handler"
)


def prepare(
    settings: Settings, environ: MutableMapping[str, str], *, is_entrypoint: bool = False
) -> None:
    """Do everything that `settings` ask for and that has not been done yet.

    Outside Lambda, where there is no Runtime API, there is nothing to do. In Managed Instances only
    ``supervise`` is available, because a process that ends there is a worker lost; the log says so.

    With ``supervise`` this returns in a different process from the one that called it; see
    :mod:`.supervise`.

    Raises:
        ConfigurationError: Python runs without its GIL.

    Thread: main, before the first invocation. `is_entrypoint` says that none of the user's code has
    been imported.
    """
    if (refusal := refusal_without_gil()) is not None:
        raise ConfigurationError(refusal)
    spared.add(environ.get(_ADDRESS, ""))  # the runtime's own connection is never cut
    address = environ.get(_ADDRESS)
    if not address:
        return
    if not _done:
        _note_start(environ)
    wanted = _wanted(settings) - _done
    _done.update(wanted)
    if wanted:
        _do(wanted, settings, environ, is_entrypoint=is_entrypoint)


def _do(
    wanted: set[str],
    settings: Settings,
    environ: MutableMapping[str, str],
    *,
    is_entrypoint: bool,
) -> None:
    from .plain_http import PlainApi  # noqa: PLC0415 - only if used

    api = PlainApi(environ[_ADDRESS])
    is_managed = bool(environ.get(_IS_MANAGED))
    if settings.last_resort == "supervise" and process_watchdog.last_resort is None:
        # Do this first: after it this is a different process.
        wanted.discard("LAST_RESORT=supervise")
        sigterm = settings.sigterm and not is_managed
        if not _supervise(api, settings, environ, sigterm=sigterm, is_entrypoint=is_entrypoint):
            wanted.add("LAST_RESORT=exit")
    if is_managed:
        if wanted:
            logger().warning("%s has no effect in Managed Instances", ", ".join(sorted(wanted)))
        return
    if "SIGTERM=1" in wanted:
        _listen(api)
    if "LAST_RESORT=exit" in wanted and process_watchdog.last_resort is None:
        _answer_and_exit(api)


def _note_start(environ: MutableMapping[str, str]) -> None:
    """Note the initial state of this process, which allows it to be restarted later."""
    from .process import Start, take_past  # noqa: PLC0415 - not outside Lambda

    _done.add("start")
    _past.update(take_past(environ))
    try:
        _starts.append(Start(_past))
    except OSError:
        return  # no /proc
    if not environ.get(_IS_MANAGED):  # their parent process waits for the workers' end
        aftermath.renewal = _starts[0]


def _wanted(settings: Settings) -> set[str]:
    wanted: set[str] = set()
    if settings.sigterm:
        wanted.add("SIGTERM=1")
    if settings.last_resort != "report":
        wanted.add(f"LAST_RESORT={settings.last_resort}")
    return wanted


def end_init(settings: Settings, environ: MutableMapping[str, str], plan: Plan) -> None:
    """Prepare what the first invocation would otherwise wait for, and publish the plan.

    At init Lambda gives every function a full processor; the first invocation may get a fourteenth
    of one. If the process is copied after its init, the first invocation of each copy starts the
    thread instead: a fork of Managed Instances' workers would not include it, and what a snapshot
    of SnapStart does to a kernel timer has not been observed.

    Thread: main.
    """
    process_watchdog.preload()
    is_copied = environ.get(_IS_MANAGED) or environ.get(_HOW_INITIALIZED) == "snap-start"
    if environ.get(_ADDRESS) and not is_copied:
        process_watchdog.get_ready(settings.wake_signal)
    for start in _starts:
        start.init_ends()
    for supervised in _supervised:
        supervised.publish(plan)


def _supervise(
    api: PlainApi,
    settings: Settings,
    environ: MutableMapping[str, str],
    *,
    sigterm: bool,
    is_entrypoint: bool,
) -> bool:
    """Start the supervisor; False if that is not possible, which is logged."""
    why = _NOT_IMPORTED_FIRST
    if is_entrypoint:
        try:
            from .supervise import Refusal, begin  # noqa: PLC0415
        except (ImportError, AttributeError) as error:  # a Python without mmap; no Linux
            return _refused(str(error))
        if sigterm:
            _register(api)  # before the fork: the supervisor keeps the registration
        try:
            supervised = begin(environ[_ADDRESS], settings, environ)
        except Refusal as refusal:
            why = str(refusal)
        else:
            _supervised.append(supervised)
            process_watchdog.last_resort = aftermath.renewal = supervised
            for connection in filter(None, _registered):
                connection.close()  # the supervisor's
            return True
    return _refused(why)


def _refused(why: str) -> bool:
    logger().warning("LAST_RESORT=supervise is not available, so exit is used instead: %s", why)
    return False


def _answer_and_exit(api: PlainApi) -> None:
    from .last_resort import Exit  # noqa: PLC0415

    if _starts:
        process_watchdog.last_resort = Exit(api, _starts[0].at)
    else:
        logger().warning("LAST_RESORT=exit has no effect: there is no /proc")


def _listen(api: PlainApi) -> None:
    from .sandbox import Sandbox  # noqa: PLC0415

    try:
        sandbox = Sandbox(process_watchdog.clock)
        sandbox.listen()
    except (ValueError, RuntimeError, OSError) as error:
        # Not the main thread, or no thread or descriptor is available: the start continues.
        logger().warning("SIGTERM=1 has no effect: %s", error)
        return
    _register(api)


def _register(api: PlainApi) -> None:
    """Register the extension, unless that was tried already: a second one would be refused."""
    from .sandbox import announced_by  # noqa: PLC0415

    if "extension" in _past or _registered:
        return
    _registered.append(announced_by(api))
    if _registered[0] is not None:
        _past["extension"] = ""
