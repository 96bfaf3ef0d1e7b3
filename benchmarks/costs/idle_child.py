"""A process that has nothing to do: waits for a line, before, in or after an invocation.

python -m benchmarks.costs.idle_child STATE
"""

from __future__ import annotations

import os
import sys
import time

from benchmarks.child import Channel, end_with_parent
from watchdog_lambda import watch
from watchdog_lambda.testing import FakeContext

from .contenders import context


def main(state: str) -> None:
    """Tell when it is idle, and wait in C like the runtime does."""
    end_with_parent()
    channel = Channel()

    def wait(_event: object = None, _context: object = None) -> None:
        channel.tell(idle=True)
        os.read(0, 1)

    if state == "bare":
        wait()
    elif state == "invoked":
        watch(wait)(None, context())
    else:
        watch(lambda _event, _context: time.sleep(0.05))(None, FakeContext(0.4))
        time.sleep(0.5)  # the deadline that it had is over
        wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
