"""Collects the records of timeouts in a test, and removes the hooks that a test registers."""

from __future__ import annotations

import json

from watchdog_lambda import _hooks, _report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from watchdog_lambda._hooks import Hook


class timeout_records:  # noqa: N801 - used like a function
    """Collect the records of timeouts: ``with timeout_records() as timeouts: ...``.

    The result is a list of dicts, each as it goes to the log. The log still gets them too, and
    pytest captures it. A record is in the list once the handler has returned or raised.

    Thread: any; the records of all threads are collected.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def __enter__(self) -> list[dict[str, Any]]:
        _report.listeners.append(self._listen)
        return self.records

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _report.listeners.remove(self._listen)

    def _listen(self, record: dict[str, Any]) -> None:
        self.records.append(json.loads(json.dumps(record, default=str)))


class isolated_hooks:  # noqa: N801 - used like a function
    """Restore the registered shutdown hooks at the end of a block.

    ``with isolated_hooks(): ...`` forgets the hooks that the block registers, and restores those
    that it removes. Import the module under test outside the block: its hooks are registered only
    once.

    Thread: any, one at a time.
    """

    def __init__(self) -> None:
        self._shared: dict[int, Hook] = {}
        self._staged: dict[int, Hook] = {}

    def __enter__(self) -> None:
        self._shared = dict(_hooks.shared._hooks)
        self._staged = dict(_hooks.staged)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for registered, before in (
            (_hooks.shared._hooks, self._shared),
            (_hooks.staged, self._staged),
        ):
            registered.clear()
            registered.update(before)
