"""The public API as text: what a user's code, settings, scripts and tests can rely on.

    python3 dev.py api   # write it to tests/public_api.txt, which a test compares

A line for each name with its signature, read off the sources; each setting with its default; each
argument of the command; each fixture. A change of that file is a decision, which RELEASING.md says
how to take.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import griffe

import watchdog_lambda
from tools import ROOT, ending
from watchdog_lambda import pytest_plugin
from watchdog_lambda._config import SETTINGS
from watchdog_lambda.cli.arguments import parser

SNAPSHOT: Final = ROOT / "tests" / "public_api.txt"

MODULES: Final = ("", "batch", "testing", "typing")
"""Whose ``__all__`` is public; of the others nothing is but what is named below."""

_FIXTURE: Final = "FixtureFunctionDefinition"
HANDLER: Final = "watchdog_lambda.entrypoint.handler"


def main() -> None:
    ending.parser("dev.py api", __doc__).parse_args()
    SNAPSHOT.write_text(as_text(), encoding="utf-8")


def as_text() -> str:
    """All of it, in an order that does not depend on the sources'."""
    # The one that this process imports, whether it is installed or lies in a checkout.
    where = Path(watchdog_lambda.__file__).parent.parent
    package = griffe.load("watchdog_lambda", search_paths=[str(where)], allow_inspection=False)
    lines: list[str] = []
    for name in MODULES:
        module: Any = package[name] if name else package
        lines += [module.path, *(f"    {line}" for line in _module(module)), ""]
    lines += ["entrypoint", f"    {HANDLER}", ""]
    lines += ["environment"]
    for setting in SETTINGS.values():
        also = "  (also an option of watch)" if setting.is_option else ""
        lines.append(f"    {setting.variable} = {setting.default!r}{also}")
    lines += [
        "",
        "command",
        *(f"    {line}" for line in _arguments("watchdog-lambda", parser())),
        "",
    ]
    marked = [n for n, v in vars(pytest_plugin).items() if type(v).__name__ == _FIXTURE]
    lines += ["pytest fixtures", *(f"    {name}" for name in sorted(marked))]
    return "\n".join(lines) + "\n"


def _module(module: Any) -> Iterator[str]:
    for name in sorted(str(export) for export in module.exports or ()):
        member = module[name]
        if member.is_alias and not member.target_path.startswith("watchdog_lambda."):
            # Another package's, handed on: its signature is not ours to promise.
            yield f"{name} = {member.target_path}"
            continue
        yield from _object(name, member.final_target if member.is_alias else member)


def _object(name: str, found: Any) -> Iterator[str]:
    if found.is_function:
        yield from _overloads(found) or [_signature(name, found)]
    elif found.is_class:
        bases = ", ".join(map(str, found.bases))
        yield f"class {name}({bases})" if bases else f"class {name}"
        for attribute, overloads in found.overloads.items():
            if attribute not in found.members:  # a protocol's: nothing but overloads
                yield from (f"    {_signature(attribute, each)}" for each in overloads)
        for attribute, member in sorted(_members(found).items()):
            for line in _object(attribute, member):
                yield f"    {line}"
    elif found.is_attribute:
        yield f"{name}: {found.annotation}" if found.annotation else name


def _members(kind: Any) -> dict[str, Any]:
    """Of a class and its bases, those with no underscore; and how instances are made and used."""
    special = {"__init__", "__new__", "__call__", "__enter__", "__exit__"}
    members = {**kind.inherited_members, **kind.members}
    return {
        name: member.final_target if member.is_alias else member
        for name, member in members.items()
        if name in special or not name.startswith("_")
    }


def _overloads(function: Any) -> list[str]:
    """What type checkers are told of a function, if that is more than its one signature.

    griffe finds those only that `typing.overload` marks, and the package has its own for run time.
    """
    scope: Any = ast.parse(function.filepath.read_text(encoding="utf-8"))
    if function.parent.is_class:
        name = function.parent.name
        [scope] = [n for n in scope.body if isinstance(n, ast.ClassDef) and n.name == name]
    return [
        f"def {node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
        for node in scope.body
        if isinstance(node, ast.FunctionDef)
        and node.name == function.name
        and node.returns
        and "overload" in map(ast.unparse, node.decorator_list)
    ]


def _signature(name: str, function: Any) -> str:
    head = "async def" if "async" in function.labels else "def"
    if "property" in function.labels:
        head = "property"
    text = function.signature(name=name)
    first, *others = [parameter.name for parameter in function.parameters] or [""]
    if first in {"self", "cls"}:  # left out by griffe
        text = text.replace("(", f"({first}, " if others else f"({first}", 1)
    return f"{head} {text}"


def _arguments(words: str, of: argparse.ArgumentParser) -> Iterator[str]:
    # argparse has no public way to ask what a parser takes; shtab does the same.
    for action in of._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, below in sorted(action.choices.items()):
                yield from _arguments(f"{words} {name}", below)
        elif not isinstance(action, argparse._HelpAction):  # noqa: SLF001
            yield f"{words} {'/'.join(action.option_strings) or action.dest.upper()}"


if __name__ == "__main__":
    main()
