"""The public functions for the time after a timeout: its hooks, and which libraries recover."""

from __future__ import annotations

from ._engine import aftermath
from ._hooks import hook_name
from ._signatures import check_hook
from .errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .details import TimeoutDetails

    AfterHook = TypeVar("AfterHook", bound=Callable[[TimeoutDetails], object])

__all__ = ["after_timeout", "recovers"]


def after_timeout(hook: AfterHook, /) -> AfterHook:
    """Register a function to call after a timeout, once the answer is made, before the next event.

    Use it to drop a connection that the timeout has left in the middle of its protocol, so that the
    next invocation opens a new one. The function gets the :class:`TimeoutDetails`. It may ask for a
    fresh process (``details.recycle()``) or say that none is needed (``details.keep()``); see the
    setting ``RECYCLE``.

    It runs in the handler's thread after the handler has ended, so it may use what belongs to the
    handler. The last registered runs first. One that raises is recorded and does not stop the
    others. The caller's answer waits for these hooks, so last call cuts them short.

    Args:
        hook: the function. It is returned unchanged, so this works as a decorator.

    Raises:
        ConfigurationError: not a callable, an async one, or one that does not take the details.

    Thread: any.
    """
    check_hook(hook, "after_timeout", "details", may_be_async=False)
    aftermath.hooks.add(hook_name(hook), hook)
    return hook


def recovers(*libraries: str) -> None:
    """Declare that libraries keep working after an interrupt, wherever in them it has landed.

    With ``RECYCLE=auto`` the process is then kept after a timeout inside one of them. It is enough
    to name the library that the handler calls, if that library looks after those it uses itself.

    Args:
        *libraries: top-level packages, as in ``import``: ``"mylib"``.

    Raises:
        ConfigurationError: not the name of a top-level package.

    Thread: any.
    """
    for library in libraries:
        if not (isinstance(library, str) and library.isidentifier()):
            raise ConfigurationError(
                f"recovers({library!r}): not the name of a top-level package; "
                'use for example recovers("mylib")'
            )
        aftermath.recovering.add(library)
