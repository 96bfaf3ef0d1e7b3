"""Some ways for a handler to block: one function each, which sets it up and gives what blocks.

Nothing here ends by itself while it is measured. What is started or opened goes with the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import clients, computing, files, libraries, loops, network, processes, python, threads

if TYPE_CHECKING:
    from benchmarks.limits.registry import Call

GROUPS: Final = (
    threads.group,
    files.group,
    network.group,
    clients.group,
    processes.group,
    loops.group,
    python.group,
    computing.group,
    libraries.group,
)
"""In the order of the page."""

CALLS: Final[dict[str, Call]] = {call.name: call for group in GROUPS for call in group.calls}
