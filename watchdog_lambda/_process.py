"""The process's one watchdog, with the report that it uses."""

from __future__ import annotations

from . import _report
from ._engine.clock import SystemClock
from ._engine.watchdog import WatchdogThread

process_watchdog = WatchdogThread(SystemClock(), _report)
