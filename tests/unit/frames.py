"""Builds functions as libraries have them, and calls that go through several of them."""

from __future__ import annotations

import functools
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

LIBRARY = "/opt/app/site-packages/client/core.py"
OWN = "/opt/app/app.py"


def made(source: str, *, file: str = LIBRARY, **names: Any) -> Callable[..., Any]:
    """Return the function ``call(back)`` of this source, compiled for a fictitious file."""
    namespace: dict[str, Any] = dict(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # about a return in a finally, from 3.14 on
        code = compile(textwrap.dedent(source), file, "exec")
    exec(code, namespace)  # noqa: S102
    function: Callable[..., Any] = namespace["call"]
    return function


def innermost(look: Callable[[FrameType], object], *calls: Callable[..., Any]) -> list[Any]:
    """Call the functions, each inside of the last one.

    Return what `look` gives for the innermost frame.
    """
    said: list[Any] = []

    def back() -> None:
        caller = sys._getframe(1)
        said.append(look(caller))

    function: Callable[[], Any] = back
    for call in reversed(calls):
        # partial is C code, so there is no frame in between.
        function = functools.partial(call, function)
    function()
    return said
