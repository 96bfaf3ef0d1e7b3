"""The clients, by family: a call that answers with the number it is given, and one that hangs.

A case is a function that makes a client, as a handler's module does, and returns ``ask``, or
``ask`` and ``hang``. ``ask(n)`` answers with n, by way of the server where there is one, so that an
answer that belongs to another request is seen. ``hang()`` takes longer than any time limit; without
one, ``ask`` is called while the server's answers are held back. An ``async def`` case returns
coroutine functions.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[["At"], Any]

FAMILIES: Final = (
    *("http", "aws", "sql", "stores", "messages", "rpc", "asynchronous"),
    *("waits", "processes", "frameworks", "python", "computing"),
)
MARK: Final = "hang-me"
"""In what a slow call sends, where that is text: counted like an HTTP request."""


class At(NamedTuple):
    """Where the servers are: the ports, by name, all of them on loopback."""

    ports: dict[str, int]

    @classmethod
    def from_environ(cls) -> At:
        """Of the function's own environment."""
        return cls(json.loads(os.environ["STACKS_PORTS"]))

    def port(self, server: str) -> int:
        """The port of a server's valve."""
        return self.ports[server]

    def of(self, n: int) -> str:
        """The address that is answered with n."""
        return self.url(path=f"/n-{n}")

    def url(self, server: str = "http", scheme: str = "http", path: str = "/") -> str:
        """A server's address."""
        return f"{scheme}://127.0.0.1:{self.ports[server]}{path}"


class Case(NamedTuple):
    """One client."""

    make: Make
    family: str
    server: str | None
    library: str
    """What is imported at the init, and may not be there."""


CASES: Final[dict[str, Case]] = {}


def case(name: str, server: str | None = None, library: str = "") -> Callable[[Make], Make]:
    """Enter a case under its name in the table."""

    def enter(make: Make) -> Make:
        family = make.__module__.rpartition(".")[2]
        CASES[name] = Case(make, family, server, library)
        return make

    return enter


def entering(server: str | None = None, *, is_async: bool = False) -> Callable[..., None]:
    """What enters a case of this server that can be said in one expression, of its library."""

    def enter(name: str, library: str, make: Callable[[Any, At], Any], needs: str = "") -> None:
        def with_library(at: At) -> Any:
            return make(import_module(library), at)

        async def on_a_loop(at: At) -> Any:
            return with_library(at)

        with_library.__module__ = on_a_loop.__module__ = make.__module__
        case(name, server, needs)(on_a_loop if is_async else with_library)

    return enter


def plain(name: str, hang: Callable[[], object], ask: Callable[[int], int] = int) -> None:
    """Enter a case that needs no client: Python's own, or what has just been defined."""

    def nothing_to_make(_at: At) -> Any:
        return ask, hang

    nothing_to_make.__module__ = hang.__module__
    case(name)(nothing_to_make)


def load() -> dict[str, Case]:
    """All of them; nothing of a client's is imported."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    return CASES
