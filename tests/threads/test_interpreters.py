"""Sub-interpreters: a handler in one runs unwatched with a warning; one may use some.

Each scene runs in its own process, because a failure here ends the process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import BOUND

COMMON = """
import logging, sys, threading, time
from tests.support import Context
from watchdog_lambda import LambdaTimeout, watch

logging.basicConfig(stream=sys.stdout, format="%(message)s")
"""
MAIN = """
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    def create(isolated):
        return interpreters.create("isolated" if isolated else "legacy")
else:
    import _xxsubinterpreters as interpreters
    def create(isolated):
        return interpreters.create(isolated=isolated)

def run(interpreter, script):
    failure = interpreters.run_string(interpreter, script)  # or raised, up to 3.12
    assert failure is None, failure.formatted
"""
# Without threading and json, which could break the interpreter when it is ended.
INNER = """
import sys
sys.path[:] = {path!r}
import logging, time
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from watchdog_lambda import remaining_time, watch

class Context:
    def get_remaining_time_in_millis(self):
        return 200

@watch(grace_period=0.05)
def handler(seconds, _context):
    time.sleep(seconds)
    return remaining_time() < 0.2

print(handler(0.0, Context()), handler(0.3, Context()))
sys.stdout.flush()
"""
PREFIX = "invocations are not watched: no thread can be started (in a sub-interpreter, "


def play(scene: str) -> list[str]:
    """Return the lines that the scene prints."""
    script = f"{COMMON}{MAIN}INNER = {INNER!r}.format(path=sys.path)\n{scene}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=6 * BOUND,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "legacy"])
def test_handler_in_sub_interpreter_runs_unwatched_with_warning(*, isolated: bool) -> None:
    """In a sub-interpreter the handler runs unwatched, with one warning in the log.

    The interpreter can be used again and ended, with or without a watchdog in the main one.
    """
    printed = play(f"""
for _ in range(2):
    interpreter = create({isolated})
    run(interpreter, INNER)
    run(interpreter, INNER)
    interpreters.destroy(interpreter)
    watch(lambda _e, _c: print("main"))({{}}, Context(5.0))
    sys.stdout.flush()
""")

    warning, first, second, main = printed[:4]
    assert warning.startswith(PREFIX)
    assert first == second == "True True"
    assert main == "main"
    assert printed[4:] == printed[:4]


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "legacy"])
def test_handler_using_a_sub_interpreter_is_interrupted(*, isolated: bool) -> None:
    """A handler that uses a sub-interpreter is interrupted, after the code that runs in it."""
    printed = play(f"""
def has_one(script):
    interpreter = create({isolated})
    try:
        run(interpreter, script)
    finally:
        interpreters.destroy(interpreter)

@watch(grace_period=0.4)
def handler(script, _context):
    has_one(script)
    threading.Event().wait(60)

def time_out(script, seconds):
    begun = time.monotonic()
    try:
        handler(script, Context(seconds))
    except LambdaTimeout as timeout:
        print(timeout, time.monotonic() - begun)

time_out("pass", 2.0)
time_out("import time; time.sleep(1.8)", 2.0)
""")

    told = [line for line in printed if line.startswith("interrupted after")]
    seconds = [float(line.split()[-1]) for line in told]
    assert 1.55 < seconds[0] < 2.5, told  # it would wait for 60 s
    assert 1.8 <= seconds[1] < 2.5, told


@pytest.mark.parametrize("missing", ["faulthandler", "_socket"])
def test_failed_import_leaves_handler_running_unwatched(missing: str) -> None:
    """If a module cannot be imported, the handler runs unwatched, and the log says why."""
    printed = play(f"""
sys.modules[{missing!r}] = None
print(watch(lambda _e, _c: "ended")({{}}, Context(5.0)))
""")

    assert printed[0].startswith("invocations are not watched: ")
    assert missing in printed[0]
    assert printed[1:] == ["ended"]
