"""What the command line said; for :mod:`.entrypoint`, which the runtime imports by name.

Not in the environment: the handler's child processes would inherit it.
"""

from __future__ import annotations

handler: str | None = None
"""The handler named on the command line of ``python -m watchdog_lambda``."""
