"""The ``watchdog-lambda`` command: ``run``, ``invoke`` and ``check``.

A container starts ``run``, so its cold start counts: this module imports the other commands only
when one of them is called.
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments after the command's name; by default this process's own.
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
    """Put the working directory first on the import path, as ``python -m`` does.

    A console script has its own folder there instead.
    """
    here = os.getcwd()
    if sys.flags.safe_path or sys.path[:1] == [here]:
        return
    if sys.path[:1] == [os.path.dirname(os.path.realpath(sys.argv[0]))]:
        del sys.path[0]
    sys.path.insert(0, here)
