"""What users say about the time after a timeout: hooks, and which libraries recover."""

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
    """Have a function called after a timeout, between the answer's making and the next event.

    The place to drop a connection that the timeout has left in the middle of its protocol, so that
    the next invocation makes a new one. It gets the :class:`TimeoutDetails`, and may ask for a
    fresh process (``details.recycle()``) or say that there is no need for one
    (``details.keep()``); see the setting ``RECYCLE``.

    It runs in the handler's thread, which has ended with the handler's work, so it may use what
    belongs to the handler. The last registered runs first; one that raises is recorded and stops no
    other. Last call cuts them short: the caller's answer waits for them.

    Args:
        hook: the function; returned unchanged, so this serves as a decorator.

    Raises:
        ConfigurationError: not a callable, an async one, or one that does not take the details.

    Thread: any.
    """
    check_hook(hook, "after_timeout", "details", may_be_async=False)
    aftermath.hooks.add(hook_name(hook), hook)
    return hook


def recovers(*libraries: str) -> None:
    """Say that libraries work in the next invocation wherever in them an interrupt has landed.

    After a timeout inside of one the process is then kept, with ``RECYCLE=auto``. It is enough to
    name the library that the handler calls, if that sees to what it uses itself.

    Args:
        *libraries: top-level packages, as ``import`` has them: ``"mylib"``.

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
