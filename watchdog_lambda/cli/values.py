"""Parsers for the values of the command's options.

An invalid value raises ``ArgumentTypeError``. argparse reports it with the option's name and exits
with status 2.
"""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import NoReturn

LONGEST = 900.0
"""Seconds; Lambda's own limit."""


def event(text: str) -> bytes:
    """Parse an event: ``-`` for standard input, JSON, or the name of a file with JSON in it."""
    if text == "-":
        return _json(sys.stdin.read(), "standard input")
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        try:
            content = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError):
            raise ArgumentTypeError(
                f"{text!r} is neither JSON ({error}) nor a file that can be read; "
                "use for example '{\"id\": 7}', event.json, or - for standard input"
            ) from None
        return _json(content, text)
    return text.encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is valid in Python, but not in JSON")


def _json(text: str, source: str) -> bytes:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise ArgumentTypeError(f"{source} is not JSON: {error}") from None
    return text.encode()


def seconds(text: str) -> float:
    """Parse a function's timeout."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= LONGEST:
        raise ArgumentTypeError(
            f"{text!r} is not a number of seconds above 0, up to 900; use for example 3 or 0.5"
        )
    return number


def count(text: str) -> int:
    """Parse a number of repetitions."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 up; use for example 2")
    return int(text)


def memory(text: str) -> int:
    """Parse a function's memory in MB."""
    if not text.isdecimal() or not 128 <= int(text) <= 10240:
        raise ArgumentTypeError(
            f"{text!r} is not a number of MB, 128 to 10240; use for example 512"
        )
    return int(text)


def folder(text: str) -> Path:
    """Parse the path of an existing folder."""
    path = Path(text)
    if not path.is_dir():
        raise ArgumentTypeError(f"{text!r} is not a folder")
    return path.resolve()


def file(text: str) -> Path:
    """Parse the path of an existing file."""
    path = Path(text)
    if not path.is_file():
        raise ArgumentTypeError(f"{text!r} is not a file")
    return path.resolve()


def variable(text: str) -> tuple[str, str]:
    """Parse one environment variable, NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals or "\0" in text:
        raise ArgumentTypeError(
            f"{text!r} is not NAME=VALUE; use for example WATCHDOG_LAMBDA_GRACE_PERIOD=1"
        )
    return name, value


def variables(text: str) -> dict[str, str]:
    """Parse a file of environment variables: NAME=VALUE lines, ``#`` comments, optional quotes."""
    try:
        lines = Path(text).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ArgumentTypeError(f"{text!r} cannot be read: {error}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        stripped = line.strip().removeprefix("export ")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            name, value = variable(stripped)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"{text}:{number}: {error}") from None
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found
