"""Tests of bootstrap/exec-wrapper and of the layer, in AWS's own start of a function."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.layer import build

from .aws_start import AwsStart
from .harness import call, running

if TYPE_CHECKING:
    from collections.abc import Mapping

HANDLER = """\
import os, sys, time

calls = 0


def handler(event, context):
    global calls
    calls += 1
    time.sleep(event.get("sleep", 0))
    watchdog = sys.modules.get("watchdog_lambda")
    return {
        "call": calls,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "package": watchdog and watchdog.__file__,
        "handler": os.environ["_HANDLER"],
        "mode": os.environ.get("AWS_EXECUTION_ENV"),
    }
"""
PATHS = """\
import os, sys

import library


def handler(event, context):
    return {
        "path": sys.path,
        "variable": os.environ.get("PYTHONPATH"),
        "library": library.__file__,
        "read": sorted(sys.read_pth_files),
    }
"""
STUCK = """\
import ctypes, os, sys

calls = 0


def handler(event, context):
    global calls
    calls += 1
    if event.get("do") == "exit":
        os._exit(7)
    if event.get("do") == "crash":
        ctypes.string_at(0)
    while event.get("do") == "hold":
        try:
            ctypes.CDLL(None).sleep(60)
        except BaseException:
            pass
    return [os.getpid(), calls, "watchdog_lambda" in sys.modules, os.getppid()]
"""
# This is a summary of what the wrapper scripts of other vendors' layers do, with the module that
# they insert.
VENDOR = '#!/bin/sh\nexport VENDOR_HANDLER="$_HANDLER" _HANDLER=vendor.handler\nexec "$@"\n'
VENDOR_MODULE = """\
import importlib, os

module, _, name = os.environ["VENDOR_HANDLER"].rpartition(".")
wrapped = getattr(importlib.import_module(module), name)


def handler(event, context):
    try:
        return {"vendor": wrapped(event, context)}
    finally:
        print("vendor: flushed")
"""


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the layer for this interpreter, as `dev.py layer` does."""
    file = tmp_path_factory.mktemp("layer") / "layer.zip"
    build(file, [sys.executable])
    return file


@pytest.fixture
def aws(tmp_path: Path, layer: Path) -> AwsStart:
    """Prepare AWS's start, with the layer unpacked as Lambda does it.

    It is in /opt, with its file modes.
    """
    start = AwsStart(tmp_path)
    unpack(layer, start.opt)
    (start.task / "app.py").write_text(HANDLER, encoding="utf-8")
    return start


def unpack(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            path = Path(opened.extract(entry, folder))
            path.chmod((entry.external_attr >> 16) & 0o777)


def with_wrapper(aws: AwsStart, **environment: str) -> Mapping[str, str]:
    return {"AWS_LAMBDA_EXEC_WRAPPER": str(aws.opt / "exec-wrapper"), **environment}


# ---- the layer ---------------------------------------------------------------------------------


def test_layer_is_reproducible(layer: Path, tmp_path: Path) -> None:
    """A layer that is built again, later and in another place, is identical to the byte."""
    again = tmp_path / "again.zip"
    build(again, [sys.executable])

    assert layer.read_bytes() == again.read_bytes()


def test_layer_contains_only_the_package(layer: Path) -> None:
    """The layer's entries are sorted, with fixed times and modes, and every module is compiled."""
    with zipfile.ZipFile(layer) as archive:
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    modules = {Path(name).stem for name in names if name.endswith(".py")}
    compiled = {Path(name).name.split(".")[0] for name in names if name.endswith(".pyc")}

    assert names == sorted(names)
    tops = {"/".join(name.split("/")[:2]) for name in names}
    assert {top.partition("-0")[0] for top in tops} == {"exec-wrapper", "python/watchdog_lambda"}
    assert "python/watchdog_lambda/py.typed" in names
    assert modules == compiled
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
    assert modes.pop("exec-wrapper") == 0o100755
    assert set(modes.values()) == {0o100644}


# ---- the wrapper -------------------------------------------------------------------------------


def test_layer_watches_managed_runtime_function(aws: AwsStart) -> None:
    """The layer changes only one variable of the function. The handler is interrupted in time."""
    with running(aws.function(environment=with_wrapper(aws), warm_up={})) as function:
        normal = call(function, {})
        timed_out = call(function, {"sleep": 30})
        after = call(function, {})

        assert normal.answer["package"] == str(aws.opt / "python/watchdog_lambda/__init__.py")
        assert normal.answer["handler"] == "app.handler"
        assert normal.answer["mode"] == "AWS_Lambda_python3.13"
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert timed_out.response.seconds < 2.0
        [report] = timed_out.reports
        assert report["location"].startswith("app.py:")
        assert after.answer == {**normal.answer, "call": 4}


def test_layer_modules_load_from_bytecode(aws: AwsStart) -> None:
    """The layer's modules are loaded from their compiled files.

    The source is not read, and /opt is read-only on Lambda.
    """
    for source in (aws.opt / "python/watchdog_lambda").rglob("*.py"):
        source.write_text("raise ImportError('the source was read')\n", encoding="utf-8")

    with running(aws.function(environment=with_wrapper(aws))) as function:
        assert call(function, {}).answer["call"] == 1


def test_wrapper_adds_no_process(aws: AwsStart) -> None:
    """The wrapper adds no process: the runtime is the emulator's own child, as without it."""
    with running(aws.function(environment=with_wrapper(aws), warm_up={})) as function:
        answer = call(function, {}).answer

        parent = Path(f"/proc/{answer['parent']}/exe").readlink()
        assert parent.name == "aws-lambda-rie"
        assert os.getsid(answer["pid"]) == answer["parent"]


def test_disabled_wrapper_leaves_the_function_unchanged(aws: AwsStart) -> None:
    """With one more variable the function runs as if the layer were not installed."""
    environment = with_wrapper(aws, WATCHDOG_LAMBDA_DISABLED="1")

    with running(aws.function(environment=environment, warm_up={})) as function:
        assert call(function, {}).answer["package"] is None
        assert "Task timed out" in function.invoke({"sleep": 30}).body


@pytest.mark.parametrize("wrapped", [True, False])
def test_module_path_matches_aws_bootstrap(aws: AwsStart, *, wrapped: bool) -> None:
    """The module path is AWS's, and .pth files are read.

    It has the task root, then the layers' site-packages before /opt/python.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = aws.opt / "python" / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    for folder in (aws.task, packages, aws.opt / "python"):
        told = f"import sys; sys.__dict__.setdefault('read_pth_files', []).append({folder.name!r})"
        (folder / f"{folder.name}.pth").write_text(told, encoding="utf-8")
    for folder in (packages, aws.opt / "python"):
        (folder / "library.py").touch()
    (aws.task / "paths.py").write_text(PATHS, encoding="utf-8")

    environment = with_wrapper(aws) if wrapped else {}
    with running(aws.function("paths.handler", environment=environment)) as function:
        found = call(function, {}).answer

    first = [str(aws.task), str(packages), str(aws.opt / "python")]
    assert found["path"][:3] == first
    assert found["variable"] == str(aws.runtime)
    assert found["library"] == str(packages / "library.py")
    assert found["read"] == sorted(["task", "site-packages", "python"])


@pytest.mark.parametrize("python_path", ["", "/nowhere"])
def test_layer_is_found_with_python_path_set(aws: AwsStart, python_path: str) -> None:
    """The package is found with PYTHONPATH set. AWS's bootstrap leaves the layers out then."""
    environment = with_wrapper(aws, PYTHONPATH=python_path)

    with running(aws.function(environment=environment, warm_up={})) as function:
        assert call(function, {}).answer["package"] is not None


def test_wrapper_starts_runtime_client_of_custom_image(aws: AwsStart) -> None:
    """In a custom image the wrapper starts `python -m awslambdaric app.handler`.

    The layer is in /opt.
    """
    (aws.task / "awslambdaric").symlink_to(aws.runtime / "awslambdaric")
    for library in aws.runtime.glob("*"):
        # What the module of C code is linked to is in a folder of its own on musl (".libs").
        if library.suffix in {".so", ".py", ".libs"} or library.name == "simplejson":
            (aws.task / library.name).symlink_to(library)
    command = (str(aws.opt / "exec-wrapper"), aws.python, "-m", "awslambdaric", "app.handler")

    with running(aws.function(command=command, warm_up={})) as function:
        assert call(function, {}).answer["handler"] == "app.handler"
        assert call(function, {"sleep": 30}).answer["errorType"] == "LambdaTimeout"
        assert call(function, {}).answer["call"] == 4


def test_missing_package_is_named(aws: AwsStart) -> None:
    """If the package is missing, the caller and the log are told which import failed."""
    (aws.opt / "python" / "watchdog_lambda").rename(aws.opt / "elsewhere")

    with running(aws.function(environment=with_wrapper(aws))) as function:
        answer = call(function, {}).answer

        assert answer["errorType"] == "Runtime.ImportModuleError"
        assert "No module named 'watchdog_lambda'" in answer["errorMessage"]


def test_entrypoint_as_function_handler_needs_the_variable(aws: AwsStart) -> None:
    """With the entrypoint as the function's handler a variable names the wrapped one.

    If it is not set, the error says so.
    """
    entrypoint = "watchdog_lambda.entrypoint.handler"
    named = with_wrapper(aws, WATCHDOG_LAMBDA_HANDLER="app.handler")

    with running(aws.function(entrypoint, environment=named, warm_up={})) as function:
        assert call(function, {}).answer["handler"] == "app.handler"
    with running(aws.function(entrypoint, environment=with_wrapper(aws))) as function:
        answer = call(function, {}).answer

        assert answer["errorType"] == "ConfigurationError"
        assert "set WATCHDOG_LAMBDA_HANDLER to your own" in answer["errorMessage"]


@pytest.mark.parametrize("order", ["vendor exec-wrapper", "exec-wrapper vendor"])
def test_wrapper_chains_with_vendor_wrapper(aws: AwsStart, order: str) -> None:
    """Another vendor's wrapper works outside and inside of ours.

    The handler is interrupted in time, and the vendor's code flushes.
    """
    first, second = (aws.opt / name for name in order.split())
    for name, text in {
        "vendor": VENDOR,
        "both": f'#!/bin/sh\nexec {first} {second} "$@"\n',
    }.items():
        (aws.opt / name).write_text(text, encoding="utf-8")
        (aws.opt / name).chmod(0o755)
    (aws.opt / "python" / "vendor.py").write_text(VENDOR_MODULE, encoding="utf-8")
    environment = {"AWS_LAMBDA_EXEC_WRAPPER": str(aws.opt / "both")}

    with running(aws.function(environment=environment, warm_up={})) as function:
        normal = call(function, {})
        timed_out = call(function, {"sleep": 30})
        after = call(function, {})

        assert normal.answer["vendor"]["call"] == 2
        assert timed_out.answer["errorType"] == "LambdaTimeout"
        assert "vendor: flushed" in timed_out.lines
        assert len(timed_out.reports) == 1
        assert after.answer["vendor"]["call"] == 4


def test_restarted_process_is_wrapped_again(aws: AwsStart) -> None:
    """The process that a supervisor starts anew in the same sandbox is wrapped again.

    It does not matter how the last one ended.
    """
    (aws.task / "stuck.py").write_text(STUCK, encoding="utf-8")
    environment = with_wrapper(aws, WATCHDOG_LAMBDA_LAST_RESORT="supervise")
    stuck = aws.function("stuck.handler", environment=environment, timeout=3, warm_up={})

    answers = {
        "hold": ("LambdaTimeout", "gave up after "),
        "exit": ("RuntimeCrash", "exited with status 7 after "),
        "crash": ("RuntimeCrash", "killed by SIGSEGV after "),
    }
    with running(stuck) as function:
        pid, calls, watched, sandbox = call(function, {}).answer
        assert (calls, watched) == (2, True)
        for do, (kind, words) in answers.items():
            answer = call(function, {"do": do}).answer
            assert answer["errorType"] == kind
            assert answer["errorMessage"].startswith(words)
            fresh, *rest = call(function, {}).answer
            assert fresh != pid
            assert rest == [1, True, sandbox]
            pid = fresh
