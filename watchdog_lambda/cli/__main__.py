"""``python -m watchdog_lambda.cli``: the ``watchdog-lambda`` command for when it is not on PATH."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    raise SystemExit(main())
