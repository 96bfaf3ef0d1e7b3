"""What a process has started and was given; the rest is shown by real restarts in tests/runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from watchdog_lambda._process import PAST, Start, _tell, end_children, take_past


def test_the_past_is_told_once() -> None:
    """What the program before left is read, and gone from what child processes inherit."""
    environ = {PAST: _tell({"cpu": "0.125", "extension": "ext-1"}), "HOME": "/"}

    assert take_past(environ) == {"cpu": "0.125", "extension": "ext-1"}
    assert environ == {"HOME": "/"}
    assert take_past(environ) == {}


def test_children_and_theirs_are_ended_but_for_those_of_before() -> None:
    """A shell's own child too; what an image's start script has started stays."""
    with subprocess.Popen(["sleep", "60"]) as spared:
        script = "sleep 60 & echo $!; wait"
        with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdout is not None
            grandchild = int(shell.stdout.readline())

            ended = end_children({spared.pid})

            assert {shell.pid, grandchild} <= set(ended)
            assert spared.pid not in ended
            assert spared.poll() is None
            assert not Path(f"/proc/{shell.pid}").exists(), "reaped as well"
        spared.terminate()


def test_a_start_knows_the_first_environment_and_the_inherited_descriptors() -> None:
    """Not what has become of them since."""
    os.environ["CHANGED_SINCE"] = "1"
    read, write = os.pipe()
    try:
        start = Start()
        assert "CHANGED_SINCE" not in start.environ
        assert start.environ["PATH"]
        assert {0, 1, 2} <= start.descriptors
        assert read not in start.descriptors
        assert start.cwd == str(Path.cwd())
    finally:
        os.close(read)
        os.close(write)
        del os.environ["CHANGED_SINCE"]


PREPARE = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
from watchdog_lambda import watch
from watchdog_lambda._watchdog import thread
watch(last_resort="restart")(print)
print(thread.last_resort is not None, "http.client" in sys.modules)
"""


def prepared(**environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip(), done.stderr


def test_the_last_resort_is_prepared_on_lambda_only() -> None:
    """Where there is no Runtime API there is nobody to answer to, and nothing is imported."""
    assert prepared() == ("False False", "")
    assert prepared(AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001") == ("True True", "")


def test_a_restarted_program_leaves_the_import_to_its_first_invocation() -> None:
    """Its init must be over before the hard deadline of the invocation that it was given up for."""
    past = {PAST: _tell({"cpu": "0.1"})}
    assert prepared(AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001", **past) == ("True False", "")


def test_managed_instances_are_told_that_there_is_no_last_resort() -> None:
    """Ending the process there would end a worker for good."""
    stdout, stderr = prepared(
        AWS_LAMBDA_RUNTIME_API="127.0.0.1:9001", AWS_LAMBDA_MAX_CONCURRENCY="4"
    )

    assert stdout == "False False"
    assert "LAST_RESORT=restart has no effect in Managed Instances" in stderr
