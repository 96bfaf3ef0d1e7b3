"""Finds the timeouts of a function and its caller, on the command line or in a template.

The template is SAM's or CloudFormation's, and is read as written: a parameter counts as its
default, and CloudFormation's other intrinsic functions are not evaluated.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from .function import CannotRun

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_TIMEOUT: Final = 3.0
"""Seconds that Lambda gives a function whose timeout is not set."""

_FUNCTIONS: Final = {"AWS::Serverless::Function", "AWS::Lambda::Function"}

_CALLERS: Final = {"Api": ("API Gateway", 29.0), "HttpApi": ("API Gateway's HTTP API", 30.0)}
"""SAM's events whose caller waits for the answer, with the caller's default timeout in seconds."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The timeouts of a function and of its caller, in seconds."""

    timeout: float = DEFAULT_TIMEOUT
    caller: float | None = None
    """None if it is not known, or if the caller waits as long as the function takes."""
    caller_source: str = ""


def deadlines(
    timeout: float | None, caller: float | None, template: Path | None, handler: str | None
) -> Deadlines:
    """Take the timeouts from the command line, and those not given there from the template.

    Raises:
        CannotRun: the template cannot be read, or it is not clear which function is meant.
    """
    found = Deadlines() if template is None else _in_template(template, handler)
    return Deadlines(
        found.timeout if timeout is None else timeout,
        found.caller if caller is None else caller,
        found.caller_source if caller is None else "--caller-timeout",
    )


def _in_template(path: Path, handler: str | None) -> Deadlines:
    document = _read(path)
    shared = _mapping(_mapping(document.get("Globals")).get("Function"))
    resources = map(_mapping, _mapping(document.get("Resources")).values())
    functions = [
        {**shared, **_mapping(resource.get("Properties"))}
        for resource in resources
        if resource.get("Type") in _FUNCTIONS
    ]
    chosen = [each for each in functions if handler in _handlers(each)] or functions
    if len(chosen) != 1:
        raise CannotRun(
            f"--template {path}: it has {len(functions)} functions, of which "
            f"{len(chosen) if len(functions) > 1 else 'none'} could be meant; name a handler that "
            "only one of them has, or give --timeout and --caller-timeout instead"
        )
    parameters = _mapping(document.get("Parameters"))
    timeout = _seconds(chosen[0].get("Timeout", DEFAULT_TIMEOUT), parameters)
    if timeout is None:
        raise CannotRun(
            f"--template {path}: the function's Timeout is not a number, nor a parameter with a "
            "default; give --timeout instead"
        )
    return Deadlines(timeout, *_caller(chosen[0], parameters))


def _caller(function: dict[str, Any], parameters: dict[str, Any]) -> tuple[float | None, str]:
    """Find the caller that gives up first."""
    found: list[tuple[float, str]] = []
    for event in map(_mapping, _mapping(function.get("Events")).values()):
        name, usual = _CALLERS.get(str(event.get("Type")), ("", None))
        if usual is not None:
            given = _seconds(_mapping(event.get("Properties")).get("TimeoutInMillis"), parameters)
            found.append((usual if given is None else given / 1000, name))
    return min(found, default=(None, ""))


def _handlers(function: dict[str, Any]) -> set[str | None]:
    """Return the handlers that a function's properties name."""
    variables = _mapping(_mapping(function.get("Environment")).get("Variables"))
    command = _mapping(function.get("ImageConfig")).get("Command")
    given = [function.get("Handler"), variables.get("WATCHDOG_LAMBDA_HANDLER")]
    given += cast("list[object]", command) if isinstance(command, list) else []
    return {each for each in given if isinstance(each, str)}


def _seconds(value: object, parameters: dict[str, Any]) -> float | None:
    """Read a number, or the default of the parameter that the value refers to."""
    reference = _mapping(value).get("Ref")
    if isinstance(reference, str):
        value = _mapping(parameters.get(reference)).get("Default")
    try:
        return float(cast("str", value))
    except (TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        return _mapping(json.loads(text) if text.lstrip().startswith("{") else _yaml(path, text))
    except (OSError, ValueError) as error:
        raise CannotRun(f"--template {path}: cannot be read: {error}") from None


def _yaml(path: Path, text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")  # an extra
    except ModuleNotFoundError:
        raise CannotRun(
            f"--template {path}: YAML is read by PyYAML, which is not installed: "
            "pip install 'watchdog-lambda[cli]', or give the template as JSON"
        ) from None

    # The loader must accept CloudFormation's short forms, such as ``!Ref``.
    loader: Any = type("Loader", (yaml.SafeLoader,), {})

    def short_form(reader: Any, suffix: str, node: Any) -> dict[str, Any]:
        kind: str = node.id  # scalar, sequence or mapping
        construct = getattr(reader, f"construct_{kind}")
        return {suffix: construct(node) if kind == "scalar" else construct(node, deep=True)}

    loader.add_multi_constructor("!", short_form)
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(error) from None


def _mapping(value: object) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
