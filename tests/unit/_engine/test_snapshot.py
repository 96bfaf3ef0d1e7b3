"""What a look at the threads and the user's objects gives, whatever these are like."""

from __future__ import annotations

import threading
from _thread import get_ident
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import Broken
from watchdog_lambda._engine import snapshot
from watchdog_lambda._engine.snapshot import attribute, other_stacks, text

# ---- the user's objects ------------------------------------------------------------------------


def test_unprintable_object_is_named_by_its_type() -> None:
    """An object whose ``str`` or property raises is shown as its type, a missing one as empty."""
    holder = SimpleNamespace(number=7, nothing=None, broken=Broken())

    assert text(Broken()) == "<Broken>"
    assert attribute(holder, "number") == "7"
    assert attribute(holder, "broken") == "<Broken>"
    assert attribute(holder, "nothing") == attribute(holder, "missing") == ""
    assert attribute(Broken(), "name") == ""


# ---- the other threads -------------------------------------------------------------------------


class Places:
    """Stands in for a SourceMap: the stacks of these tests are places already."""

    @staticmethod
    def places(stack: list[str]) -> tuple[str, ...]:
        return tuple(stack)


def others(stacks: dict[int, list[str]], names: dict[int, str] | None = None) -> dict[str, Any]:
    active = {ident: SimpleNamespace(name=name) for ident, name in (names or {}).items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "_active", active)
        patch.setattr(snapshot, "_count", lambda: 45)
        return other_stacks(Places(), stacks)  # type: ignore[arg-type]


def test_threads_are_listed_by_name() -> None:
    """Threads are listed by name; the calling thread and threads without places are left out."""
    stacks = {1: ["a"], 2: ["b"], 3: ["c"], 4: ["d"], 5: [], get_ident(): ["own"], 6: ["e"]}

    told = others(stacks, {1: "pool", 2: "pool", 4: "", 6: "last"})

    assert told == {
        "pool": ("a",),
        "pool (2)": ("b",),
        "thread": ("c",),
        "thread (4)": ("d",),
        "last": ("e",),
    }


def test_innermost_frames_of_a_deep_stack_are_shown() -> None:
    """Of a deep stack the 20 innermost frames are shown."""
    assert others({1: [str(n) for n in range(25)]}) == {
        "thread": tuple(str(n) for n in range(5, 25))
    }


@pytest.mark.parametrize(
    ("count", "more"), [(30, None), (31, ("15 threads left out",)), (33, ("15 threads left out",))]
)
def test_number_of_shown_threads_is_limited(count: int, more: tuple[str, ...] | None) -> None:
    """Thirty threads are shown, and an entry says how many of the process's are left out."""
    told = others({n: ["a"] for n in range(1, count + 1)})

    assert told.pop("...", None) == more
    assert len(told) == 30


# ---- the whole look ----------------------------------------------------------------------------


def test_details_have_stack_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The details have the handler's stack with what it awaits, and the invocation's names.

    The firing has the other threads' stacks.
    """
    stacks = {7: [("run", 1, "run_forever")], 8: [("other", 2, "work")]}
    awaited = [("app.py", 41, "load_rows")]
    monkeypatch.setattr(snapshot, "all_stacks", lambda wanted: {wanted: stacks[7], 8: stacks[8]})
    monkeypatch.setattr(snapshot, "with_awaited", lambda stack, _ident, _code: awaited + stack)
    code: Any = SimpleNamespace(
        places=lambda stack: tuple(entry[2] for entry in stack), location=lambda stack: stack[0][0]
    )
    firing: Any = SimpleNamespace(
        thread_id=7,
        code=code,
        invocation=SimpleNamespace(
            hard=1030.0, context=SimpleNamespace(aws_request_id="r-1", function_name="orders")
        ),
        timeline=SimpleNamespace(grace_period=3.0),
    )

    details = snapshot.look(firing, 27.0)

    assert (details.request_id, details.function_name) == ("r-1", "orders")
    assert (details.deadline, details.elapsed, details.grace_period) == (1030.0, 27.0, 3.0)
    assert (details.stack, details.location) == (("load_rows", "run_forever"), "app.py")
    assert firing.other_stacks == {"thread": ("work",)}
