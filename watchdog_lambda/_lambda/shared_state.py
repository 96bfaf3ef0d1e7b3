"""The page of anonymous memory that the runtime's process and its supervisor share.

Only the runtime's process writes it, on its main thread except for :meth:`SharedState.give_up`; the
supervisor zeroes it before it forks. There is no lock. Two rules make that correct:

- The runtime stores the text of an invocation first and ``OPEN`` afterwards, and ``ANSWERING``
  before it sends the first byte of an answer. In the opposite order the supervisor could answer an
  invocation whose identifier is half written, or one that is answered already. Pinned by the
  mutants of ``dev.py race``.
- The supervisor decides only by what it has read while the runtime's process could not run, because
  that had ended or was stopped. What it reads at any other time only says when to look again.
"""

from __future__ import annotations

import math
from _struct import Struct  # struct.py adds nothing to it
from mmap import mmap

from watchdog_lambda._engine.clock import SystemClock

from .kernel import last_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

INIT: Final = 0
"""The runtime has not yet asked for an event."""
IDLE: Final = 1
"""It has asked for the next event."""
OPEN: Final = 2
"""It has an event, and has not sent any byte of an answer."""
ANSWERING: Final = 3
"""It is sending its answer, or has sent it."""
ASIDE: Final = 4
"""It has an event for which the supervisor must not answer."""
FAILED: Final = 5
"""It has posted the error of its init itself."""
RECYCLED: Final = 6
"""It has answered, and is about to exit so that a fresh process serves the next event."""

# Single bytes.
STATE: Final = 0
"""The state's offset in the page. The hot path stores it directly."""
_DUMP_SIGNAL: Final = 1
_HAS_REPORTED: Final = 2

_SECONDS: Final = Struct("<d")
_SERVED_AT: Final = 8
_GIVEN_UP: Final = 16
_SERVED_PID: Final = 24
_GRACE_PERIOD: Final = 32

_LONGEST_TEXT: Final = 256
INVOCATION: Final = Struct(f"<dd{_LONGEST_TEXT + 1}s")
"""An invocation: its begin in seconds of the wall clock; its deadline in milliseconds, as Lambda
gives it; the request's identifier, and after a blank the invocation's, if there is one. The last
byte is 0 unless they do not fit: half of an identifier would belong to another invocation."""
INVOCATION_AT: Final = 64
_SIZE: Final = 4096


class Seen:
    """One invocation as the supervisor has read it. Times are seconds of the wall clock."""

    __slots__ = ("deadline", "invocation_id", "opened_at", "request_id", "state")

    def __init__(
        self, state: int, request_id: str, invocation_id: str, opened_at: float, deadline: float
    ) -> None:
        self.state = state
        self.request_id = request_id
        self.invocation_id = invocation_id
        self.opened_at = opened_at
        self.deadline = deadline

    def is_same(self, other: Seen) -> bool:
        return self.request_id == other.request_id and self.opened_at == other.opened_at


class SharedState:
    """The page. The module's docstring says which process may write what.

    `timeout` is the setting ``TIMEOUT`` in seconds, if set: no invocation has more time.

    Raises:
        OSError: there is no shared memory.
    """

    __slots__ = ("_timeout", "memory")

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = timeout
        self.memory = mmap(-1, _SIZE)

    # ---- the runtime's process ---------------------------------------------------------------

    def store(self, state: int) -> None:
        """Store the state. Thread: main, in the runtime's process."""
        self.memory[STATE] = state

    def served(self) -> None:
        """Note that the first event has come: later processes are not started by the init."""
        _SECONDS.pack_into(self.memory, _SERVED_PID, float(last_pid()))
        _SECONDS.pack_into(self.memory, _SERVED_AT, SystemClock.since_boot())

    def give_up(self, request_id: str, *, has_reported: bool) -> None:
        """Note that the watchdog has given up on this invocation's handler. Thread: watchdog."""
        # Read the instant first, then the identifier. In the opposite order the main thread could
        # continue with the next invocation in between, and that one would be given up.
        opened_at = bytes(self.memory[INVOCATION_AT : INVOCATION_AT + _SECONDS.size])
        seen = self.look()
        if seen is None or seen.request_id != request_id:
            return
        self.memory[_HAS_REPORTED] = has_reported
        self.memory[_GIVEN_UP : _GIVEN_UP + _SECONDS.size] = opened_at

    def set_dump_signal(self, number: int) -> None:
        """Publish the signal that makes the main thread write its stack."""
        self.memory[_DUMP_SIGNAL] = number

    def set_grace_period(self, seconds: float) -> None:
        """Publish the handler's setting ``GRACE_PERIOD``, at the end of the init."""
        _SECONDS.pack_into(self.memory, _GRACE_PERIOD, seconds)

    # ---- the supervisor ----------------------------------------------------------------------

    def clear(self) -> None:
        """Zero the page for a new process. No runtime's process may be running."""
        self.memory[:] = bytes(_SIZE)

    @property
    def state(self) -> int:
        return self.memory[STATE]

    @property
    def length(self) -> float:
        """Seconds that the current or last invocation has in all; 0.0 if there was none."""
        opened_at, deadline, _ = self._invocation()
        return deadline - opened_at

    def has_given_up(self, seen: Seen) -> bool:
        """Return whether the watchdog has given up on this invocation's handler."""
        given_up: float = _SECONDS.unpack_from(self.memory, _GIVEN_UP)[0]
        return given_up == seen.opened_at

    def has_reported(self, seen: Seen) -> bool:
        """Return whether the watchdog has written this invocation's record."""
        return self.has_given_up(seen) and bool(self.memory[_HAS_REPORTED])

    @property
    def grace_period(self) -> float:
        """The setting ``GRACE_PERIOD`` in seconds; infinity until the init is over."""
        seconds: float = _SECONDS.unpack_from(self.memory, _GRACE_PERIOD)[0]
        return seconds or math.inf

    @property
    def dump_signal(self) -> int:
        return self.memory[_DUMP_SIGNAL]

    @property
    def served_at(self) -> float:
        """When the first event came, in seconds since the system's start; 0.0 if none has."""
        seconds: float = _SECONDS.unpack_from(self.memory, _SERVED_AT)[0]
        return seconds

    @property
    def served_pid(self) -> int:
        """The last process that had been started by then; 0 if it is not known."""
        return int(_SECONDS.unpack_from(self.memory, _SERVED_PID)[0])

    def look(self) -> Seen | None:
        """Return the invocation that is open or being answered; None if there is none."""
        state = self.memory[STATE]
        if state not in {OPEN, ANSWERING}:
            return None
        opened_at, deadline, text = self._invocation()
        if text[_LONGEST_TEXT]:
            return None
        words = text.rstrip(b"\0").decode("ascii", "replace")
        request_id, _, invocation_id = words.partition(" ")
        return Seen(state, request_id, invocation_id, opened_at, deadline)

    def _invocation(self) -> tuple[float, float, bytes]:
        opened_at, deadline_ms, text = INVOCATION.unpack_from(self.memory, INVOCATION_AT)
        deadline = deadline_ms / 1000
        if self._timeout is not None:
            deadline = min(deadline, opened_at + self._timeout)
        return opened_at, deadline, text
