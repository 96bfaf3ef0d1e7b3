"""The exceptions that land in a handler, leave it, or report an unusable setting.

    BaseException
    ├── Interrupt                    lands if the first interrupt was swallowed
    │   └── LoopInterrupt            also a KeyboardInterrupt, which event loops let through
    └── Exception
        ├── TimeoutError
        │   ├── LambdaTimeout        lands first, and is what the runtime sees
        │   └── TimeLimitExceeded    leaves the block of a time_limit()
        └── ValueError
            └── ConfigurationError   a setting that cannot be used

There are two kinds of interrupt because one is not enough. ``socket.timeout`` is ``TimeoutError``,
so urllib3 and botocore mistake an injected one for a network fault and retry; Powertools' batch
processor counts any ``Exception`` as one bad record and carries on. A ``BaseException`` passes
through all of them. But code written for the SIGALRM recipe says ``except TimeoutError``, and
Powertools' idempotency clears its in-progress record on ``Exception`` only.
"""

from __future__ import annotations

from _thread import get_ident

TYPE_CHECKING = False  # importing typing would slow down every cold start
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Protocol

    from .details import TimeoutDetails

    class Witness(Protocol):
        """The watchdog's record of an interrupt, which is told what became of it."""

        def landed(self) -> None: ...
        def died(self, traceback: TracebackType | None) -> None: ...


__all__ = ["ConfigurationError", "Interrupt", "LambdaTimeout", "TimeLimitExceeded"]

NO_POWERTOOLS = (
    "needs aws-lambda-powertools, which is not installed; add Powertools' layer "
    "(AWSLambdaPowertoolsPythonV3), or pip install aws-lambda-powertools"
)
"""A layer or a zip file may contain this package without its dependencies."""

# Thread id -> the instance that an injection will land there; see LANDING.
prepared: dict[int, Landing] = {}


class _Landing:
    """The base class of the exceptions that land in a handler or a block."""

    details: TimeoutDetails | None = None
    """The state when the watchdog fired; None on an instance that the user has made."""

    _witness: Witness | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: Any = super().__reduce__()
        kind, arguments, *state = reduced
        # A copy, in this process or another, keeps details and notes, but has no witness.
        kept = {name: value for name, value in vars(self).items() if name != "_witness"}
        return (kind, arguments, kept) if state else (kind, arguments)

    def __del__(self) -> None:
        # Only the traceback tells which code swallowed it, and it dies with this exception.
        if self._witness is not None:
            self._witness.died(self.__traceback__)  # type: ignore[attr-defined]


class LambdaTimeout(_Landing, TimeoutError):
    """The invocation is about to reach its hard deadline.

    It lands in the handler first, one grace period before the hard deadline. It is also what leaves
    the wrapper for the runtime, so that the caller reads ``"errorType": "LambdaTimeout"``. It is a
    ``TimeoutError``, so code written for the SIGALRM recipe catches it unchanged.

    Its message says how long the handler ran, how long before which limit it was interrupted, and
    where: ``interrupted after 27.0 s, 3.0 s before the 30.0 s limit, in app.py:41 (load_rows)``.

    Delivery is not guaranteed: C code that never checks for signals is not interrupted.

    Thread: raised in the handler's.
    """

    __module__ = "watchdog_lambda"


class TimeLimitExceeded(_Landing, TimeoutError):
    """The block of a :class:`~watchdog_lambda.time_limit` has exceeded its limit.

    It lands in the block and leaves it. Its message says how long the block ran and where it was:
    ``interrupted after 5.0 s, the limit of this block, in app.py:41 (load_rows)``.

    Thread: raised in the block's.
    """

    __module__ = "watchdog_lambda"

    limit: object = None
    """The ``time_limit`` that was exceeded; None on an instance that the user has made."""


class Interrupt(_Landing, BaseException):
    """Lands if the first interrupt was swallowed (or at once, with ``INTERRUPT=base``).

    Let it pass: ``finally`` and ``with`` clean up. It never reaches the runtime, because the
    wrapper turns it into :class:`LambdaTimeout`. Code that swallows it is interrupted again.

    Thread: raised in the handler's.
    """

    __module__ = "watchdog_lambda"


class LoopInterrupt(Interrupt, KeyboardInterrupt):
    """An ``Interrupt`` that event loops let through. Catch it as ``Interrupt``.

    asyncio, uvloop and gevent store or drop a plain ``BaseException`` raised in a callback or a
    background task, but pass a ``KeyboardInterrupt`` on.
    """


if TYPE_CHECKING:
    Landing = LambdaTimeout | TimeLimitExceeded | Interrupt
    """The exceptions that land in a handler or in a block."""


def _landed(kind: type[Landing], given: tuple[object, ...]) -> Any:
    """Return the instance that was prepared for this thread."""
    if given:
        return given[0]  # 3.11 normalises the instance again, passing it as the argument
    instance = prepared.pop(get_ident(), None)
    if instance is None:  # withdrawn at this very moment
        return kind()
    if instance._witness is not None:
        instance._witness.landed()
    return instance


class _InjectedTimeout(LambdaTimeout):
    def __new__(cls, *given: object) -> Any:
        return _landed(LambdaTimeout, given)


class _InjectedLimit(TimeLimitExceeded):
    def __new__(cls, *given: object) -> Any:
        return _landed(TimeLimitExceeded, given)


class _InjectedInterrupt(Interrupt):
    def __new__(cls, *given: object) -> Any:
        return _landed(Interrupt, given)


class _InjectedLoopInterrupt(LoopInterrupt):
    def __new__(cls, *given: object) -> Any:
        return _landed(LoopInterrupt, given)


LANDING: dict[type[BaseException], type[BaseException]] = {
    LambdaTimeout: _InjectedTimeout,
    TimeLimitExceeded: _InjectedLimit,
    Interrupt: _InjectedInterrupt,
    LoopInterrupt: _InjectedLoopInterrupt,
}
"""The class to inject, for each class of interrupt.

``PyThreadState_SetAsyncExc`` takes a class and calls it without arguments in the target thread.
These subclasses then return the prepared instance, with its message and details. The public class
cannot do so: user code that creates an instance at that moment would get the prepared one.
"""


class ConfigurationError(ValueError):
    """A setting that cannot be used. Names the setting, its value, and a value that would work.

    Raised at start: by the entrypoint, :func:`~watchdog_lambda.watch`,
    :class:`~watchdog_lambda.Watchdog` and the functions that register hooks. Never raised during an
    invocation, unless the invocation registers hooks.
    """

    __module__ = "watchdog_lambda"
