"""A way to end a handler in time that is compared, and what all of them are called with."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from awslambdaric.lambda_context import LambdaContext

Handler = Callable[[Any, Any], Any]
Wrap = Callable[[Handler], Handler]

OURS: Final = ("entrypoint", "@watch")
RECIPE: Final = "SIGALRM recipe"
FIXED: Final = "dramatiq, fixed limit"
"""The only one that does not read the invocation's deadline."""
NO_RIVALS: Final = ("bare", "context read", *OURS)
"""The others are other projects' ways to end a handler, or to warn before its end."""


def noop(event: Any, _context: Any) -> Any:
    return event


class Contender(NamedTuple):
    name: str
    how: str
    """How it is used, for the page."""
    wrap: Wrap
    is_vendors: bool = False
    """Whether it lives in the environment of the vendors' wrappers."""


CONTENDERS: Final[dict[str, Contender]] = {}


def contender(name: str, how: str, *, is_vendors: bool = False) -> Callable[[Wrap], None]:
    """Enter a way, in the order of the page."""

    def enter(wrap: Wrap) -> None:
        CONTENDERS[name] = Contender(name, how, wrap, is_vendors)

    return enter


def context(later_ms: int = 0) -> Any:
    """A context with a quarter of an hour, Lambda's longest, and a bit more on request."""
    deadline_ms = int(time.time() * 1000) + 900_000 + later_ms
    return LambdaContext("00000000-0000-0000-0000-000000000000", None, None, deadline_ms)


def interpreters(names: Iterable[str], skipped: list[str]) -> dict[str, str]:
    """The interpreter that has each of them; where there is none, `skipped` says why."""
    found = {}
    for name in names:
        is_vendors = CONTENDERS[name].is_vendors
        python = os.environ.get("WRAPPERS_PYTHON") if is_vendors else sys.executable
        if python is None:
            skipped.append(f"{name}: needs the environment of `dev.py wrappers`")
        else:
            found[name] = python
    return found
