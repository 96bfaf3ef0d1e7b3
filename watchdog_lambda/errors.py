"""What lands in a handler, what leaves it, and what a bad setting raises.

    BaseException
    ├── Interrupt                    lands when the first interrupt was swallowed
    │   └── LoopInterrupt            the same, also a KeyboardInterrupt: event loops let it through
    └── Exception
        ├── TimeoutError
        │   ├── LambdaTimeout        lands first; and what the runtime gets to see
        │   └── TimeLimitExceeded    leaves the block of a time_limit()
        └── ValueError
            └── ConfigurationError   a setting that cannot be used

Two kinds, because no single one does. ``socket.timeout`` is ``TimeoutError``, so urllib3 and
botocore take an injected one for a network fault and retry; Powertools' batch processor takes any
``Exception`` for one bad record and carries on. A ``BaseException`` goes through all of them, but
code written for the SIGALRM recipe says ``except TimeoutError``, and Powertools' idempotency clears
its in-progress record on ``Exception`` only.
"""

from __future__ import annotations

from _thread import get_ident

TYPE_CHECKING = False  # typing itself is not imported: it would cost every cold start
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Protocol

    from .details import TimeoutDetails

    class Witness(Protocol):
        """Told what became of an interrupt; the watchdog's record of it."""

        def landed(self) -> None: ...
        def died(self, traceback: TracebackType | None) -> None: ...


__all__ = ["ConfigurationError", "Interrupt", "LambdaTimeout", "TimeLimitExceeded"]

NO_POWERTOOLS = (
    "needs aws-lambda-powertools, which is not installed; add Powertools' layer "
    "(AWSLambdaPowertoolsPythonV3), or pip install aws-lambda-powertools"
)
"""A layer or a zip file may have this package without what it depends on."""

# Thread id -> the instance that is to land there by injection; see LANDING.
prepared: dict[int, Landing] = {}


class _Landing:
    """What the two exceptions that land in a handler have in common."""

    details: TimeoutDetails | None = None
    """What was known when the watchdog fired; None on an instance that the user made."""

    _witness: Witness | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        reduced: Any = super().__reduce__()
        kind, arguments, *state = reduced
        # A copy, or what another process gets, has details and notes, but nobody watches it.
        kept = {name: value for name, value in vars(self).items() if name != "_witness"}
        return (kind, arguments, kept) if state else (kind, arguments)

    def __del__(self) -> None:
        # Who swallowed it is known only from the traceback, and only as long as that lives.
        if self._witness is not None:
            self._witness.died(self.__traceback__)  # type: ignore[attr-defined]


class LambdaTimeout(_Landing, TimeoutError):
    """The invocation is about to reach its hard deadline.

    Lands in the handler first, one grace period before the hard deadline, and is what leaves the
    wrapper for the runtime, so that the caller reads ``"errorType": "LambdaTimeout"``. It is a
    ``TimeoutError``: code written for the SIGALRM recipe catches it unchanged.

    Its message says how long the handler ran, how long before which limit, and where it was:
    ``interrupted after 27.0 s, 3.0 s before the 30.0 s limit, in app.py:41 (load_rows)``.

    Not promised: that it lands. C code that never looks at signals ends first.

    Thread: it is raised in the handler's.
    """

    __module__ = "watchdog_lambda"


class TimeLimitExceeded(_Landing, TimeoutError):
    """The block of a :class:`~watchdog_lambda.time_limit` has taken longer than it may.

    Lands in the block, and leaves it. Its message says how long the block ran and where it was:
    ``interrupted after 5.0 s, the limit of this block, in app.py:41 (load_rows)``.

    Thread: it is raised in the block's.
    """

    __module__ = "watchdog_lambda"

    limit: object = None
    """The ``time_limit`` that was exceeded; None on an instance that the user made."""


class Interrupt(_Landing, BaseException):
    """Lands when the first interrupt was swallowed (or at once, with ``INTERRUPT=base``).

    Let it pass: ``finally`` and ``with`` clean up. It never reaches the runtime; the wrapper turns
    it into :class:`LambdaTimeout`. Swallowing it only brings the next one.

    Thread: it is raised in the handler's.
    """

    __module__ = "watchdog_lambda"


class LoopInterrupt(Interrupt, KeyboardInterrupt):
    """An ``Interrupt`` that event loops let through; catch it as one.

    asyncio, uvloop and gevent store or drop a plain ``BaseException`` raised in a callback or a
    background task, but hand a ``KeyboardInterrupt`` on.
    """


if TYPE_CHECKING:
    Landing = LambdaTimeout | TimeLimitExceeded | Interrupt
    """What lands in a handler or in a block."""


def _landed(kind: type[Landing], given: tuple[object, ...]) -> Any:
    """The instance that was prepared for this thread."""
    if given:
        return given[0]  # 3.11 normalises what it has made once more, with that as the argument
    instance = prepared.pop(get_ident(), None)
    if instance is None:  # withdrawn in this very moment
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
"""What is injected for an instance of a class.

``PyThreadState_SetAsyncExc`` takes a class and calls it without arguments in the target thread;
this one gives the prepared instance, with message and details. Not the class itself: user code
that makes one at that moment would get it.
"""


class ConfigurationError(ValueError):
    """A setting that cannot be used; names the setting, its value and a value that would do.

    Raised at start: by the entrypoint, :func:`~watchdog_lambda.watch`,
    :class:`~watchdog_lambda.Watchdog` and what registers hooks. Never in the middle of an
    invocation, unless hooks are registered there.
    """

    __module__ = "watchdog_lambda"
