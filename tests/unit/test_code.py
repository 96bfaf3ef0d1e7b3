"""Reading code: exception tables, back edges, whose file it is, how a place is named."""

from __future__ import annotations

import dis
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda import _code
from watchdog_lambda._code import (
    MOST_FRAMES,
    CodeMap,
    is_fragile,
    is_ours,
    is_unprotected_back_edge,
    of_the_handler,
    protected_by,
    protected_lines,
    protected_ranges,
    trim,
    waits_in_exit,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import CodeType, FrameType


def compiled(source: str) -> CodeType:
    namespace: dict[str, Any] = {}
    exec(compile(textwrap.dedent(source), "made.py", "exec"), namespace)  # noqa: S102
    code: CodeType = namespace["f"].__code__
    return code


NESTED = compiled(
    """
    def f(work):
        with work:
            try:
                for item in work():
                    try:
                        work(item)
                    except ValueError:
                        work(1)
            finally:
                work(2)
    """
)


def test_exception_table_reads_as_the_standard_library_reads_it() -> None:
    """The format is documented, the parser in dis is private: ours must agree with it."""
    entries = dis._parse_exception_table(NESTED)  # type: ignore[attr-defined]

    assert [(e.start, e.end, e.target) for e in entries] == list(protected_ranges(NESTED))
    assert len(entries) > 5


def test_protected_by_gives_the_innermost_handler() -> None:
    """An offset belongs to one handler; outside of every try to none."""
    start, _, target = next(protected_ranges(NESTED))

    assert protected_by(NESTED, start) == target
    assert protected_by(NESTED, 0) is None


def _back_edges(code: CodeType) -> list[int]:
    return [
        i.offset
        for i in dis.get_instructions(code)
        if "JUMP_BACKWARD" in i.opname and "NO_INTERRUPT" not in i.opname
    ]


@pytest.mark.parametrize("statements", [1, 200], ids=["near", "far"])
def test_back_edge_that_skips_a_finally_is_found(statements: int) -> None:
    """The shape that this interpreter gets wrong; the far jump has an extended argument.

    That a raise there does skip the ``finally`` is shown by tests/threads/test_loops.py.
    """
    _code.preload()
    # 3.13 leaves out the jump of a loop with a condition; before, it is the loop on one line.
    condition = "work()" if sys.version_info >= (3, 13) else "True"
    body = "; ".join(f"number += {n}" for n in range(statements))
    code = compiled(
        f"""
        def f(work):
            number = 0
            try:
                while {condition}: {body}
            finally:
                work(number)
        """
    )
    edges = _back_edges(code)

    assert len(edges) == 1
    assert is_unprotected_back_edge(code, edges[0])
    assert not any(is_unprotected_back_edge(code, edges[0] + n) for n in (-2, 2, 4))


def test_loop_without_a_try_is_no_obstacle() -> None:
    """A raise at the back edge of a loop that nothing protects skips nothing."""
    _code.preload()
    code = compiled(
        """
        def f(work):
            while work():
                pass
        """
    )

    assert _back_edges(code)
    assert not any(is_unprotected_back_edge(code, offset) for offset in _back_edges(code))


def test_offsets_outside_of_the_code_are_no_back_edges() -> None:
    """A frame that has not begun has the offset -1."""
    assert not is_unprotected_back_edge(NESTED, -1)
    assert not is_unprotected_back_edge(NESTED, 10_000)


class _Held:
    """A context manager that keeps the frame its ``__enter__`` ran in."""

    frame: FrameType

    def __enter__(self) -> None:
        self.frame = sys._getframe()

    def __exit__(self, *_: object) -> None:
        pass


def test_frames_between_a_resource_and_its_release_are_fragile() -> None:
    """``__enter__`` of anybody, and the condition's helpers."""
    held = _Held()
    with held:
        pass
    seen: list[bool] = []

    class Lock:
        """Stands in for a condition's lock, and looks at the frame that calls it."""

        def acquire(self) -> None: ...
        def release(self) -> None:
            caller = sys._getframe(1)
            seen.append(caller.f_code.co_name == "_release_save" and is_fragile(caller))

    threading.Condition(Lock())._release_save()  # type: ignore[arg-type, attr-defined]

    assert is_fragile(held.frame)
    assert seen == [True]
    assert not is_fragile(sys._getframe())


def test_own_code_and_libraries_are_told_apart(tmp_path: Path) -> None:
    """The standard library, site-packages, layers and what a dist-info names are libraries."""
    task = tmp_path / "task"
    (task / "urllib3-2.8.0.dist-info").mkdir(parents=True)
    code = CodeMap([str(task)])

    assert code.is_own(str(task / "app.py"))
    assert code.is_own(str(task / "jobs" / "load.py"))
    assert not code.is_own(str(task / "urllib3" / "connection.py"))
    assert not code.is_own(threading.__file__)
    assert not code.is_own(pytest.__file__)
    assert not code.is_own("/opt/python/layer.py")
    assert not code.is_own("/var/runtime/bootstrap.py")
    assert not code.is_own(_code.__file__)
    assert not code.is_own("<frozen importlib._bootstrap>")


def test_a_path_that_cannot_be_listed_makes_everything_own() -> None:
    """A zip file on the path, or one that is gone, is no error."""
    assert CodeMap(["/nowhere.zip"]).is_own("/nowhere.zip/app.py")


def test_places_are_named_as_imports_name_them(tmp_path: Path) -> None:
    """Relative to the innermost entry of the path, so that no machine's folders are in a log."""
    code = CodeMap([str(tmp_path), str(tmp_path / "src")])

    assert code.name(str(tmp_path / "src" / "jobs" / "load.py")) == "jobs/load.py"
    assert code.name("/elsewhere/x.py") == "/elsewhere/x.py"


def test_a_deep_stack_is_cut_in_the_middle() -> None:
    """A runaway recursion leaves its beginning and its end in the log."""
    stack = [(f"file{n}.py", n, "deep") for n in range(MOST_FRAMES + 100)]

    places = CodeMap([]).places(stack)

    assert len(places) == MOST_FRAMES + 1
    assert "frames left out" in places[MOST_FRAMES // 2]
    assert (places[0], places[-1]) == (f"file{MOST_FRAMES + 99}.py:299 (deep)", "file0.py:0 (deep)")


def test_the_handlers_part_of_a_stack_is_between_the_runtime_and_us() -> None:
    """What is outside of the outermost guard is the runtime; frames of ours are left out."""
    ours = _code.__file__
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
    """Blocked inside of a library, the place named is the line that called it."""
    stack = [
        (threading.__file__, 327, "wait"),
        ("/task/app.py", 41, "load"),
        ("/task/app.py", 7, "h"),
    ]

    assert CodeMap(["/task"]).location(stack) == "app.py:41 (load)"
    assert CodeMap([]).location(stack[:1]).endswith("threading.py:327 (wait)")
    assert CodeMap([]).location([]) == ""


def test_waits_in_exit_are_the_standard_librarys_only() -> None:
    """A pool's end that joins is a wait; user code in between, or another library's end, is not."""
    import concurrent.futures._base as futures  # noqa: PLC0415

    join = (threading.__file__, 1, "join")
    end = (futures.__file__, 1, "__exit__")

    assert waits_in_exit([join, (futures.__file__, 1, "shutdown"), end, ("app.py", 1, "h")])
    assert not waits_in_exit([join, ("app.py", 1, "close"), end])
    assert not waits_in_exit([join, ("app.py", 1, "h")])
    assert not waits_in_exit([("app.py", 1, "flush"), end])
    assert not waits_in_exit([])


def test_lines_of_a_block_are_those_whose_errors_go_to_its_handler() -> None:
    """By lines, for the threads whose instructions cannot be seen."""
    handler = next(target for _, _, target in protected_ranges(NESTED))

    lines = {
        line
        for t in {t for _, _, t in protected_ranges(NESTED)}
        for line in protected_lines(NESTED, t)
    }

    assert protected_lines(NESTED, handler) <= lines
    assert min(lines) > 1
    assert protected_lines(NESTED, -1) == frozenset()


def test_trim_cuts_the_frames_that_raised_the_interrupt() -> None:
    """A traceback ends where the handler was, not in this package; one that is all ours stays."""
    try:
        raise KeyError
    except KeyError as error:
        traceback = error.__traceback__

    assert trim(traceback) is traceback
    assert trim(None) is None


def test_package_frames_are_ours_but_for_the_opaque_call() -> None:
    """An interrupt lands in no frame of the package, except the one that stands for C code."""
    from watchdog_lambda._handler import call_opaque, guard  # noqa: PLC0415

    assert is_ours(guard.__code__)
    assert not is_ours(call_opaque.__code__)
    assert not is_ours(compiled.__code__)
