"""Stores in the page that is shared with the supervisor what the runtime's process would store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchdog_lambda._engine.clock import wall
from watchdog_lambda._lambda.shared_state import INVOCATION, INVOCATION_AT, OPEN

if TYPE_CHECKING:
    from watchdog_lambda._lambda.shared_state import SharedState


def begin(state: SharedState, text: str, deadline: float) -> None:
    """Store an invocation with its identifiers and its deadline in seconds of the wall clock."""
    INVOCATION.pack_into(state.memory, INVOCATION_AT, wall(), deadline * 1000, text.encode())
    state.store(OPEN)
