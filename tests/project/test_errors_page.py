"""The page on errors has the messages of the code."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import watchdog_lambda
from tests.support import Context, block
from watchdog_lambda import (
    ConfigurationError,
    LambdaTimeout,
    Watchdog,
    errors,
    recovers,
    sandbox_shutdown_hook,
    scoped_hook,
    shutdown_hook,
    testing,
    time_limit,
    watch,
)
from watchdog_lambda._config import Settings
from watchdog_lambda._lambda.command import choose
from watchdog_lambda._lambda.plain_http import PlainApi
from watchdog_lambda._report import metrics
from watchdog_lambda.batch import BatchProcessor, EventType
from watchdog_lambda.batch._async import INTERRUPTED
from watchdog_lambda.batch._watch import NOT_BEGUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = Path(watchdog_lambda.__file__).parent
PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")


def set_to(**variables: str) -> Callable[[], object]:
    environ = {f"WATCHDOG_LAMBDA_{name}": value for name, value in variables.items()}
    return lambda: Settings.from_environ(environ)


def untyped(function: Any, *args: Any, **options: Any) -> Callable[[], object]:
    """Make a call that type checkers would refuse."""
    return lambda: function(*args, **options)


async def flush(_details: object) -> None:
    """A hook that would never be awaited."""


def nothing() -> None:
    """A hook that is never called, because it takes no arguments."""


flush.__module__ = nothing.__module__ = "app"


def without_powertools() -> None:
    """Simulate a layer that has only this package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "aws_lambda_powertools.metrics", None)
        patch.setattr(metrics, "_templates", {})
        metrics.preload("Orders")


def without_gil() -> object:
    """Simulate a free-threaded build of Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
        return watch(lambda _event, _context: None)


CAUSES: list[Callable[[], object]] = [
    set_to(GRACE_PERIOD="2s"),
    set_to(LAST_CALL="0"),
    set_to(TIMEOUT="900000"),
    set_to(HOOK_BUDGET="2.8"),
    set_to(INTERRUPT="timeout"),
    set_to(LAST_RESORT="die"),
    set_to(LAST_RESORT="restart"),
    set_to(WAKE_SIGNAL="SIGALRM"),
    set_to(DISABLED="yes"),
    set_to(SAMPLES="200"),
    set_to(METRICS_NAMESPACE="AWS/Orders"),
    untyped(watch, grace=2.0),
    untyped(watch, 2.0),
    untyped(Watchdog().watch, 2.0),
    untyped(shutdown_hook, before="10 s"),
    untyped(shutdown_hook, "flush"),
    untyped(shutdown_hook, nothing),
    untyped(recovers, "my.lib"),
    untyped(scoped_hook, nothing, "lock-1", force=True),
    untyped(watch, fallback=flush),
    untyped(watch, fallback=nothing),
    untyped(sandbox_shutdown_hook, "close_pool"),
    untyped(time_limit, "5 s"),
    untyped(BatchProcessor, EventType.SQS, record_time_limit=0),
    lambda: choose({"WATCHDOG_LAMBDA_HANDLER": "watchdog_lambda.entrypoint.handler"}, None),
    lambda: choose({}, None),
    lambda: PlainApi("localhost"),
    without_powertools,
    without_gil,
]
"""At least one call for each place that raises a ConfigurationError."""


UNREACHABLE = {"_text"}
"""Only the environment sets a handler's name, and a blank value counts as unset."""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WATCHDOG_LAMBDA_"):
            monkeypatch.delenv(name)


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def first_column(part: str) -> list[str]:
    return re.findall(r"^\| `(.*?)` \|", part, re.MULTILINE)


def caught(cause: Callable[[], object]) -> pytest.ExceptionInfo[ConfigurationError]:
    with pytest.raises(ConfigurationError) as raised:
        cause()
    return raised


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in PACKAGE.rglob("*.py"):
        if PACKAGE / "cli" not in path.parents:
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_page_lists_exactly_the_configuration_error_messages() -> None:
    """The page has every message of a configuration error, and no others.

    They agree word for word, so that a search finds them.
    """
    messages = [str(caught(cause).value) for cause in CAUSES]

    assert first_column(section("ConfigurationError")) == messages


def test_every_raised_configuration_error_has_a_cause() -> None:
    """Each place in the source that raises a configuration error is covered by a cause above."""
    places = {
        (path.name, node.lineno)
        for path, module in parsed()
        for function in ast.walk(module)
        if isinstance(function, ast.FunctionDef) and function.name not in UNREACHABLE
        for node in ast.walk(function)
        if isinstance(node, ast.Raise) and "ConfigurationError" in ast.unparse(node)
    }

    reached = set()
    for cause in CAUSES:
        entry = caught(cause).traceback[-1]
        reached.add((Path(entry.path).name, entry.lineno + 1))

    assert reached == places


def test_page_lists_exactly_the_warnings() -> None:
    """The page has every warning and no others, as in the source, with dots for what varies."""
    calls = [
        (ast.unparse(node.func), node.args)
        for path, module in parsed()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and path.name != "_log.py"
    ]
    said = {
        (called, re.sub("%[sr]", "...", ast.literal_eval(args[called == "warn_once"])))
        for called, args in calls
        if called == "warn_once" or called.startswith("logger().")
    }
    levels = {"warn_once", "logger().warning"}

    part = section("Warnings")
    assert {text for called, text in said if called in levels} == set(first_column(part))
    assert all(f"`{text}`" in part for called, text in said if called not in levels)


def test_class_tree_matches_the_exceptions() -> None:
    """In the page's tree each class that users can meet is below its own bases."""
    tree = re.search(r"```\n(BaseException.*?)```", PAGE, re.DOTALL)
    assert tree is not None
    bases: dict[str, str] = {}
    path: list[str] = []
    for line in tree[1].splitlines():
        name = re.search(r"[\w.]+", line)
        assert name is not None
        del path[name.start() // 4 :]
        bases[name[0].rpartition(".")[2]] = path[-1] if path else ""
        path.append(name[0])

    kinds = [getattr(errors, name) for name in (*errors.__all__, "LoopInterrupt")]
    for kind in [*kinds, testing.ClockError]:
        assert bases[kind.__name__] in {base.__name__ for base in kind.__mro__[1:]}
    assert len(bases) == len(kinds) + 5  # plus BaseException, Exception, TimeoutError, ...


def no_answer(_details: object) -> NoReturn:
    raise KeyError


def test_page_has_the_timeout_messages() -> None:
    """The page has the messages of the interrupts, of the caller's error, and of the notes."""
    part = section("LambdaTimeout")
    usual, _, not_begun, interrupted = first_column(part)
    figures = re.compile(r"\d+\.\d")
    with pytest.raises(LambdaTimeout) as plain:
        watch()(lambda _e, _c: block())({}, Context(1))
    with pytest.raises(LambdaTimeout) as failed:
        watch(fallback=no_answer)(lambda _e, _c: block())({}, Context(1))

    said, place = str(plain.value).split(", in ")
    assert figures.sub("N", said) == figures.sub("N", usual.split(", in ")[0])
    assert re.fullmatch(r"\S+\.py:\d+ \(\w+\)", place)
    assert f"`{failed.value.__notes__[0]}`" in part
    assert [str(error) for _, error, _ in (NOT_BEGUN, INTERRUPTED)] == [
        not_begun,
        interrupted,
    ]
