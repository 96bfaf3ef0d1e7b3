"""What the settings ask of the process, done once, at its start.

A check for most: only ``LAST_RESORT`` other than ``report`` and ``SIGTERM=1`` need the Runtime API
and something that must be seen or registered before the first invocation.
"""

from __future__ import annotations

from watchdog_lambda._cpython.delivery import refusal_without_gil
from watchdog_lambda._engine.watchdog import process_watchdog
from watchdog_lambda._log import logger
from watchdog_lambda.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from watchdog_lambda._config import Settings

    from .runtime_api import RuntimeApi

_done: set[str] = set()
_past: dict[str, str] = {}
"""What the program that ran in this process before a restart has left, and what the next is left.

Filled once; a mutable one, since what is done here comes in the settings' order.
"""


def prepare(settings: Settings, environ: MutableMapping[str, str]) -> None:
    """Do what `settings` ask for and has not been done.

    Outside of Lambda, where no Runtime API is, there is nothing to be done. In Managed Instances
    neither is to be had, since ending a process there ends others' invocations or a worker for
    good, and the log says so.

    Raises:
        ConfigurationError: Python runs without its GIL.

    Thread: main, before the first invocation.
    """
    if (refusal := refusal_without_gil()) is not None:
        raise ConfigurationError(refusal)
    wanted: set[str] = set()
    if settings.sigterm:
        wanted.add("SIGTERM=1")
    if settings.last_resort != "report":
        wanted.add(f"LAST_RESORT={settings.last_resort}")
    wanted -= _done
    address = environ.get("AWS_LAMBDA_RUNTIME_API")
    if not wanted or not address:
        return
    _done.update(wanted)
    if environ.get("AWS_LAMBDA_MAX_CONCURRENCY"):
        logger().warning("%s has no effect in Managed Instances", ", ".join(sorted(wanted)))
        return

    from .process import take_past  # noqa: PLC0415 - for those who use it
    from .runtime_api import RuntimeApi  # noqa: PLC0415

    api = RuntimeApi(address)
    _past.update(take_past(environ))
    if "SIGTERM=1" in wanted:
        _listen(api)
    if settings.last_resort != "report" and process_watchdog.last_resort is None:
        from .last_resort import LastResort  # noqa: PLC0415
        from .process import Start  # noqa: PLC0415

        try:
            process_watchdog.last_resort = LastResort(api, Start(), _past)
        except OSError as error:  # no /proc
            logger().warning("LAST_RESORT=%s has no effect: %s", settings.last_resort, error)


def _listen(api: RuntimeApi) -> None:
    from .sandbox import Sandbox  # noqa: PLC0415

    try:
        sandbox = Sandbox(process_watchdog.clock)
        sandbox.listen()
    except (ValueError, RuntimeError, OSError) as error:
        # Not the main thread, no thread or no descriptor to be had: the start goes on.
        logger().warning("SIGTERM=1 has no effect: %s", error)
        return
    # A restart keeps the registration; a second one would be refused.
    if "extension" not in _past:
        identifier = sandbox.register(api)
        if identifier is not None:
            _past["extension"] = identifier
