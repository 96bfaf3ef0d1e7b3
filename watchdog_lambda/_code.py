"""Reading code objects and frames: where is it, whose is it, and what would a raise do there?

Everything here is a pure function of code objects, file names and instruction offsets. It is used
only once the watchdog has fired.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType, TracebackType

    from ._stacks import Stack

PACKAGE = os.path.dirname(__file__) + os.sep
"""Where this package's files lie: an interrupt never lands in a frame of one of them."""

GUARD = "guarded"
"""The function around every watched handler; see :mod:`._handler`."""

OPAQUE = "call_opaque"
"""The exception to PACKAGE: a handler that is C code has no other frame."""

_STDLIB = os.path.dirname(os.__file__) + os.sep
_LAYERS = "/opt/python/"
_RUNTIME = "/var/runtime/"
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

MOST_FRAMES = 200
"""Frames taken from one stack: a runaway recursion must not flood the log."""


def is_ours(code: CodeType) -> bool:
    """Whether this is a frame of the package's, in which no interrupt may land."""
    return code.co_filename.startswith(PACKAGE) and code.co_name != OPAQUE


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


def preload() -> None:
    """Import now what must not be imported while the watchdog fires."""
    import opcode  # noqa: PLC0415 - not needed before the watchdog has something to watch

    _Opcodes.extended_arg = opcode.EXTENDED_ARG
    _Opcodes.backward_jumps = frozenset(
        number
        for name, number in opcode.opmap.items()
        if "JUMP_BACKWARD" in name and "NO_INTERRUPT" not in name
    )
    if sys.version_info >= (3, 12):
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


# ---- frames whose interruption would break what outlives the invocation ------------------------

_CONDITION = frozenset(
    {"_release_save", "_acquire_restore", "_is_owned", "__enter__", "__exit__", "notify"}
)
_ASYNCIO = os.path.join(_STDLIB, "asyncio") + os.sep
_FRAGILE: dict[str, frozenset[str]] = {
    # A raise in here leaves a Condition that says "release unlocked lock" ever after.
    "threading.py": _CONDITION | {"acquire", "release"},
    # Handler.handle() has no try around acquire(): a raise leaves the handler locked for good.
    os.path.join("logging", "__init__.py"): frozenset(
        {"acquire", "release", "_acquireLock", "_releaseLock", "createLock"}
    ),
}
_FRAGILE_FILES = {_STDLIB + name: functions for name, functions in _FRAGILE.items()}
# The import system's own frames hold module locks; the imported module's frames are not these.
_FRAGILE_FILES["<frozen importlib._bootstrap>"] = frozenset(
    {"__enter__", "__exit__", "acquire", "release", "_get_module_lock", "cb"}
)
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
    # A loop's own frames: a callback taken from the queue and not yet run would be lost. Where it
    # waits, the frame is the selector's.
    return code.co_filename.startswith(_ASYNCIO)


_WAITS = (_STDLIB + "threading.py", _STDLIB + "subprocess.py", _STDLIB + "multiprocessing" + os.sep)


def waits_in_exit(stack: Stack) -> bool:
    """Whether a context manager of the standard library waits at its end, and does nothing else.

    ``with ThreadPoolExecutor()`` and ``with Popen()`` wait in ``__exit__`` for what they have
    started. Interrupted in the block, that is most often for the very thing that never comes.
    """
    if not stack or not stack[0][0].startswith(_WAITS):
        return False
    for file, _, function in stack:
        if not file.startswith(_STDLIB):
            return False
        if function == "__exit__":
            return True
    return False


# ---- whose code, and where ---------------------------------------------------------------------


class CodeMap:
    """Tells the user's own code from libraries, and names places in it.

    A file is a library's if it belongs to the standard library, lies in ``site-packages``, in a
    layer or beside Lambda's runtime, or in a folder that a ``*.dist-info`` beside it names
    (packages installed flat into the task root, as Lambda's zip and image layouts have them).
    """

    def __init__(self, path: list[str]) -> None:
        roots = {entry.rstrip(os.sep) + os.sep for entry in path}
        # The longest first: a root may lie inside another.
        self._roots = sorted(roots, key=len, reverse=True)
        self._own: dict[str, bool] = {}
        self._distributions: dict[str, frozenset[str]] = {}

    def is_own(self, filename: str) -> bool:
        known = self._own.get(filename)
        if known is None:
            known = self._own[filename] = self._decide(filename)
        return known

    def name(self, filename: str) -> str:
        """The file as its importer would name it: relative to its entry of ``sys.path``."""
        for root in self._roots:
            if filename.startswith(root):
                return filename[len(root) :]
        return filename

    def place(self, file: str, line: int, function: str) -> str:
        return f"{self.name(file)}:{line} ({function})" if function else file

    def location(self, stack: Stack) -> str:
        """The innermost frame of the user's own code; the innermost of all if none is."""
        stack = of_the_handler(stack)
        own = (entry for entry in stack if self.is_own(entry[0]))
        chosen = next(own, stack[0] if stack else None)
        return "" if chosen is None else self.place(*chosen)

    def places(self, stack: Stack) -> tuple[str, ...]:
        """The handler's frames, outermost first; a deep stack is cut in the middle."""
        places = [self.place(*entry) for entry in reversed(of_the_handler(stack))]
        left_out = len(places) - MOST_FRAMES
        if left_out > 0:
            middle = MOST_FRAMES // 2
            places[middle : middle + left_out] = [f"... {left_out} frames left out ..."]
        return tuple(places)

    def _decide(self, filename: str) -> bool:
        if filename.startswith("<"):
            return False  # frozen or generated
        if filename.startswith((PACKAGE, _LAYERS, _RUNTIME)):
            return False
        if any(part in filename for part in _INSTALLED) or filename.startswith(_STDLIB):
            return False
        for root in self._roots:
            if filename.startswith(root):
                top = filename[len(root) :].split(os.sep, 1)[0]
                return top.removesuffix(".py") not in self._installed_in(root)
        return True

    def _installed_in(self, root: str) -> frozenset[str]:
        names = self._distributions.get(root)
        if names is None:
            try:
                entries = os.listdir(root)
            except OSError:
                entries = []
            names = self._distributions[root] = frozenset(
                entry.split("-", 1)[0].lower() for entry in entries if entry.endswith(".dist-info")
            )
        return names


def of_the_handler(stack: Stack) -> Stack:
    """The handler's part of a stack: without this package's frames and the runtime's."""
    kept: Stack = []
    handlers = None
    for entry in stack:
        if not entry[0].startswith(PACKAGE):
            kept.append(entry)
        elif entry[2] == GUARD:
            handlers = len(kept)
    return kept[:handlers]


def trim(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without this package's frames at its inner end, where ours are raised."""
    last: TracebackType | None = None
    entry = traceback
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(PACKAGE):
            last = entry
        entry = entry.tb_next
    if last is None:
        return traceback
    last.tb_next = None
    return traceback


def current_path() -> list[str]:
    """``sys.path`` as it is now, the working directory spelt out."""
    try:
        here = os.getcwd()
    except OSError:  # it has been removed
        here = os.sep
    return [entry or here for entry in sys.path]
