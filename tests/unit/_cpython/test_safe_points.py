"""Safe points: at which instructions of a function a raise goes where the source says.

That an interrupt leaves nothing behind is shown by ``test_every_instruction.py``. These tests show
what each rule is for, and that enough safe points remain.
"""

from __future__ import annotations

import dis
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from watchdog_lambda._cpython.bytecode import catches, protected_by
from watchdog_lambda._cpython.safe_points import CodePoints

if TYPE_CHECKING:
    from types import CodeType


def compiled(source: str) -> CodeType:
    namespace: dict[str, Any] = {}
    exec(compile(textwrap.dedent(source), "made.py", "exec"), namespace)  # noqa: S102
    code: CodeType = namespace["f"].__code__
    return code


def named(code: CodeType, *names: str) -> list[int]:
    return [i.offset for i in dis.get_instructions(code) if i.opname in names]


def on_line(code: CodeType, number: int) -> list[int]:
    """Return the instructions of one line of the source, counted from that of its ``def``."""
    wanted = code.co_firstlineno + number
    return [
        i.offset
        for i in dis.get_instructions(code)
        if i.positions is not None and i.positions.lineno == wanted and i.opname != "NOP"
    ]


def name(code: CodeType, offset: int) -> str:
    return next(i.opname for i in dis.get_instructions(code) if i.offset == offset)


def test_only_stores_are_unsafe_in_plain_code() -> None:
    """In plain code only stores are unsafe, because they would lose a call's result."""
    code = compiled("def f(work):\n    x = work()\n    return x + 1\n")
    points = CodePoints(code)

    unsafe = [i.opname for i in dis.get_instructions(code) if not points.allows(i.offset)]

    assert {name.partition("_")[0] for name in unsafe} == {"STORE"}


def test_with_exit_has_no_safe_point() -> None:
    """From a block's last instruction to the call of ``__exit__`` no instruction is safe.

    All others are safe, in the block and after it.
    """
    code = compiled("def f(work):\n    with work:\n        work(1)\n    work(2)\n")
    points = CodePoints(code)
    nones = [
        i.offset
        for i in dis.get_instructions(code)
        if i.opname in {"LOAD_CONST", "LOAD_COMMON_CONSTANT"} and i.argval in {None, "None"}
    ][:3]
    exit_call = next(offset for offset in named(code, "CALL") if offset > nones[2])

    assert not any(points.allows(n) for n in range(nones[0], exit_call + 1, 2))
    assert all(points.allows(offset) for offset in (*on_line(code, 2), *on_line(code, 3)))


def test_async_with_entry_has_no_safe_point() -> None:
    """No instruction of an ``async with`` is safe before it is entered, and none of an await.

    The awaited coroutine would be left behind.
    """
    code = compiled(
        """
        async def f(work):
            async with work:
                await work(1)
            work(2)
        """
    )
    points = CodePoints(code)
    awaits = named(code, "GET_AWAITABLE", "SEND", "YIELD_VALUE", "END_SEND", "CLEANUP_THROW")

    assert len(awaits) >= 9
    assert not any(points.allows(offset) for offset in awaits)
    assert all(points.allows(offset) for offset in on_line(code, 3))


PLAIN = """
def f(lock, work):
    lock.acquire()
    try:
        work()
    finally:
        lock.release()
"""
NESTED = """
def f(lock, work):
    try:
        lock.acquire()
        try:
            work()
        finally:
            lock.release()
    finally:
        work(2)
"""


@pytest.mark.parametrize(("source", "line"), [(PLAIN, 3), (NESTED, 4)])
def test_gap_between_acquire_and_try_is_not_safe(source: str, line: int) -> None:
    """Between ``lock.acquire()`` and its ``try:`` no instruction is safe."""
    code = compiled(source)
    points = CodePoints(code)
    acquired, first = named(code, "CALL")[0], on_line(code, line)[0]
    between = [i.offset for i in dis.get_instructions(code) if acquired < i.offset < first]

    assert len(between) > 1
    assert not any(points.allows(offset) for offset in between)
    assert points.allows(acquired)
    assert points.allows(first)


def test_finally_has_no_safe_point() -> None:
    """A ``finally`` has no safe point in either of the compiler's copies.

    Its instructions are allowed only when the interrupt has taken too long.
    """
    code = compiled(
        """
        def f(work):
            try:
                work(1)
            finally:
                work(2)
                work(3)
            work(4)
        """
    )
    points = CodePoints(code)
    within = [*on_line(code, 4), *on_line(code, 5)]

    assert len(named(code, "RERAISE")) >= 1
    assert not any(points.allows(offset) for offset in within)
    assert all(points.is_in_a_finally(offset) for offset in within)
    assert points.allows(on_line(code, 4)[1], in_a_finally=True)
    for line in (2, 6):
        assert all(points.allows(offset) for offset in on_line(code, line))
        assert not any(points.is_in_a_finally(offset) for offset in on_line(code, line))


def test_finally_of_endless_loop_is_recognised() -> None:
    """The ``finally`` after an endless loop is recognised, though there is only one copy."""
    code = compiled(
        "def f(work):\n    try:\n        while True:\n            work(1)\n"
        "    finally:\n        work(2)\n"
    )
    points = CodePoints(code)

    assert all(points.is_in_a_finally(offset) for offset in on_line(code, 5))
    assert not any(points.is_in_a_finally(offset) for offset in on_line(code, 3))


def test_bare_except_is_not_a_finally() -> None:
    """A bare ``except`` is not taken for a ``finally``, because it raises nothing on."""
    code = compiled("def f(work):\n    try:\n        work(1)\n    except:\n        work()\n")
    points = CodePoints(code)

    assert not any(points.is_in_a_finally(offset) for offset in on_line(code, 4))
    assert any(points.allows(offset) for offset in on_line(code, 4))


def test_first_instruction_of_a_block_is_safe() -> None:
    """The first instruction of a block is safe."""
    code = compiled("def f(work):\n    work()\n    try:\n        work.on()\n    finally: work()\n")
    points = CodePoints(code)

    first = on_line(code, 3)[0]
    assert protected_by(code, first) is not None
    assert points.allows(first)


@pytest.mark.parametrize(
    "body",
    [
        "for i in work: \n            if i: continue",
        "while work(): \n            if work: continue",
        "while work():\n            try: work()\n            except OSError: continue",
    ],
)
def test_uncovered_loop_jumps_in_with_are_not_safe(body: str) -> None:
    """In a ``with``, a loop's jumps that the exception table leaves out are not safe.

    From 3.14 on the same applies to NOT_TAKEN.
    """
    code = compiled(f"def f(work):\n    with work:\n        {body}\n        work(1)\n    work(2)\n")
    points = CodePoints(code)
    within = {o for line in (2, 3, 4) for o in on_line(code, line)}
    bare = [o for o in within if not catches(code, protected_by(code, o))]

    assert not any(points.allows(offset) for offset in bare if "JUMP" in name(code, offset))
    assert not any(points.allows(offset) for offset in bare if name(code, offset) == "NOT_TAKEN")


def test_signal_handler_may_raise_at_unprotected_loop_jump() -> None:
    """A signal handler may raise where a loop without a ``try`` around it jumps back."""
    code = compiled("def f(work):\n    n = 0\n    while True:\n        n += 1\n")
    points = CodePoints(code)
    [back] = named(code, "JUMP_BACKWARD")

    assert points.allows_after(back)


def test_except_clause_is_safe_except_at_its_ends() -> None:
    """An ``except`` clause is safe, except at its ends.

    There CPython changes the stack of handled exceptions.
    """
    code = compiled(
        """
        def f(work):
            try:
                work(1)
            except ValueError as error:
                work(error)
                return 1
        """
    )
    points = CodePoints(code)

    assert not any(points.allows(o) for o in named(code, "PUSH_EXC_INFO", "POP_EXCEPT", "RERAISE"))
    call = next(offset for offset in on_line(code, 4) if offset in named(code, "CALL"))
    assert points.allows(call)
    for offset in named(code, "POP_EXCEPT"):
        before = [i for i in dis.get_instructions(code) if i.offset < offset][-1]
        handled = protected_by(code, before.offset) != protected_by(code, offset)
        assert handled or not points.allows(before.offset)


@pytest.mark.parametrize("condition", ["True", "work()", "work(1) < 2"])
@pytest.mark.parametrize("indent", ["", "\n                        "])
def test_every_loop_has_safe_points_with_its_own_handler(condition: str, indent: str) -> None:
    """Every loop has a safe point, and all of them go to the loop's own handler.

    Some versions give the jumps of these loops a wrong handler.
    """
    code = compiled(
        f"""
        def f(work):
            number = 0
            try:
                while {condition}: {indent}number += 1
            finally:
                work(number)
        """
    )
    points = CodePoints(code)

    safe = [o for o in {*on_line(code, 3), *on_line(code, 4)} if points.allows(o)]
    # The loop's own handlers in the table. From 3.12 on the condition is compiled twice.
    handlers = {protected_by(code, offset) for offset in safe} - {None}

    assert safe
    assert len(handlers) <= 1
    jumps = [o for o in safe if "JUMP_BACKWARD" in dis.opname[code.co_code[o]]]
    assert all(catches(code, protected_by(code, offset)) for offset in jumps)


def test_empty_loop_has_a_safe_point() -> None:
    """A loop of one instruction, which jumps to itself, has a safe point."""
    for source in (
        "def f():\n    while True:\n        pass\n",
        "def f(w):\n    try:\n        while True:\n            pass\n    finally:\n        w()\n",
    ):
        code = compiled(source)
        points = CodePoints(code)
        back = next(
            i.offset for i in dis.get_instructions(code) if i.opname.startswith("JUMP_BACKWARD")
        )

        loop = {back, *(i.offset for i in dis.get_instructions(code) if i.argval == back)}
        assert any(points.allows(offset) for offset in loop)


def test_except_before_a_loop_does_not_catch_its_interrupt() -> None:
    """An interrupt in a loop does not go to the ``except`` before it.

    3.12 looks a signal's exception up at the instruction before the loop's first one.
    """
    source = (
        "def f(work):\n"
        "    number = 0\n"
        "    try: work()\n"
        "    except BaseException: work(1)\n"
        "    while True: number += 1\n"
    )
    code = compiled(source)
    points = CodePoints(code)
    loop = on_line(code, 4)

    safe = [offset for offset in loop if points.allows(offset)]
    behind = [offset for offset in loop if points.allows_after(offset)]

    assert safe
    assert all(protected_by(code, offset) is None for offset in safe)
    if sys.version_info[:2] == (3, 12):
        assert not set(behind) & set(named(code, "JUMP_BACKWARD"))


def test_compiler_handler_around_coroutine_is_not_safe() -> None:
    """The handler that the compiler puts around a coroutine, from 3.12 on, is not safe.

    An error is on its way out there, and an interrupt would replace it.
    """
    source = "async def f(work):\n    try:\n        await work()\n    finally:\n        work()\n"
    code = compiled(source)
    points = CodePoints(code)
    own = [
        i.offset for i in dis.get_instructions(code) if i.argrepr == "INTRINSIC_STOPITERATION_ERROR"
    ]

    assert bool(own) == (sys.version_info >= (3, 12))
    assert not any(points.allows(offset, in_a_finally=True) for offset in own)


def test_safety_after_a_call_depends_on_the_next_instruction() -> None:
    """A signal handler runs after a call, so it may raise unless the result is stored next."""
    code = compiled("def f(work):\n    work()\n    x = work()\n    return x\n")
    points = CodePoints(code)
    first, second = named(code, "CALL")

    assert points.allows_after(first)
    assert not points.allows_after(second)
    assert points.allows_after(named(code, "RETURN_VALUE")[-1])
    # A frame that has called another one is at the end of its call.
    assert points.allows_after(first + 4) == points.allows_after(first)


def test_call_entering_a_with_is_an_entry() -> None:
    """On 3.14 the call that enters a ``with`` is an entry.

    Before 3.14 one instruction enters, and signals are not looked at after it.
    """
    code = compiled("def f(work):\n    work(1)\n    with work as x:\n        work(x)\n")
    points = CodePoints(code)

    entries = [offset for offset in named(code, "CALL") if points.is_entry(offset)]

    assert len(entries) == (1 if sys.version_info >= (3, 14) else 0)
    assert all(catches(code, protected_by(code, offset + 8)) for offset in entries)
