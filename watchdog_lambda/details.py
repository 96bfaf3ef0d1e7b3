"""What hooks, fallbacks and ``except`` clauses are told about a timeout."""

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
    """One timeout, as it was when the watchdog fired. Frozen; may be read from any thread."""

    # What a hook wants to become of the process is no part of what the details are.
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
    """Seconds of grace period in force, the setting's or a quarter of the time there was."""

    stack: tuple[str, ...]
    """The handler's stack, outermost frame first, each as ``app.py:41 (load_rows)``."""

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
        """Seconds to the hard deadline now; negative once it has passed."""
        return self.deadline - monotonic()

    def recycle(self) -> None:
        """Ask for a fresh process before the next event. For ``after_timeout`` hooks.

        The last word of all hooks counts. Without effect with ``RECYCLE=never``, where nothing can
        replace the process, and anywhere but in such a hook.
        """
        object.__setattr__(self, "_wish", RECYCLE)

    def keep(self) -> None:
        """Say that the process is sound, whatever the interrupt has met. The same holds for it.

        Without effect with ``RECYCLE=always``.
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
    """What a frozen dataclass raises; their module takes too long to import for a cold start."""
    from dataclasses import FrozenInstanceError  # noqa: PLC0415

    return FrozenInstanceError(message)


def _rebuild(*values: object) -> TimeoutDetails:
    return TimeoutDetails(**dict(zip(_FIELDS, values, strict=True)))  # type: ignore[arg-type]
