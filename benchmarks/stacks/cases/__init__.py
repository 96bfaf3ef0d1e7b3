"""The clients, by family: a call that answers with the number it is given, and one that hangs.

A case makes a client of its library, as a handler's module does. It is asked for a number, by way
of the server where there is one, so that an answer that belongs to another request is seen. What
hangs takes longer than any time limit; a case that has no such call is asked while the server's
answers are held back. What is asked of a case that runs on an event loop is a coroutine function.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final, NamedTuple, TypeVar

Make = Callable[[Any, "At"], Any]
"""Of a library; returns what is asked, or what is asked and what hangs, or is awaited first."""

_Ask = TypeVar("_Ask", bound="Callable[[Any, int], Any]")

FAMILIES: Final = (
    *("http", "aws", "sql", "stores", "messages", "rpc", "asynchronous"),
    *("waits", "processes", "frameworks", "python", "computing"),
)
MARK: Final = "hang-me"
"""In what a slow call sends, where that is text: counted like an HTTP request."""
KEY: Final = f"key-{os.getpid()}"
"""For this function alone."""


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
    is_async: bool


CASES: Final[dict[str, Case]] = {}


def making(
    name: str,
    server: str | None = None,
    library: str = "",
    *,
    is_async: bool = False,
    family: str = "",
) -> Callable[[Make], Make]:
    """Enter what makes a client of a library, under its name in the table."""

    def enter(make: Make) -> Make:
        own = family or make.__module__.rpartition(".")[2]
        CASES[name] = Case(make, own, server, library, is_async)
        return make

    return enter


def entering(server: str) -> Callable[..., None]:
    """What enters a case of this server that can be said in one expression."""

    def enter(name: str, library: str, make: Make) -> None:
        making(name, server, library)(make)

    return enter


def _nothing(library: Any, at: At) -> Any:
    return (library, at) if library else at


def case(
    name: str,
    server: str | None,
    library: str = "",
    made: Make = _nothing,
    *,
    hang: Callable[[Any], object] | None = None,
    family: str = "",
) -> Callable[[_Ask], _Ask]:
    """Enter a function that asks what is `made` at the init, for a number; `hang` takes long.

    By default what is made are the library, if there is one, and where the servers are.
    """

    def enter(ask: _Ask) -> _Ask:
        def calls(it: Any) -> Any:
            return partial(ask, it) if hang is None else (partial(ask, it), partial(hang, it))

        def make(module: Any, at: At) -> Any:
            return calls(made(module, at))

        async def make_awaited(module: Any, at: At) -> Any:
            it = made(module, at)
            return calls(await it if isawaitable(it) else it)

        own = family or (ask if made is _nothing else made).__module__.rpartition(".")[2]
        is_async = iscoroutinefunction(ask)
        chosen = make_awaited if is_async else make
        making(name, server, library, is_async=is_async, family=own)(chosen)
        return ask

    return enter


def plain(name: str, hang: Callable[[], object], ask: Callable[[int], int] = int) -> None:
    """Enter a case that needs no client: Python's own, or what has just been defined."""

    def nothing_to_make(_library: Any, _at: At) -> Any:
        return ask, hang

    nothing_to_make.__module__ = hang.__module__
    making(name)(nothing_to_make)


def load() -> dict[str, Case]:
    """All of them; nothing of a client's is imported."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    return CASES
