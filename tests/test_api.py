"""Tests of the public API: its exports, the effects of the import, and the modules' imports."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import watchdog_lambda
from tools.api import SNAPSHOT, as_text

PACKAGE = Path(watchdog_lambda.__file__).parent
PUBLIC = (
    "watchdog_lambda",
    "watchdog_lambda.details",
    "watchdog_lambda.errors",
    "watchdog_lambda.testing",
)
MODULES = sorted(m.name for m in pkgutil.iter_modules([str(PACKAGE)]))


def test_exported_names_exist_and_are_documented() -> None:
    """Every name of ``__all__`` exists and has a docstring.

    The names are sorted, so that a diff shows new ones.
    """
    assert list(watchdog_lambda.__all__) == sorted(watchdog_lambda.__all__)
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            assert inspect.getdoc(getattr(module, name)), f"{module.__name__}.{name}"


def test_every_module_has_a_docstring() -> None:
    """Every module of the contract has a docstring.

    Its first line says what belongs into the module.
    """
    for name in MODULES:
        if name in {"entrypoint", "__main__"}:
            continue  # importing these modules has effects
        assert importlib.import_module(f"watchdog_lambda.{name}").__doc__, name


IMPORT = """
import os, signal, sys, threading

class Environ(dict):
    def __getitem__(self, key): raise AssertionError(f"read {key}")
    get = __contains__ = keys = items = __iter__ = __getitem__

before = {s: signal.getsignal(s) for s in signal.valid_signals()}
os.environ = Environ()
import watchdog_lambda
assert threading.active_count() == 1
assert {s: signal.getsignal(s) for s in signal.valid_signals()} == before
for heavy in ("aws_lambda_powertools", "awslambdaric", "asyncio", "ctypes", "typing", "dataclasses",
              "inspect", "pathlib", "traceback", "logging", "difflib", "contextlib"):
    assert heavy not in sys.modules, heavy
"""


def test_import_has_no_side_effects() -> None:
    """Importing the package starts no thread and sets no signal handler.

    It reads no environment, and imports little.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE.parent,
        timeout=30,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (
            r"^\s*import time|from time ",
            # _cpython.delivery sleeps where no frame is left to call the clock.
            {
                "_engine.clock",
                "_report.record",
                "details",
                "_cpython.approach",
                "_cpython.delivery",
                "_cpython.waiting",
            },
        ),
        (r"^\s*import _?ctypes", {"_cpython.libc"}),
        (
            r"\bsignal\.(signal|pthread_kill)\(",
            # _lambda.process reads which signals are ignored, because a restarted process inherits
            # that.
            {"_cpython.delivery", "_lambda.process", "_lambda.runtime_process", "_lambda.sandbox"},
        ),
        (r"os\.environ", {"_register", "_time_limit", "_watched", "entrypoint", "__main__"}),
        (r"sys\.settrace", {"_cpython.approach"}),
        (r"setswitchinterval", {"_cpython.pace"}),
        (r"setrecursionlimit", {"_cpython.recursion"}),
        (r"gc\.disable", {"_cpython.stacks"}),
        (
            r"except BaseException",
            {
                "_handler",
                "_time_limit",
                "_engine.daemon",
                "_engine.stage",
                "_engine.shields",
                "_lambda.sandbox",
            },
        ),
    ],
)
def test_dangerous_apis_are_confined_to_few_modules(pattern: str, allowed: set[str]) -> None:
    """Time, ctypes, signals, the environment and the broadest except are used in few modules."""
    found = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if PACKAGE / "cli" not in path.parents
        if re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert found <= allowed


def test_no_text_is_executed_as_code() -> None:
    """No text is evaluated, unpickled or given to a shell, by the package or by the command."""
    becomes_code = (
        r"^\s*(import|from) (pickle|marshal|shelve)|(?<![.\w])(eval|exec)\(|shell=True|os\.system\("
    )

    found = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(becomes_code, path.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert found == set()


def test_version_matches_installed_metadata() -> None:
    """The installed version is that of ``__version__``, from which the metadata is made."""
    assert importlib.metadata.version("watchdog-lambda") == watchdog_lambda.__version__


def test_public_api_matches_the_snapshot() -> None:
    """The public API is the recorded one: names, signatures, settings, arguments, fixtures.

    If a change is intended, run `python3 dev.py api`, and see RELEASING.md.
    """
    assert as_text().splitlines() == SNAPSHOT.read_text(encoding="utf-8").splitlines()
