"""Registering hooks: for the watchdog's stages, for one block, for the sandbox's end."""

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
        """Speaks to type checkers only."""
        return function


__all__ = ["sandbox_shutdown_hook", "scoped_hook", "shutdown_hook"]


class scoped_hook:  # noqa: N801 - used like a function
    """Register a shutdown hook for one block only: ``with scoped_hook(release, lock_id): ...``.

    Called as ``release(lock_id)``, without details, if the watchdog fires inside of the block;
    before the hooks that were registered earlier. Not called at the end of the block: what must
    happen then belongs there.

    It shares the budget of the grace period's hooks, and runs on a thread of its own while the
    block goes on. Whether it runs just before or just after the block has ended, where the two
    fall together, is not promised: it must bear either.

    Args:
        function: what to call; its result is ignored, and an error is recorded and stops nobody.
        *args: handed on to it.
        **kwargs: handed on to it.

    Raises:
        ConfigurationError: not a callable, or not one of these arguments.

    Thread: any. An instance may be entered once at a time.
    """

    __slots__ = ("_call", "_key", "_name")

    def __init__(self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        from ._signatures import check_scoped  # noqa: PLC0415 - for those who use it

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
    """Have a function called when the watchdog fires, one grace period before the hard deadline.

    It gets the :class:`TimeoutDetails`, runs on a thread of its own while the handler still runs
    (so it must be safe for that), and shares the stage's budget with the other hooks: the last
    registered runs first, one that raises or hangs stops no other, and when the budget is spent the
    interrupt goes ahead. A stage that has begun is seen through, within its budget, even if the
    handler ends first. An ``async def`` hook runs on an event loop of its own, in that thread: what
    belongs to the handler's loop, a connection for example, cannot be awaited there.

    Args:
        hook: the function; returned unchanged, so this serves as a decorator.
        before: a stage of its own, this many seconds ahead of the hard deadline; at the earliest
            when a quarter of the invocation's time has passed.

    Raises:
        ConfigurationError: `before` is not a positive number of seconds, or the hook cannot be
            called with the details.

    Thread: any.
    """
    return register(shared, hook, before)


def sandbox_shutdown_hook(hook: SandboxHook, /) -> SandboxHook:
    """Have a function called, without arguments, when Lambda ends the sandbox.

    With ``WATCHDOG_LAMBDA_SIGTERM=1`` only: without an internal extension Lambda gives no notice.
    All hooks share 400 ms of the 500 ms that it gives, by AWS's documentation of the environment's
    life cycle: the last registered runs first, one that
    raises or hangs stops no other. They run on a thread of their own, while the process is idle or
    in the middle of an invocation. Not promised: Lambda also ends sandboxes without notice, and a
    SIGTERM handler of yours that exits cuts them short.

    Not in Managed Instances, and not in child processes.

    Raises:
        ConfigurationError: not a callable, an async one, or one that takes arguments.

    Thread: any.
    """
    from ._lambda import sandbox  # noqa: PLC0415 - for those who use it
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
    """Register a shutdown hook, or give the decorator that does.

    Raises:
        ConfigurationError: not a hook, or `before` is not a positive number of seconds.
    """
    # bool is an int, and True no number of seconds.
    is_number = isinstance(before, int | float) and not isinstance(before, bool)
    if before is not None and not (is_number and 0 < before < math.inf):
        raise ConfigurationError(
            f"before={before!r} is not a number of seconds ahead of the hard deadline; "
            "use for example 10.0"
        )

    def decorate(hook: Any) -> Any:
        from ._signatures import check_hook  # noqa: PLC0415 - for those who use it

        check_hook(hook, "shutdown_hook", "details", may_be_async=True)
        call = _run(hook) if is_coroutine_function(hook) else hook
        registry.add(hook_name(hook), call, before)
        if before is not None:
            process_watchdog.reschedule()
        return hook

    return decorate if hook is None else decorate(hook)


def _run(hook: Callable[..., Any]) -> Callable[..., None]:
    """A plain function that runs an ``async def`` hook to its end, on a loop of its own."""
    # Now, not when the watchdog fires: importing it takes some 50 ms.
    import asyncio  # noqa: PLC0415 - for those who use it

    def run(*args: Any) -> None:
        # Not asyncio.run(), nor the runner's own: before Python 3.13 those leave an entry for this
        # thread in threading's list of threads, for good.
        with asyncio.Runner() as runner:
            runner.get_loop().run_until_complete(hook(*args))

    return run
