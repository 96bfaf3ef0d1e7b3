"""Which exception goes through the libraries between an interrupt and the user's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.frames import LIBRARY, OWN, innermost, made
from watchdog_lambda import Interrupt, LambdaTimeout
from watchdog_lambda._cpython.source import PACKAGE, STDLIB, SourceMap
from watchdog_lambda._engine.rungs import cancels, first_kind, first_kind_from_afar, next_kind
from watchdog_lambda.errors import LoopInterrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

CODE = SourceMap(["/opt/app"])
PLAIN = "def call(back): back()"
RETRIES = """
def call(back):
    for attempt in range(3):
        try: return back()
        except Exception: pass
"""
CANCELS = """
def call(back):
    try: return back()
    except KeyboardInterrupt:
        print("cancel what the server is doing")
        raise
"""
CATCHES = """
def call(back):
    try: return back()
    except TimeoutError: return "partial"
"""
ANSWERS = """
def call(back):
    for route in range(3):
        try: return back()
        except Exception as error: return f"status {error}"
"""
FINDS = """
def call(back):
    for route in range(3):
        if route == 1: return back()
"""
WORKS = """
def call(back):
    for job in range(1): back()
"""
WORKS_IN_PYTHON = """
def once(back): back()

def call(back):
    return [once(back) for job in range(1)]
"""
ANEW = """
def call(back, tries=3):
    try: return back()
    except Exception: error = True
    return call(back, tries - 1) if tries else error
"""
ONCE_MORE = """
class Attempt:
    def __enter__(self): pass
    def __exit__(self, *given): return given[0] is not None

def call(back):
    attempt = Attempt()
    with attempt: back()
"""


def own(source: str) -> Callable[..., Any]:
    return made(source, file=OWN)


def library(source: str) -> Callable[..., Any]:
    return made(source, file=LIBRARY)


def lands(*calls: Callable[..., Any]) -> type[BaseException]:
    """Return what lands first in the last of these functions, each of which calls the next."""

    def look(frame: FrameType) -> type[BaseException]:
        return first_kind(frame, CODE)

    # The guard is there as in an invocation: what is outside of it is not the handler's code.
    guard = made("def guarded(back): back()\ncall = guarded", file=f"{PACKAGE}_handler.py")
    [kind] = innermost(look, guard, *calls)
    assert isinstance(kind, type)
    return kind


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([own(PLAIN)], id="user code only"),
        pytest.param([own(PLAIN), library(PLAIN)], id="library without a handler"),
        pytest.param([own(CATCHES), library(PLAIN)], id="user code catches it"),
        pytest.param(
            [own(PLAIN), library(RETRIES), own(CATCHES)], id="user code catches it before a library"
        ),
        pytest.param([library(RETRIES), own(PLAIN)], id="wrapper around user code"),
        pytest.param([library(RETRIES)], id="no user code"),
        pytest.param([own(PLAIN), library(ANSWERS), own(PLAIN)], id="framework that answers"),
        pytest.param(
            [own(PLAIN), library(FINDS), library(ANSWERS), library(WORKS), own(PLAIN)],
            id="framework loop that the answer ends",
        ),
        pytest.param(
            [own(PLAIN), library(RETRIES), own(PLAIN), library(ANSWERS), own(PLAIN)],
            id="code around the answer",
        ),
    ],
)
def test_lambda_timeout_lands_if_no_library_takes_it(calls: list[Callable[..., Any]]) -> None:
    """A LambdaTimeout lands if no library between there and the user's code would take it."""
    assert lands(*calls) is LambdaTimeout


@pytest.mark.parametrize(
    "calls",
    [
        pytest.param([own(PLAIN), library(RETRIES)], id="innermost library"),
        pytest.param([own(PLAIN), library(RETRIES), library(PLAIN)], id="outer library"),
        pytest.param([own(PLAIN), library(RETRIES), own(PLAIN)], id="around user code"),
        pytest.param([own(CATCHES), library(RETRIES)], id="before user code could catch it"),
        pytest.param([own(PLAIN), library(ANSWERS)], id="client that returns an answer"),
        pytest.param(
            [own(PLAIN), library(WORKS), library(ANSWERS), own(PLAIN)], id="retry in a loop"
        ),
        pytest.param(
            [own(PLAIN), library(WORKS_IN_PYTHON), library(ANSWERS), own(PLAIN)],
            id="retry in a loop without C code",
        ),
        pytest.param([own(PLAIN), library(ANEW), own(PLAIN)], id="retry by recursion"),
        pytest.param([own(PLAIN), library(ONCE_MORE)], id="with in a library"),
        pytest.param([made(ONCE_MORE, file=OWN)], id="with in user code"),
        pytest.param([own(PLAIN), made(RETRIES, file=f"{STDLIB}socket.py")], id="standard library"),
    ],
)
def test_interrupt_lands_if_a_library_would_retry(
    calls: list[Callable[..., Any]],
) -> None:
    """An Interrupt lands if a library would take a timeout for a network error and retry."""
    assert lands(*calls) is Interrupt


def test_loop_interrupt_lands_in_cancelling_library() -> None:
    """A library that cancels its work on a KeyboardInterrupt gets a LoopInterrupt.

    Modules of the standard library that do so get a LambdaTimeout.
    """
    assert lands(own(PLAIN), library(CANCELS), library(PLAIN)) is LoopInterrupt
    assert lands(own(CATCHES), library(RETRIES), library(CANCELS)) is LoopInterrupt
    assert lands(own(PLAIN), made(CANCELS, file=f"{STDLIB}subprocess.py")) is LambdaTimeout

    def look(frame: FrameType) -> bool:
        return cancels(frame, CODE)

    assert innermost(look, own(PLAIN), library(CANCELS), library(PLAIN)) == [True]
    assert innermost(look, library(CANCELS), own(PLAIN)) == [False]
    assert innermost(look, own(PLAIN), library(PLAIN)) == [False]


def test_any_library_may_take_timeout_on_another_thread() -> None:
    """In another thread, any installed library between may take the timeout.

    Its except clauses cannot be read, because its frames must not be walked.
    """
    own_place, installed = (OWN, 1, "h"), (LIBRARY, 1, "get")
    standard = (f"{STDLIB}socket.py", 1, "recv")

    assert first_kind_from_afar([standard, own_place], CODE) is LambdaTimeout
    assert first_kind_from_afar([standard, installed, own_place], CODE) is Interrupt
    assert first_kind_from_afar([own_place, installed], CODE) is LambdaTimeout
    assert first_kind_from_afar([installed], CODE) is LambdaTimeout
    assert first_kind_from_afar([], CODE) is LambdaTimeout
    record = (f"{PACKAGE}batch/_watch.py", 1, "opened")
    assert first_kind_from_afar([own_place, record, installed, own_place], CODE) is LambdaTimeout
    assert first_kind_from_afar([installed, own_place, record, own_place], CODE) is Interrupt


def test_batch_frames_are_not_asked() -> None:
    """The batch processor's frames are not asked: a timeout is meant to fail the record.

    A library that the record handler calls is asked.
    """
    record = made("def opened(back): back()\ncall = opened", file=f"{PACKAGE}batch/_watch.py")

    assert lands(own(PLAIN), library(RETRIES), record, own(PLAIN)) is LambdaTimeout
    assert lands(own(PLAIN), library(RETRIES), record, own(PLAIN), library(RETRIES)) is Interrupt


# ---- what lands next ---------------------------------------------------------------------------


def follows(*calls: Callable[..., Any], from_afar: bool = False) -> object:
    """Return what lands after a first interrupt that was swallowed."""

    def look(frame: FrameType) -> object:
        return next_kind(frame, [], CODE, from_afar=from_afar, is_own_thread=True, has_begun=True)

    [kind] = innermost(look, *calls)
    return kind


def test_swallowed_interrupt_is_followed_by_stronger_one() -> None:
    """After a swallowed interrupt an Interrupt lands, or a LoopInterrupt in code that cancels.

    For another thread an Interrupt lands, because its clauses cannot be read.
    """
    assert follows(own(PLAIN), library(PLAIN)) is Interrupt
    assert follows(own(PLAIN), library(CANCELS)) is LoopInterrupt
    assert follows(own(PLAIN), library(CANCELS), from_afar=True) is Interrupt


@pytest.mark.parametrize(("function", "kind"), [("poll", Interrupt), ("wait", LambdaTimeout)])
def test_popen_poll_gets_interrupt_instead_of_timeout(function: str, kind: object) -> None:
    """In ``poll()``, where a TimeoutError would mean that the child has ended, Interrupt lands.

    ``Process.join()`` waits there.
    """
    stack = [(f"{STDLIB}multiprocessing/popen_fork.py", 1, function)]

    def look(frame: FrameType) -> object:
        return next_kind(frame, stack, CODE, from_afar=False, is_own_thread=False, has_begun=False)

    assert innermost(look, own(PLAIN)) == [kind]
