"""When an allocation fails in the watchdog thread, it tries again, and the interrupt lands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Context, block
from watchdog_lambda import LambdaTimeout, Watchdog
from watchdog_lambda._engine import escalation, watchdog
from watchdog_lambda._engine.escalation import Escalation
from watchdog_lambda._engine.interrupts import InterruptPolicy
from watchdog_lambda._engine.press import Press
from watchdog_lambda._process import process_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable


def fails_twice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that raises MemoryError twice, and then calls the real one."""
    left = [1, 2]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()
            raise MemoryError
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize(
    ("holder", "name"),
    [
        (watchdog, "Firing"),
        (watchdog, "Escalation"),
        (Escalation, "stages_to_come"),
        (escalation, "look"),
        (Press, "step"),
        (escalation, "Stage"),
        (type(process_watchdog), "_look"),
        (InterruptPolicy, "decide"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_interrupt_lands_after_memory_errors(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    holder: object,
    name: str,
) -> None:
    """After two MemoryErrors the interrupt lands in time, with one record and one run of hooks."""
    ran: list[int] = []
    watchdog = with_a_hook(ran)

    def handler(event: str, _context: object) -> str:
        if event == "hang":
            block()
        return event

    watched = watchdog(handler)
    assert watched("ok", Context(5.0)) == "ok"
    ident = process_watchdog._thread_id
    monkeypatch.setattr(holder, name, fails_twice(getattr(holder, name)))

    context = Context(1.5)
    with pytest.raises(LambdaTimeout):
        watched("hang", context)

    assert context.get_remaining_time_in_millis() > 0
    assert capfd.readouterr().out.count('"message": "watchdog.timeout"') == 1
    assert ran == [1]
    assert process_watchdog._thread_id == ident
    monkeypatch.undo()
    assert watched("ok", Context(5.0)) == "ok"


def with_a_hook(ran: list[int]) -> Callable[..., Any]:
    watchdog = Watchdog(grace_period=1.0)
    watchdog.shutdown_hook(lambda _details: ran.append(1))
    return watchdog.watch


def test_interrupt_lands_without_hooks_if_their_thread_has_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If memory is too short to start the hooks' thread, the interrupt lands without the hooks."""

    def refuse(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("watchdog_lambda._engine.stage.start_new_thread", refuse)
    watchdog = with_a_hook([])

    with pytest.raises(LambdaTimeout):
        watchdog(lambda _e, _c: block())({}, Context(1.5))
