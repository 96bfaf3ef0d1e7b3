"""The ``watchdog-lambda`` command: ``run``, ``invoke`` and ``check``.

``run`` is what a container starts, so this module imports nothing of the others' before it knows
that it is one of them.
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command; its exit status.

    Args:
        argv: what follows the command's name; by default this process's own.
    """
    if argv is None:
        argv = sys.argv[1:]
    if argv and argv[0] == "run":
        from watchdog_lambda.__main__ import main as run  # noqa: PLC0415 - see above

        import_from_here()
        return run(argv[1:], "watchdog-lambda run")
    from .arguments import main as others  # noqa: PLC0415 - see above

    return others(argv)


def import_from_here() -> None:
    """Have modules found in the working directory first, as ``python -m`` has them.

    A console script has its own folder in that place.
    """
    here = os.getcwd()
    if sys.flags.safe_path or sys.path[:1] == [here]:
        return
    if sys.path[:1] == [os.path.dirname(os.path.realpath(sys.argv[0]))]:
        del sys.path[0]
    sys.path.insert(0, here)
