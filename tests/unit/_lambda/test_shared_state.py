"""The layout of the page that runtime and supervisor share, and what each reads of the other."""

from __future__ import annotations

import mmap

import pytest

from tests.unit._lambda.page import begin
from watchdog_lambda._engine.clock import SystemClock
from watchdog_lambda._lambda import shared_state
from watchdog_lambda._lambda.shared_state import Seen, SharedState

DEADLINE = 2_000_000_000.0


def test_states_are_numbered_and_a_zeroed_page_is_in_its_init() -> None:
    names = ("INIT", "IDLE", "OPEN", "ANSWERING", "ASIDE", "FAILED", "RECYCLED")

    assert [getattr(shared_state, name) for name in names] == list(range(7))


def test_fields_do_not_overlap_and_are_aligned() -> None:
    """No store changes another field, and none is torn: a reader sees all of it or nothing."""
    page = shared_state
    words = (page._SERVED_AT, page._GIVEN_UP, page._SERVED_PID, page.INVOCATION_AT)

    assert (page.STATE, page._DUMP_SIGNAL, page._HAS_REPORTED) == (0, 1, 2)
    assert words == (8, 16, 24, 64)
    assert page.INVOCATION.size == 2 * page._SECONDS.size + page._LONGEST_TEXT + 1
    assert page.INVOCATION_AT + page.INVOCATION.size <= page._SIZE == mmap.PAGESIZE


@pytest.mark.parametrize(
    ("request_id", "opened_at", "is_same"),
    [("one", 1.0, True), ("two", 1.0, False), ("one", 2.0, False), ("two", 2.0, False)],
)
def test_same_invocation_has_the_same_identifier_and_begin(
    request_id: str, opened_at: float, *, is_same: bool
) -> None:
    """A retry has the identifier of the invocation before, but another begin."""
    seen = Seen(shared_state.OPEN, "one", "", 1.0, 4.0)

    assert seen.is_same(Seen(shared_state.OPEN, request_id, "", opened_at, 4.0)) is is_same


def test_cleared_page_has_nothing_of_the_last_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process has stored is read as stored, until the page is cleared for the next one."""
    monkeypatch.setattr(shared_state, "last_pid", lambda: 4711)
    monkeypatch.setattr(SystemClock, "since_boot", lambda: 12.5)
    state = SharedState()
    before = state.served_at, state.served_pid, state.dump_signal

    state.served()
    state.set_dump_signal(40)
    begin(state, "one", DEADLINE)

    assert before == (0.0, 0, 0)
    assert (state.served_at, state.served_pid, state.dump_signal) == (12.5, 4711, 40)
    assert state.look() is not None
    state.clear()
    assert bytes(state.memory) == bytes(mmap.PAGESIZE)
    assert (state.served_at, state.served_pid, state.dump_signal) == before
