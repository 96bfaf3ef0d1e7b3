"""Reading code objects and frames: what would a raise do there?

Everything here is a pure function of code objects and instruction offsets, used only once the
watchdog has fired.
"""

from __future__ import annotations

import os
import sys

from .source import STDLIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

# ---- exception tables --------------------------------------------------------------------------


def protected_ranges(code: CodeType) -> Iterator[tuple[int, int, int]]:
    """The code's exception table as ``(start, end, target)`` byte offsets, in order.

    The format is CPython's ``InternalDocs/exception_handling.md``: four varints of six bits a byte,
    most significant first, in units of two bytes; bit 7 marks an entry's first byte and bit 6 says
    that more follow.
    """
    table = iter(code.co_exceptiontable)

    def varint() -> int:
        byte = next(table)
        value = byte & 63
        while byte & 64:
            byte = next(table)
            value = (value << 6) | (byte & 63)
        return value

    while True:
        try:
            start = varint() * 2
        except StopIteration:
            return
        length = varint() * 2
        target = varint() * 2
        varint()  # stack depth and the lasti flag
        yield start, start + length, target


def protected_by(code: CodeType, lasti: int) -> int | None:
    """The offset of the handler that an exception raised at `lasti` goes to; None if none."""
    for start, end, target in protected_ranges(code):
        if start <= lasti < end:
            return target
    return None


class _Opcodes:
    """This interpreter's numbers for the instructions of interest; filled by :func:`preload`."""

    backward_jumps: frozenset[int] = frozenset()
    stop_iteration_error = b""  # the compiler's own handler, as it begins
    jump_caches = 1 if sys.version_info >= (3, 13) else 0  # in units of two bytes
    extended_arg = -1
    call = -1
    load_enter = b""  # what finds ``__enter__``, from 3.14 on


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    import opcode  # noqa: PLC0415 - not needed before the watchdog has something to watch

    _Opcodes.extended_arg = opcode.EXTENDED_ARG
    _Opcodes.backward_jumps = frozenset(
        number
        for name, number in opcode.opmap.items()
        if "JUMP_BACKWARD" in name and "NO_INTERRUPT" not in name
    )
    if sys.version_info >= (3, 14):  # pragma: no cover - from 3.14 on
        _Opcodes.call = opcode.opmap["CALL"]
        # SPECIAL___ENTER__ is 0 (pycore_ceval.h).
        _Opcodes.load_enter = bytes((opcode.opmap["LOAD_SPECIAL"], 0))
    if sys.version_info >= (3, 12):  # pragma: no cover - from 3.12 on
        # INTRINSIC_STOPITERATION_ERROR is 3 in every version that has it (pycore_intrinsics.h).
        _Opcodes.stop_iteration_error = bytes((opcode.opmap["CALL_INTRINSIC_1"], 3))


def catches(code: CodeType, handler: int | None) -> bool:
    """Whether `handler` is one that the source has: an ``except``, a ``finally`` or a ``with``.

    From 3.12 on the compiler puts one of its own around every generator and coroutine, which turns
    StopIteration into RuntimeError.
    """
    if handler is None:
        return False
    return code.co_code[handler : handler + 2] != _Opcodes.stop_iteration_error


def is_unprotected_back_edge(code: CodeType, lasti: int) -> bool:
    """Whether what a signal's handler raises at `lasti` would skip a ``finally`` around the loop.

    Signals are looked at where a loop jumps back, and CPython looks up in the wrong place who
    handles what is raised there: for the jump itself, which 3.13 leaves out of the exception table
    (gh-130279), and up to 3.12 for the instruction that stands before the jump's target
    (gh-108214). So the jump is no place to raise if the loop has a handler and that place has
    another, or none.
    """
    bytecode = code.co_code
    if not is_back_edge(code, lasti):
        return False
    argument = bytecode[lasti + 1]
    extended = lasti - 2
    shift = 8
    while extended >= 0 and bytecode[extended] == _Opcodes.extended_arg:
        argument |= bytecode[extended + 1] << shift
        extended -= 2
        shift += 8
    # The distance counts from the next instruction, behind the jump's cache.
    target = lasti + 2 + 2 * _Opcodes.jump_caches - 2 * argument
    looked_up = lasti if sys.version_info >= (3, 13) else target - 2
    handler = protected_by(code, target)
    return handler is not None and protected_by(code, looked_up) != handler


def protected_lines(code: CodeType, handler: int) -> frozenset[int]:
    """The lines whose exceptions go to `handler`."""
    ranges = [(start, end) for start, end, target in protected_ranges(code) if target == handler]
    return frozenset(
        line
        for begin, finish, line in code.co_lines()
        if line is not None and any(start < finish and begin < end for start, end in ranges)
    )


def is_back_edge(code: CodeType, lasti: int) -> bool:
    """Whether the instruction at `lasti` is a loop's jump back."""
    return 0 <= lasti < len(code.co_code) and code.co_code[lasti] in _Opcodes.backward_jumps


def is_entering_with(code: CodeType, lasti: int) -> bool:
    """Whether what is raised at `lasti` could keep a ``with`` that has been entered from its exit.

    Up to 3.13 one instruction entered the block. From 3.14 on ``__enter__`` is called by one like
    any other, which looks at signals and injections behind the call and lies before the block
    (gh-148874): what is raised there leaves a lock locked. A frame that waits inside of the call
    stands at the same instruction.
    """
    bytecode = code.co_code
    if not 2 <= lasti < len(bytecode) or bytecode[lasti] != _Opcodes.call:
        return False
    return bytecode[lasti - 2 : lasti] == _Opcodes.load_enter


# ---- frames whose interruption would break what outlives the invocation ------------------------

_CONDITION = frozenset(
    {"_release_save", "_acquire_restore", "_is_owned", "__enter__", "__exit__", "notify"}
)
_ASYNCIO = os.path.join(STDLIB, "asyncio") + os.sep
# uvloop counts as running before it makes its pair of sockets and looks whose they are, and until
# it has closed them, with nothing that would take it back: after a raise in here the loop would run
# for good. Pinned by test_all_that_uvloop_calls_to_begin_and_to_end_a_run_is_fragile.
_UVLOOP: dict[str, frozenset[str]] = {
    "socket.py": frozenset({"socketpair", "__init__", "close", "_real_close", "_decref_socketios"}),
    "threading.py": frozenset({"main_thread", "ident"}),
    "weakref.py": frozenset({"__getitem__"}),
}
_WARNS = frozenset({"_warn_unawaited_coroutine", "_formatwarnmsg_impl", "_showwarnmsg_impl"})
_FRAGILE: dict[str, frozenset[str]] = {
    # A raise in here leaves a Condition that says "release unlocked lock" ever after.
    "threading.py": _CONDITION | {"acquire", "release", *_UVLOOP["threading.py"]},
    # Handler.handle() has no try around acquire(): a raise leaves the handler locked for good.
    os.path.join("logging", "__init__.py"): frozenset(
        {"acquire", "release", "_acquireLock", "_releaseLock", "createLock"}
    ),
    "socket.py": _UVLOOP["socket.py"],
    # Called by C code that drops what is raised: a coroutine's end that nobody has awaited.
    "warnings.py": _WARNS,
    "_py_warnings.py": _WARNS,  # from 3.14 on
    "weakref.py": _UVLOOP["weakref.py"],
}
_FRAGILE_FILES = {STDLIB + name: functions for name, functions in _FRAGILE.items()}
# The import system's own frames hold module locks; the imported module's frames are not these.
_FRAGILE_FILES["<frozen importlib._bootstrap>"] = frozenset(
    {"__enter__", "__exit__", "acquire", "release", "_get_module_lock", "cb"}
)
# coverage.py's tracer, in C, calls these around what it notes; a raise leaves its lock locked for
# good, and the next file that is traced waits for it.
_COVERAGES_FILE = os.path.join(os.sep, "coverage", "collector.py")
_COVERAGES_OWN = frozenset({"lock_data", "unlock_data"})
# Anybody's: between these and their caller a resource is held that nobody yet, or no longer, frees.
_FRAGILE_ANYWHERE = frozenset({"__enter__", "__exit__", "__del__"})


def is_fragile(frame: FrameType) -> bool:
    """Whether a raise in this very frame would break something that outlives the invocation."""
    code = frame.f_code
    if code.co_name in _FRAGILE_ANYWHERE:
        return True
    functions = _FRAGILE_FILES.get(code.co_filename)
    if functions is not None and code.co_name in functions:
        return True
    if code.co_name in _COVERAGES_OWN and code.co_filename.endswith(_COVERAGES_FILE):
        return True
    return is_loops_own(code)


MOST_LOOKED_AT = 100
"""How far below a frame a finaliser is looked for."""

_DROPS = frozenset({"__del__", "_warn_unawaited_coroutine"})


def is_dropped(frame: FrameType) -> bool:
    """Whether C code, further down, drops whatever leaves this frame.

    As it does with what a finaliser raises, and the warning of a coroutine that nobody has awaited:
    the handler would not learn of its timeout.

    Thread: the frame's own, as it is walked.
    """
    inner: FrameType | None = frame
    # A bound, for a handler can be a million deep, and each frame that is looked at becomes an
    # object.
    for _ in range(MOST_LOOKED_AT):
        if inner is None:
            return False
        if inner.f_code.co_name in _DROPS:
            return True
        inner = inner.f_back
    return False


def is_loops_own(code: CodeType) -> bool:
    """Whether this is asyncio's own code. Where such a loop waits, the frame is the selector's."""
    return code.co_filename.startswith(_ASYNCIO)


def is_around_loop(code: CodeType) -> bool:
    """Whether this is asyncio.run()'s own code.

    A loop of C code (uvloop) that waits has no frame, so that this is the innermost one then. In
    asyncio's other frames such a loop calls a callback, and does not wait.
    """
    return code.co_filename == _ASYNCIO + "runners.py"


_BEGINS_AND_ENDS_RUNS = frozenset(
    (_ASYNCIO + "base_events.py", name)
    # The latter two from 3.12 on; before, they are the first one's.
    for name in ("run_forever", "_run_forever_setup", "_run_forever_cleanup")
)
_TAKES_CALLBACKS = (_ASYNCIO + "base_events.py", "_run_once")
_CALLS_CALLBACKS = (_ASYNCIO + "events.py", "_run")
_RESUMABLE = 0x2A0  # inspect's CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR


def breaks_loop(frame: FrameType) -> bool:
    """Whether a raise in this very frame would break an event loop.

    It would cost it a callback: taken from the queue and not yet called, or asyncio's own and not
    yet through. What that was to wake never wakes, and a task whose turn is lost does not even end
    when it is cancelled. Or it would leave the loop running for good, where a run begins or ends,
    and the thread could run no other.

    Nothing waits in there, so it is over by the next nudge.

    Thread: the frame's own, as it is walked and its variables are read.
    """
    inner: FrameType | None = frame
    while inner is not None and is_loops_own(code := inner.f_code):
        if code.co_flags & _RESUMABLE:
            return False  # what is raised in a coroutine gets to whoever awaits it
        place = code.co_filename, code.co_name
        if place in _BEGINS_AND_ENDS_RUNS:
            return True
        if place == _TAKES_CALLBACKS:
            # From the selector's answer on; a jump back stands between two callbacks.
            is_taking = inner is frame and "event_list" in frame.f_locals
            return is_taking and not is_back_edge(code, frame.f_lasti)
        if place == _CALLS_CALLBACKS:
            # Once it has been called, the frame is in its ``try``.
            return inner is not frame or protected_by(code, frame.f_lasti) is None
        inner = inner.f_back
    return False


_SELECTORS = STDLIB + "selectors.py"


def is_between_callbacks(frame: FrameType) -> bool:
    """Whether a loop only looks what is ready there, since callbacks wait for their turn.

    One of them may be that which ends the loop's run: left in the queue, it would end the next run
    as soon as it begins. Where the loop waits there is none.

    Thread: the frame's own, as its variables are read.
    """
    code = frame.f_code
    if code.co_name != "select" or code.co_filename != _SELECTORS:
        return False
    timeout = frame.f_locals.get("timeout")
    return type(timeout) in {int, float} and timeout == 0


_TAKES_OSERROR_FOR_AN_ANSWER = (STDLIB + os.path.join("multiprocessing", "popen_fork.py"), "poll")
"""Process.join() waits in there, and any OSError has it return as if the child had ended."""


def hides_timeout(file: str, function: str) -> bool:
    """Whether this frame turns a TimeoutError into a wrong answer that its caller goes on with."""
    return (file, function) == _TAKES_OSERROR_FOR_AN_ANSWER
