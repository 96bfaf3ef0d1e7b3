"""Registration of hooks: for the watchdog's stages, for one block, for the sandbox's end."""

from __future__ import annotations

import functools
import math
import os

from ._async import is_coroutine_function
from ._config import Settings
from ._hooks import hook_name, shared
from ._log import logger
from ._process import process_watchdog
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar, overload

    from ._hooks import HookRegistry
    from .details import TimeoutDetails

    P = ParamSpec("P")
    Hook = TypeVar("Hook", bound=Callable[[TimeoutDetails], object])
    SandboxHook = TypeVar("SandboxHook", bound=Callable[[], object])
else:

    def overload(function: object) -> object:
        """For type checkers only."""
        return function


__all__ = ["sandbox_shutdown_hook", "scoped_hook", "shutdown_hook"]


class scoped_hook:  # noqa: N801 - used like a function
    """Register a shutdown hook for one block only: ``with scoped_hook(release, lock_id): ...``.

    If the watchdog fires inside the block, the hook is called as ``release(lock_id)``, without
    details, before the hooks that were registered earlier. It is not called at the end of the
    block; put there what must happen then.

    It shares the budget of the grace period's hooks, and runs on its own thread while the block
    continues. If the watchdog fires just as the block ends, the hook may run shortly before or
    after that end, and must tolerate both.

    Args:
        function: the function to call. Its result is ignored; an error is recorded and does not
            stop other hooks.
        *args: its positional arguments.
        **kwargs: its keyword arguments.

    Raises:
        ConfigurationError: not a callable, or it does not take these arguments.

    Thread: any. An instance can be entered by one block at a time.
    """

    __slots__ = ("_call", "_key", "_name")

    def __init__(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        from ._signatures import check_scoped  # noqa: PLC0415 - only if used

        check_scoped(function, len(args), kwargs.keys())
        self._name = hook_name(function)
        call = functools.partial(function, *args, **kwargs)
        self._call = _run(call) if is_coroutine_function(function) else call
        self._key: int | None = None

    def __enter__(self) -> None:
        call = self._call
        self._key = shared.add(self._name, lambda _details: call())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._key is not None:
            shared.remove(self._key)


@overload
def shutdown_hook(hook: Hook, /) -> Hook: ...
@overload
def shutdown_hook(*, before: float | None = None) -> Callable[[Hook], Hook]: ...
def shutdown_hook(hook: Any = None, /, *, before: float | None = None) -> Any:
    """Register a function to call when the watchdog fires, one grace period before the deadline.

    The function gets the :class:`TimeoutDetails`. It runs on its own thread while the handler still
    runs, so it must be thread-safe. The hooks of a stage share its budget: the last registered runs
    first, and a hook that raises or hangs does not stop the others. When the budget is used up, the
    interrupt goes ahead. A stage that has begun is completed, within its budget, even if the
    handler ends first. An ``async def`` hook runs in that thread, on its own event loop: it cannot
    await what belongs to the handler's loop, such as a connection.

    Args:
        hook: the function. It is returned unchanged, so this works as a decorator.
        before: gives the hook a separate stage, this many seconds before the hard deadline, but no
            earlier than after a quarter of the invocation's time.

    Raises:
        ConfigurationError: `before` is not a positive number of seconds, or the hook cannot be
            called with the details.

    Thread: any.
    """
    return register(shared, hook, before)


def sandbox_shutdown_hook(hook: SandboxHook, /) -> SandboxHook:
    """Register a function to call, without arguments, when Lambda ends the sandbox.

    This requires ``WATCHDOG_LAMBDA_SIGTERM=1``: without an internal extension Lambda gives no
    notice. According to AWS's documentation of the environment's life cycle it gives 500 ms; all
    hooks share 400 ms of them. The last registered runs first, and a hook that raises or hangs does
    not stop the others. Hooks run on their own thread, while the process is idle or in the middle
    of an invocation. They are not guaranteed to run: Lambda also ends sandboxes without notice, and
    a SIGTERM handler of your own that exits cuts them short.

    They do not run in Managed Instances, nor in child processes.

    Raises:
        ConfigurationError: not a callable, an async one, or one that takes arguments.

    Thread: any.
    """
    from ._lambda import sandbox  # noqa: PLC0415 - only if used
    from ._signatures import check_hook  # noqa: PLC0415

    check_hook(hook, "sandbox_shutdown_hook", "", may_be_async=False)
    name = hook_name(hook)
    sandbox.hooks.add(name, lambda _details: hook())
    if "AWS_LAMBDA_RUNTIME_API" in os.environ and not Settings.from_environ(os.environ).sigterm:
        logger().warning(
            "sandbox_shutdown_hook(%s) never runs: Lambda gives no notice of the sandbox's end; "
            "set WATCHDOG_LAMBDA_SIGTERM=1",
            name,
        )
    return hook


def register(registry: HookRegistry, hook: Any, before: float | None) -> Any:
    """Register a shutdown hook, or return the decorator that does.

    Raises:
        ConfigurationError: not a hook, or `before` is not a positive number of seconds.
    """
    # bool is an int, but True is not a number of seconds.
    is_number = isinstance(before, int | float) and not isinstance(before, bool)
    if before is not None and not (is_number and 0 < before < math.inf):
        raise ConfigurationError(
            f"before={before!r} is not a number of seconds ahead of the hard deadline; "
            "use for example 10.0"
        )

    def decorate(hook: Any) -> Any:
        from ._signatures import check_hook  # noqa: PLC0415 - only if used

        check_hook(hook, "shutdown_hook", "details", may_be_async=True)
        call = _run(hook) if is_coroutine_function(hook) else hook
        registry.add(hook_name(hook), call, before)
        if before is not None:
            process_watchdog.reschedule()
        return hook

    return decorate if hook is None else decorate(hook)


def _run(hook: Callable[..., Any]) -> Callable[..., None]:
    """Return a plain function that runs an ``async def`` hook to its end, on its own loop."""
    # Import it now, not when the watchdog fires: it takes some 50 ms.
    import asyncio  # noqa: PLC0415 - only if used

    def run(*args: Any) -> None:
        # Do not use asyncio.run() or Runner.run(): before Python 3.13 they leave an entry for this
        # thread in threading's list of threads forever.
        with asyncio.Runner() as runner:
            runner.get_loop().run_until_complete(hook(*args))

    return run
