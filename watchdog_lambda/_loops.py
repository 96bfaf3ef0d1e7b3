"""Event loops: which one runs here, and running out what an interrupt has left in one.

asyncio is never imported: a loop that runs has been.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def running_loop() -> AbstractEventLoop | None:
    """The loop that runs in this thread, asyncio's or one that follows it (uvloop)."""
    events = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()


def waits_in_c() -> bool:
    """Whether C code of a loop (uvloop) runs here, and no task of it.

    It takes what a signal's handler raises for the error of a callback: an ``Exception`` is logged
    and lost, and only a ``KeyboardInterrupt`` ends the loop.

    Thread: the loop's.
    """
    loop = running_loop()
    if loop is None or not type(loop).__module__.startswith("uvloop"):
        return False
    return sys.modules["asyncio"].current_task(loop) is None


def run_out(loop: AbstractEventLoop, seconds: float) -> None:
    """Cancel a loop's tasks and run them to their end, for at most `seconds`.

    ``asyncio.run`` does that by itself. A bare ``run_until_complete`` (Mangum, Powertools' async
    processor) that an exception goes through leaves its tasks pending: their ``finally`` would
    never run, or run in the next invocation.

    Thread: the one that the loop ran in.
    """
    if loop.is_closed() or loop.is_running():
        return
    asyncio = sys.modules["asyncio"]
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        stop = loop.call_later(max(0.0, seconds), loop.stop)
        try:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        except RuntimeError:
            pass  # stopped before they had ended
        finally:
            stop.cancel()
    # An interrupt that lands in the very turn in which a task has ended leaves a callback behind
    # that would stop the loop's next run at once.
    loop.call_soon(loop.stop)
    loop.run_forever()
