"""Reading code: exception tables, back edges, whose file it is, how a place is named."""

from __future__ import annotations

import asyncio
import dis
import os
import re
import selectors
import sys
import textwrap
import threading
from asyncio import base_events, events
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from coverage.collector import Collector

from watchdog_lambda._cpython import bytecode
from watchdog_lambda._cpython.bytecode import (
    _Opcodes,
    breaks_loop,
    catches,
    hides_timeout,
    is_around_loop,
    is_back_edge,
    is_between_callbacks,
    is_dropped,
    is_entering_with,
    is_fragile,
    is_loops_own,
    is_unprotected_back_edge,
    protected_by,
    protected_lines,
    protected_ranges,
)

if TYPE_CHECKING:
    from types import CodeType, FrameType

STDLIB = Path(os.__file__).parent


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


def test_protected_by_agrees_with_the_table_at_every_instruction() -> None:
    """An entry's end belongs to it no more."""
    entries = dis._parse_exception_table(NESTED)  # type: ignore[attr-defined]

    for offset in range(0, len(NESTED.co_code), 2):
        targets = [e.target for e in entries if e.start <= offset < e.end]
        assert protected_by(NESTED, offset) == (targets[0] if targets else None)


def test_the_compilers_own_handler_catches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told by its first instruction; every other handler is the source's."""
    handlers = sorted({target for _, _, target in protected_ranges(NESTED)})
    own = NESTED.co_code[handlers[0] : handlers[0] + 2]
    monkeypatch.setattr(_Opcodes, "stop_iteration_error", own)

    assert not catches(NESTED, None)
    assert [catches(NESTED, handler) for handler in handlers] == [
        NESTED.co_code[handler : handler + 2] != own for handler in handlers
    ]
    monkeypatch.setattr(_Opcodes, "stop_iteration_error", b"")
    assert all(catches(NESTED, handler) for handler in handlers)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 puts none there")
def test_a_generator_has_a_handler_of_the_compilers() -> None:
    """Around all of it."""
    bytecode.preload()
    code = compiled("def f(work):\n    yield work()\n")

    assert [catches(code, target) for _, _, target in protected_ranges(code)][-1] is False


def test_loops_jump_back_by_these_instructions() -> None:
    """All that look for signals, and no other."""
    bytecode.preload()

    back = {name for name, number in dis.opmap.items() if number in _Opcodes.backward_jumps}

    # From 3.12 on some have a double, for whoever monitors.
    jump = re.compile(r"(INSTRUMENTED_|POP_)?JUMP_BACKWARD(_IF_\w+)?")
    assert back == {name for name in dis.opmap if jump.fullmatch(name)}
    assert {name for name, n in dis.opmap.items() if n == _Opcodes.extended_arg} == {"EXTENDED_ARG"}


def _back_edges(code: CodeType) -> list[int]:
    return [
        i.offset
        for i in dis.get_instructions(code)
        if "JUMP_BACKWARD" in i.opname and "NO_INTERRUPT" not in i.opname
    ]


@pytest.mark.parametrize("statements", [1, 200, 11_000], ids=["near", "far", "farther still"])
def test_back_edge_that_skips_a_finally_is_found(statements: int) -> None:
    """The shape that this interpreter gets wrong; the far jump has an extended argument.

    That a raise there does skip the ``finally`` is shown by tests/threads/test_loops.py.
    """
    bytecode.preload()
    # 3.14 leaves out the jump of a condition at the loop's end, 3.13 that of the loop's own
    # condition; before, it is the loop on one line.
    condition = "work()" if sys.version_info >= (3, 13) else "True"
    block = "; ".join(f"number += {n}" for n in range(statements))
    if sys.version_info >= (3, 14):
        indent = "\n" + " " * 20
        block = f"{indent}{block}{indent}if work(1): number += 1"
    code = compiled(
        f"""
        def f(work):
            number = 0
            try:
                while {condition}: {block}
            finally:
                work(number)
        """
    )
    edges = _back_edges(code)

    found = [offset for offset in edges if is_unprotected_back_edge(code, offset)]

    assert len(found) == 1
    assert not any(is_unprotected_back_edge(code, found[0] + n) for n in (-2, 2, 4))


def table(start: int, end: int, target: int) -> bytes:
    """An exception table of one entry."""

    def varint(value: int) -> bytes:
        digits = [value & 63]
        while value := value >> 6:
            digits.insert(0, value & 63)
        return bytes([*(digit | 64 for digit in digits[:-1]), digits[-1]])

    return b"".join(map(varint, (start // 2, (end - start) // 2, target // 2, 0)))


def protected_at(start: int, code: Any) -> Any:
    """The same code, as if a handler at its end were for this instruction and no other."""
    entry = table(start, start + 2, len(code.co_code) - 2)
    return SimpleNamespace(co_code=code.co_code, co_exceptiontable=entry)


def test_a_table_that_is_made_up_reads_as_a_true_one() -> None:
    """Offsets of one, two and three digits."""
    for given in ((2, 4, 6), (100, 300, 500), (20_000, 20_100, 30_000)):
        assert list(protected_ranges(SimpleNamespace(co_exceptiontable=table(*given)))) == [given]  # type: ignore[arg-type]


@pytest.mark.parametrize("statements", [1, 200], ids=["near", "far"])
def test_a_jump_back_is_judged_by_where_it_goes(statements: int) -> None:
    """To the very instruction that the standard library reads out of it."""
    bytecode.preload()
    code = compiled(
        f"""
        def f(work):
            number = 0
            for item in work:
                {"; ".join(f"number += {n}" for n in range(statements))}
        """
    )
    [edge] = _back_edges(code)
    [jump] = [i for i in dis.get_instructions(code) if i.offset == edge]
    near = range(jump.argval - 8, jump.argval + 10, 2)

    found = [at for at in near if is_unprotected_back_edge(protected_at(at, code), jump.offset)]

    assert found == [jump.argval]


@pytest.mark.parametrize("caches", [0, 1, 2])
def test_a_jumps_cache_lies_before_what_its_distance_counts_from(
    caches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 3.13's has one."""
    nothing, jump, back = b"\x09\x00", 7, 10
    monkeypatch.setattr(_Opcodes, "backward_jumps", frozenset({jump}))
    monkeypatch.setattr(_Opcodes, "jump_caches", caches)
    code = SimpleNamespace(co_code=nothing * 20 + bytes((jump, back)) + nothing * 20)

    found = [at for at in range(0, 80, 2) if is_unprotected_back_edge(protected_at(at, code), 40)]

    assert found == [40 + 2 * (1 + caches - back)]


def test_loop_without_a_try_is_no_obstacle() -> None:
    """A raise at the back edge of a loop that nothing protects skips nothing."""
    bytecode.preload()
    code = compiled(
        """
        def f(work):
            while work():
                pass
        """
    )

    assert _back_edges(code)
    assert not any(is_unprotected_back_edge(code, offset) for offset in _back_edges(code))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="3.13 looks the jump itself up")
@pytest.mark.parametrize("statements", [1, 200], ids=["near", "far"])
def test_a_loop_whose_jump_is_looked_up_within_its_try_is_no_obstacle(statements: int) -> None:
    """Before its target stands what the ``try`` begins with, and no more of it."""
    bytecode.preload()
    body = "; ".join(f"number += {n}" for n in range(statements))
    code = compiled(
        f"""
        def f(work):
            number = work()
            try:
                pass
                while True: {body}
            finally:
                work(number)
        """
    )

    assert _back_edges(code)
    assert not any(is_unprotected_back_edge(code, offset) for offset in _back_edges(code))


def test_offsets_outside_of_the_code_are_no_back_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that has not begun has the offset -1, and that is not the last byte."""
    monkeypatch.setattr(_Opcodes, "backward_jumps", frozenset({NESTED.co_code[-1]}))
    assert not is_unprotected_back_edge(NESTED, -1)
    assert not is_unprotected_back_edge(NESTED, 10_000)
    assert not is_back_edge(NESTED, -1)
    assert not is_back_edge(NESTED, len(NESTED.co_code))


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
        def locked(self) -> None: ...
        def release(self) -> None:
            caller = sys._getframe(1)
            seen.append(caller.f_code.co_name == "_release_save" and is_fragile(caller))

    threading.Condition(Lock())._release_save()  # type: ignore[arg-type, attr-defined]

    assert is_fragile(held.frame)
    assert seen == [True]
    assert not is_fragile(sys._getframe())


def test_a_coverage_tools_lock_is_fragile() -> None:
    """An interrupt between its two ends would have every later file that is traced wait for it."""
    seen: list[bool] = []

    class Lock:
        """Stands in for the collector's, and looks at the frames that call it."""

        def acquire(self) -> None:
            seen.append(is_fragile(sys._getframe(1)))

        release = acquire

    collector: Any = Collector.__new__(Collector)
    collector.data_lock = Lock()
    collector.lock_data()
    collector.unlock_data()

    assert seen == [True, True]


def test_what_is_named_as_a_coverage_tools_is_not_fragile() -> None:
    """Nor is what else that tool has in its file."""
    file = Collector.lock_data.__code__.co_filename

    assert is_fragile(frame_of("lock_data", file))
    assert not is_fragile(frame_of("lock_data", "app.py"))
    assert not is_fragile(frame_of("start", file))


def frame_of(function: str, file: str) -> Any:
    return SimpleNamespace(f_code=NESTED.replace(co_name=function, co_filename=file))


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


def test_lines_of_a_block_are_those_in_its_try() -> None:
    """Neither the one before nor the one behind, nor the handler's own."""
    code = compiled(
        """
        def f(work):
            work(0)
            try:
                work(1)
                work(2)
            except ValueError:
                work(3)
            work(4)
        """
    )
    handler = next(target for _, _, target in protected_ranges(code))

    ranges = [(start, end) for start, end, target in protected_ranges(code) if target == handler]
    begins = {
        position[0]
        for offset, position in zip(range(0, 9999, 2), code.co_positions(), strict=False)
        if any(start <= offset < end for start, end in ranges)
    }

    assert protected_lines(code, handler) == begins
    assert {5, 6} <= begins <= {4, 5, 6}  # some have an instruction for the try itself


def test_an_else_is_no_part_of_the_block() -> None:
    """Its errors go elsewhere, though its code follows the block's at once."""
    code = compiled(
        """
        def f(work):
            try:
                work(1)
            except ValueError:
                work(2)
            else:
                work(3)
        """
    )
    handler = next(target for _, _, target in protected_ranges(code))

    lines = protected_lines(code, handler)

    assert 4 in lines
    assert 8 not in lines


def test_frames_of_asyncio_are_the_loops_own() -> None:
    """By file; its name may begin alike elsewhere."""
    own, beside = (
        NESTED.replace(co_filename=str(STDLIB / file))
        for file in ("asyncio/events.py", "asyncio_extras.py")
    )

    assert is_loops_own(own)
    assert not is_loops_own(beside)
    assert is_fragile(SimpleNamespace(f_code=own))  # type: ignore[arg-type]
    assert not is_fragile(SimpleNamespace(f_code=beside))  # type: ignore[arg-type]


def test_only_asyncio_run_is_around_a_loop() -> None:
    """In a callback of asyncio's own nothing waits."""
    runner, tasks = (
        NESTED.replace(co_filename=str(STDLIB / "asyncio" / file))
        for file in ("runners.py", "tasks.py")
    )

    assert is_around_loop(runner)
    assert not is_around_loop(tasks)


def called(code: CodeType, name: str) -> list[int]:
    """The offsets of the calls of a method of that name."""
    found: list[int] = []
    is_next = False
    for instruction in dis.get_instructions(code):
        if instruction.argval == name and instruction.opname.startswith("LOAD_"):
            is_next = True
        elif is_next and instruction.opname.startswith("CALL"):
            found.append(instruction.offset)
            is_next = False
    return found


def test_a_callback_is_lost_between_its_turn_and_its_call() -> None:
    """At every instruction in between, which all look alike but for the jumps back."""
    code = base_events.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]
    [taken], [*_, run] = called(code, "popleft"), called(code, "_run")

    def loses(offset: int, **variables: object) -> bool:
        frame = SimpleNamespace(f_code=code, f_lasti=offset, f_locals=variables, f_back=None)
        return breaks_loop(frame)  # type: ignore[arg-type]

    between = [i.offset for i in dis.get_instructions(code) if taken <= i.offset <= run]
    jumps = [offset for offset in between if is_back_edge(code, offset)]
    assert [offset for offset in between if not loses(offset, event_list=None)] == jumps
    # It waits in the selector, and only what has waited has an answer of it.
    assert not loses(called(code, "select")[0], timeout=None)


def test_a_callback_is_lost_where_its_handle_has_not_called_it() -> None:
    """At the first instruction, where CPython looks at signals. At the call it has been called."""
    code = events.Handle._run.__code__
    by_name = {i.opname: i.offset for i in reversed(list(dis.get_instructions(code)))}

    def loses(opname: str) -> bool:
        frame = SimpleNamespace(f_code=code, f_lasti=by_name[opname], f_back=None)
        return breaks_loop(frame)  # type: ignore[arg-type]

    assert loses("RESUME")
    assert not loses("CALL_FUNCTION_EX")


def test_asyncios_own_callbacks_are_seen_through() -> None:
    """gather() would wait for good; a coroutine of asyncio's gets what is raised in it."""
    verdicts: dict[str, set[bool]] = {}

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            verdicts.setdefault(frame.f_code.co_name, set()).add(breaks_loop(frame))
        return trace

    async def main() -> None:
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))

    loop = asyncio.new_event_loop()
    sys.settrace(trace)
    try:
        loop.run_until_complete(main())
    finally:
        sys.settrace(None)
        loop.close()

    assert verdicts["_done_callback"] == {True}
    assert verdicts["sleep"] == {False}
    assert verdicts["main"] == {False}
    assert verdicts["run_until_complete"] == {False}
    assert verdicts["run_forever"] == {True}, "between a run's beginning and its end"
    assert verdicts["_set_coroutine_origin_tracking"] == {True}
    assert verdicts.get("_run_forever_setup", {True}) == {True}
    assert verdicts.get("_run_forever_cleanup", {True}) == {True}
    assert verdicts["select"] == {False}


def test_a_timeout_is_hidden_where_a_child_process_is_waited_for() -> None:
    """There alone: any OSError means that the child has ended."""
    popen_fork = str(STDLIB / "multiprocessing" / "popen_fork.py")

    assert hides_timeout(popen_fork, "poll")
    assert not hides_timeout(popen_fork, "wait")
    assert not hides_timeout("popen_fork.py", "poll")


def test_the_call_that_enters_a_with_is_found() -> None:
    """And no other call: from 3.14 on, signals are looked at behind it and before the block."""
    bytecode.preload()
    code = compiled(
        """
        def f(work):
            work()
            with work() as result:
                result()
            async def g():
                async with work():
                    pass
        """
    )
    coroutine = next(constant for constant in code.co_consts if hasattr(constant, "co_code"))

    found = [i.offset for i in dis.get_instructions(code) if is_entering_with(code, i.offset)]

    assert len(found) == (1 if sys.version_info >= (3, 14) else 0)
    for offset in found:
        assert protected_by(code, offset) is None
        [line] = [line for begin, end, line in code.co_lines() if begin <= offset < end]
        assert line == code.co_firstlineno + 2
    assert not any(is_entering_with(coroutine, n) for n in range(-2, len(coroutine.co_code) + 4))


def test_what_a_finaliser_calls_is_dropped() -> None:
    """Within bounds; what it has been called by is not."""
    seen: list[bool] = []

    def look(deeper: int) -> None:
        if deeper:
            look(deeper - 1)
        else:
            seen.append(is_dropped(sys._getframe()))

    class Finalised:
        def __del__(self) -> None:
            look(0)
            look(bytecode.MOST_LOOKED_AT - 2)
            look(bytecode.MOST_LOOKED_AT - 1)

    def collect() -> None:
        look(0)
        Finalised()
        look(0)

    collect()

    assert seen == [False, True, True, False, False]


def test_the_warning_of_a_coroutine_that_nobody_awaited_is_dropped() -> None:
    """By the collector, with all that is called for it."""
    called: dict[str, bool] = {}

    async def forgotten() -> None: ...

    def look(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called[frame.f_code.co_name] = is_dropped(frame)

    def forget() -> None:
        coroutine = forgotten()
        sys.setprofile(look)
        try:
            del coroutine
        finally:
            sys.setprofile(None)

    with pytest.warns(RuntimeWarning, match="was never awaited"):
        forget()

    assert {"_warn_unawaited_coroutine", "_showwarnmsg"} <= called.keys()
    assert [name for name, dropped in called.items() if not dropped] == []


def test_a_selector_that_only_looks_is_asked_between_callbacks() -> None:
    """As an event loop asks it while there are callbacks whose turn has come."""
    found: dict[str, bool] = {}

    class Polled:
        def __init__(self, name: str) -> None:
            self.name = name

        def poll(self, *_: object) -> list[object]:
            found[self.name] = is_between_callbacks(sys._getframe(1))
            return []

    for timeout in (None, 0, 0.0, -1.0, 0.001, 30):
        selector: Any = selectors.EpollSelector()
        selector.close()
        selector._selector = Polled(f"{timeout}")
        selector._fd_to_key = {}
        selector.select(timeout)

    assert [name for name, is_between in found.items() if is_between] == ["0", "0.0", "-1.0"]
    assert not is_between_callbacks(sys._getframe())


@pytest.mark.parametrize("timeout", ["0", None, True])
def test_what_is_named_as_a_selectors_is_not(timeout: object) -> None:
    """A function of the user's of that name; and what is no number is not compared."""
    theirs = SimpleNamespace(co_name="select", co_filename="app.py")
    ours = SimpleNamespace(co_name="select", co_filename=selectors.__file__)

    assert not is_between_callbacks(SimpleNamespace(f_code=theirs, f_locals={"timeout": 0}))  # type: ignore[arg-type]
    assert not is_between_callbacks(SimpleNamespace(f_code=ours, f_locals={"timeout": timeout}))  # type: ignore[arg-type]


def test_a_call_enters_a_with_if_it_stands_behind_what_finds_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By whatever numbers; neither another call nor an offset outside of the code does."""
    find, find_another, call = b"\x5f\x00", b"\x5f\x01", b"\x34\x00"
    monkeypatch.setattr(_Opcodes, "call", call[0])
    monkeypatch.setattr(_Opcodes, "load_enter", find)
    code: Any = SimpleNamespace(co_code=find + call + call + find_another + call + find + find)

    offsets = range(-len(code.co_code), len(code.co_code) + 3)

    assert [offset for offset in offsets if is_entering_with(code, offset)] == [2]
