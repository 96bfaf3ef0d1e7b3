"""Batches whose records are handled one after the other."""

# Powertools' batch utility is only partly typed: its records are bare dicts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportDeprecated=false

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._limit import limited
from ._watch import ENDS, NOT_BEGUN, StopsInTime, Watch, own_invocation

if TYPE_CHECKING:
    from ._watch import Entry


class SyncBatch(StopsInTime):
    def process(self) -> list[tuple[Any, ...]]:
        invocation = own_invocation()
        handler = self.handler
        self.handler = limited(handler, self.record_time_limit)
        try:
            if invocation is None:
                return super().process()
            with Watch(invocation) as watch:
                self.handler = watch.opened(self.handler)
                return [self._process_in_time(watch, record) for record in self.records]
        finally:
            self.handler = handler

    def _process_in_time(self, watch: Watch, record: dict[Any, Any]) -> Entry:
        if watch.is_out_of_time():
            return self._fail(record, NOT_BEGUN)
        try:
            entry: Entry = self._process_record(record)
        except ENDS as error:
            if not watch.is_timeout(error):
                raise
            return self._fail(record, sys.exc_info())
        self._repair(record)
        return entry
