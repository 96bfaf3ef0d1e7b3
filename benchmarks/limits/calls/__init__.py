"""Some ways for a handler to block, each with what sets it up and gives what then blocks.

Nothing here ends by itself while it is measured. What is started or opened goes with the process.
"""

from __future__ import annotations

from typing import Final

from benchmarks.limits.registry import Call

from . import native, network, processes, running, waiting

GROUPS: Final = (
    *(waiting.threads, waiting.files, network.sockets, network.clients, processes.processes),
    *(running.loops, running.python, native.computing, native.libraries),
)
"""In the order of the page."""

CALLS: Final[dict[str, Call]] = {call.name: call for group in GROUPS for call in group.calls}
