"""``watchdog-lambda check``: settings, handler and timeline, and what looks wrong with them."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from .check_view import show
from .examine import examine
from .template import deadlines

if TYPE_CHECKING:
    import argparse


def check(options: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    sources = dict.fromkeys(options.env_file, "--env-file")
    sources |= {name: "--env" for name, _ in options.env}
    os.environ.update({**options.env_file, **dict(options.env)})
    # The report has everything that the package would warn about.
    logging.getLogger("watchdog_lambda").disabled = True
    os.chdir(options.path)
    here = str(options.path)
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    found = deadlines(options.timeout, options.caller_timeout, options.template, options.handler)
    report = examine(os.environ, sources, options.handler, found)
    status = 0
    if report.has("error"):
        status = 2
    elif options.strict and report.has("warning"):
        status = 1
    show(report, status, as_json=options.json)
    if any(not t.daemon for t in threading.enumerate() if t is not threading.main_thread()):
        # The import has started a thread that may never end.
        sys.stdout.flush()
        os._exit(status)
    return status
