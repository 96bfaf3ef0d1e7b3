"""The details of a timeout, for hooks, fallbacks and ``except`` clauses."""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

__all__ = ["TimeoutDetails"]


RECYCLE, KEEP = "recycle", "keep"


_FIELDS = (
    "deadline",
    "elapsed",
    "function_name",
    "grace_period",
    "location",
    "request_id",
    "stack",
)


class TimeoutDetails:
    """The state of an invocation when the watchdog fired. Frozen; may be read from any thread."""

    # A hook's wish for the process is not one of the details: it does not count in comparisons.
    __slots__ = (*_FIELDS, "_wish")

    _wish: str | None

    request_id: str
    """Lambda's request id; empty if the context has none."""

    function_name: str
    """The function's name; empty if the context has none."""

    deadline: float
    """The hard deadline, in seconds on ``time.monotonic()``."""

    elapsed: float
    """Seconds from the start of the invocation to the moment the watchdog fired."""

    grace_period: float
    """The grace period in force in seconds, at most a quarter of the invocation's time."""

    stack: tuple[str, ...]
    """The handler's stack, outermost frame first; each frame is ``app.py:41 (load_rows)``."""

    location: str
    """The innermost frame of the user's own code, as ``app.py:41 (load_rows)``."""

    def __init__(
        self,
        *,
        request_id: str = "",
        function_name: str = "",
        deadline: float,
        elapsed: float,
        grace_period: float,
        stack: tuple[str, ...] = (),
        location: str = "",
    ) -> None:
        store = object.__setattr__
        store(self, "request_id", request_id)
        store(self, "function_name", function_name)
        store(self, "deadline", deadline)
        store(self, "elapsed", elapsed)
        store(self, "grace_period", grace_period)
        store(self, "stack", stack)
        store(self, "location", location)
        store(self, "_wish", None)

    def remaining(self) -> float:
        """Return the seconds from now to the hard deadline; negative once it has passed."""
        return self.deadline - monotonic()

    def recycle(self) -> None:
        """Ask for a fresh process before the next event. For ``after_timeout`` hooks.

        The last call among all hooks counts. It has no effect with ``RECYCLE=never``, if nothing
        can replace the process, or outside such a hook.
        """
        object.__setattr__(self, "_wish", RECYCLE)

    def keep(self) -> None:
        """Declare that the process is sound, wherever the interrupt has landed.

        The last call among all hooks counts. It has no effect with ``RECYCLE=always``, or outside
        an ``after_timeout`` hook.
        """
        object.__setattr__(self, "_wish", KEEP)

    def __setattr__(self, name: str, value: object) -> Never:
        raise _frozen(f"TimeoutDetails is frozen; {name} cannot be set")

    def __delattr__(self, name: str) -> Never:
        raise _frozen(f"TimeoutDetails is frozen; {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TimeoutDetails):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in _FIELDS))

    def __reduce__(self) -> tuple[object, ...]:
        # Pickled with the LambdaTimeout that carries it, for instance by multiprocessing.
        return (_rebuild, tuple(getattr(self, name) for name in _FIELDS))

    def __repr__(self) -> str:
        return (
            f"TimeoutDetails(request_id={self.request_id!r}, function_name={self.function_name!r}, "
            f"elapsed={self.elapsed:.3f}, grace_period={self.grace_period:.3f}, "
            f"location={self.location!r})"
        )


def _frozen(message: str) -> AttributeError:
    """Make the error of a frozen dataclass. Importing dataclasses would slow down a cold start."""
    from dataclasses import FrozenInstanceError  # noqa: PLC0415

    return FrozenInstanceError(message)


def _rebuild(*values: object) -> TimeoutDetails:
    return TimeoutDetails(**dict(zip(_FIELDS, values, strict=True)))  # type: ignore[arg-type]
