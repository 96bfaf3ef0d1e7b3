"""Whose code a frame runs, and how a place is named."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

import watchdog_lambda
from tests.support import block
from watchdog_lambda._cpython import bytecode
from watchdog_lambda._cpython.source import (
    MOST_FRAMES,
    SourceMap,
    current_path,
    is_ours,
    of_the_handler,
    shown,
    trim,
)


def test_user_code_is_distinguished_from_libraries(tmp_path: Path) -> None:
    """The standard library, site-packages, layers and what a dist-info names are not user code."""
    task = tmp_path / "task"
    (task / "urllib3-2.8.0.dist-info").mkdir(parents=True)
    code = SourceMap([str(task)])

    assert code.is_own(str(task / "app.py"))
    assert code.is_own(str(task / "jobs" / "load.py"))
    assert not code.is_own(str(task / "urllib3" / "connection.py"))
    assert not code.is_own(threading.__file__)
    assert not code.is_own(pytest.__file__)
    assert not code.is_own("/opt/python/layer.py")
    assert not code.is_own("/var/runtime/bootstrap.py")
    assert not code.is_own(bytecode.__file__)
    assert not code.is_own("<frozen importlib._bootstrap>")


def test_unlistable_path_entry_counts_as_own() -> None:
    """An entry of the path that cannot be listed, as a zip file, counts as the user's own."""
    assert SourceMap(["/nowhere.zip"]).is_own("/nowhere.zip/app.py")


def test_file_is_named_relative_to_innermost_path_entry(tmp_path: Path) -> None:
    """A file is named relative to its innermost path entry, without the machine's folders."""
    code = SourceMap([str(tmp_path), str(tmp_path / "src")])

    assert code.name(str(tmp_path / "src" / "jobs" / "load.py")) == "jobs/load.py"
    assert code.name("/elsewhere/x.py") == "/elsewhere/x.py"


def test_deep_stack_is_cut_in_the_middle() -> None:
    """A deep stack, as of a runaway recursion, is cut in the middle."""
    stack = [(f"file{n}.py", n, "deep") for n in range(MOST_FRAMES + 100)]

    places = SourceMap([]).places(stack)

    assert len(places) == MOST_FRAMES + 1
    assert "frames left out" in places[MOST_FRAMES // 2]
    assert (places[0], places[-1]) == (f"file{MOST_FRAMES + 99}.py:299 (deep)", "file0.py:0 (deep)")


def test_handler_stack_ends_at_the_outermost_guard() -> None:
    """The handler's part of a stack ends at the outermost guard, without the package's frames.

    What is outside of that guard is the runtime.
    """
    ours = bytecode.__file__
    stack = [("lib.py", 3, "read"), (ours, 1, "land"), ("app.py", 2, "handler")]
    stack += [(ours, 9, "guarded"), ("outer.py", 1, "wraps"), (ours, 9, "guarded")]
    stack += [("runtime.py", 1, "run")]

    assert of_the_handler(stack) == [
        ("lib.py", 3, "read"),
        ("app.py", 2, "handler"),
        ("outer.py", 1, "wraps"),
    ]
    assert of_the_handler([("a.py", 1, "f")]) == [("a.py", 1, "f")]


def test_location_is_the_innermost_frame_of_own_code() -> None:
    """The location is the innermost frame of the user's code, or else the innermost frame."""
    stack = [
        (threading.__file__, 327, "wait"),
        ("/task/app.py", 41, "load"),
        ("/task/app.py", 7, "h"),
    ]

    assert SourceMap(["/task"]).location(stack) == "app.py:41 (load)"
    assert SourceMap([]).location(stack[:1]).endswith("threading.py:327 (wait)")
    assert SourceMap([]).location([]) == ""


def test_trim_removes_only_package_frames() -> None:
    """A traceback without a frame outside of the package's is left as it is."""
    try:
        raise KeyError
    except KeyError as error:
        traceback = error.__traceback__

    assert trim(traceback) is traceback
    assert trim(None) is None


def test_line_breaks_in_names_are_escaped() -> None:
    """Line breaks and control characters in a name are escaped, so no log line can be forged."""
    assert shown("load_rows") == "load_rows"
    assert shown("größe") == "größe"
    assert shown("a\nb\x1b[31m") == r"a\nb\x1b[31m"


def test_empty_path_entry_is_the_working_directory_or_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The path's empty entry is the working directory, or the root if that is gone.

    Entries that are not strings are skipped, as imports do.
    """
    monkeypatch.setattr(sys, "path", ["", "/task", Path("/opt")])
    assert current_path() == [str(Path.cwd()), "/task"]

    def removed() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", removed)
    assert current_path() == ["/", "/task"]


def test_package_frames_are_own_except_opaque_call() -> None:
    """The package's frames are its own, except the one that stands for a handler in C."""
    from watchdog_lambda._async import call_opaque  # noqa: PLC0415
    from watchdog_lambda._handler import guard  # noqa: PLC0415

    assert is_ours(guard.__code__)
    assert not is_ours(call_opaque.__code__)
    assert not is_ours(block.__code__)


def test_no_interrupt_lands_in_any_file_of_the_package() -> None:
    """Every file under the package's root counts as the package's, however deep."""
    root = Path(watchdog_lambda.__file__).parent
    files = sorted(root.rglob("*.py"))

    codes = [compile(path.read_bytes(), str(path), "exec") for path in files]

    assert root / "cli" / "__init__.py" in files
    assert [code.co_filename for code in codes if not is_ours(code)] == []
    assert not is_ours(compile("", str(root) + "_of_the_users.py", "exec"))
