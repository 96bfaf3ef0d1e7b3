"""Mutation testing, module by module: does a test fail for every mistake that one could make?

    python3 dev.py mutation                       # every module with tests of its own (hours)
    python3 dev.py mutation --sample 20           # so many mutants of each
    python3 dev.py mutation _engine.clock _config # these modules
    python3 dev.py mutation _engine.interrupts --tests tests/unit tests/threads/test_loops.py

Each mutant gets its module's tests (by name, or by ``tests/mutation-tests.toml``), until one
fails, in a process forked from one that has imported what the tests need and nothing of the
package; the mutated source is given to the import, so no file is ever changed. A mutant that hangs
is killed by its time limit and counts as killed.

``tests/mutation-survivors.toml`` has a reason for each known survivor. The command fails for a
survivor that is not there, and for an entry that a test kills by now.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tools import ROOT, ending
from tools.changed import Finder

PACKAGE: Final = "watchdog_lambda"
ELSEWHERE: Final = tomllib.loads((ROOT / "tests" / "mutation-tests.toml").read_text("utf-8"))
SURVIVORS: Final = ROOT / "tests" / "mutation-survivors.toml"
WORK: Final = ROOT / "build" / "mutation"

MOST_SECONDS: Final = 300.0  # for a module's tests without any mutant
PRELOADED: Final = (
    *("asyncio", "ctypes", "concurrent.futures", "jsonschema", "aws_lambda_powertools"),
    *("pytest", "_pytest.pytester", "_hypothesis_pytestplugin", "hypothesis.strategies"),
)

_QUIET: Final = (
    *("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--tb=line"),
    # Rewriting would import the package's modules in its own way, past the mutant.
    "--assert=plain",
)


def tests_of(module: str) -> tuple[str, ...]:
    """The files of a module's tests; none if it has none of its own."""
    room, _, name = module.rpartition(".")
    names = ELSEWHERE.get(module, [f"{room}/test_{name.lstrip('_')}"])
    files = [os.path.normpath(f"tests/unit/{each}.py") for each in names]
    return tuple(file for file in files if (ROOT / file).exists())


def modules() -> list[str]:
    paths = (path.relative_to(ROOT / PACKAGE) for path in (ROOT / PACKAGE).rglob("*.py"))
    names = (".".join(path.with_suffix("").parts) for path in paths)
    return sorted(name for name in names if tests_of(name))


def _path_of(module: str) -> str:
    return f"{PACKAGE}/{module.replace('.', '/')}.py"


class Mutant(NamedTuple):
    module: str
    operator: str
    line: int
    owner: str  # the function or class it is in
    was: str
    becomes: str
    source: str

    @property
    def key(self) -> tuple[str, ...]:
        """What it is called in the list; without a line number, because those change."""
        return self.module, self.owner, self.was, self.becomes


def _fork(work: Callable[[], int], output: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for to, opened in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(opened, to)
        status = work()
    except BaseException:  # noqa: BLE001 - nothing else would print it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _kill(pid: int) -> None:
    # It may have ended with all its children; or not have a group of its own yet.
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def mutants(module: str) -> list[Mutant]:
    """Cosmic Ray's, made in the environment that has it."""
    command = [os.environ["MUTATION_PYTHON"], "tools/mutants.py", _path_of(module)]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    unique: dict[str, Mutant] = {}
    for each in json.loads(made.stdout):
        unique.setdefault(each["source"], Mutant(module, **each))
    return sorted(unique.values(), key=lambda mutant: mutant.line)


def survivors(
    found: Sequence[Mutant], tests: Sequence[str], jobs: int, seconds: float, late: list[Mutant]
) -> Iterator[Mutant]:
    """Run the mutants, some at a time; those that no test fails for.

    Each has so many seconds. `late` gets those that this has ended, which a busy machine may be to
    blame for.
    """
    pending = list(reversed(found))
    running: dict[int, tuple[int, Mutant, float]] = {}  # by pidfd
    while pending or running:
        while pending and len(running) < jobs:
            mutant = pending.pop()
            pid = _fork(lambda m=mutant: _try(m, tests), WORK / f"mutant-{len(pending)}.log")  # type: ignore[misc]
            running[os.pidfd_open(pid)] = pid, mutant, time.monotonic() + seconds
        ready, _, _ = select.select(running, [], [], 0.5)
        for pidfd in list(running):
            pid, mutant, until = running[pidfd]
            if pidfd not in ready and time.monotonic() < until:
                continue
            _kill(pid)
            del running[pidfd]
            os.close(pidfd)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if pidfd not in ready:
                late.append(mutant)
            elif status == 0:
                yield mutant


def _try(mutant: Mutant, tests: Sequence[str]) -> int:
    path = str(ROOT / _path_of(mutant.module))
    name = f"{PACKAGE}.{mutant.module}".removesuffix(".__init__")
    sys.meta_path.insert(0, Finder(name, path, mutant.source))
    import pytest  # noqa: PLC0415 - preloaded

    return int(pytest.main([*_QUIET, *tests]))


def explained() -> dict[tuple[str, ...], str]:
    """The survivors that are known, with the reason of each."""
    entries = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivor", [])
    return {(e["module"], e["in"], e["was"], e["becomes"]): e["why"] for e in entries}


def examine(
    module: str, tests: Sequence[str], jobs: int, known: dict[tuple[str, ...], str], sample: int
) -> bool:
    """Test one module, by so many of its mutants; whether the survivors are the listed ones."""
    began = time.monotonic()
    source = (ROOT / _path_of(module)).read_text(encoding="utf-8")
    late: list[Mutant] = []
    unchanged = Mutant(module, "none", 0, "", "", "", source)
    if not list(survivors([unchanged], tests, 1, MOST_SECONDS, late)):
        # Every mutant would be killed by that.
        raise RuntimeError(f"{module}'s tests fail without any mutant")
    # Several times what the tests take, in case the machine is busy.
    seconds = 20.0 + 4 * (time.monotonic() - began)
    everything = mutants(module)
    found = everything[:: max(1, round(len(everything) / sample))] if sample else everything
    lived = list(survivors(found, tests, jobs, seconds, late))
    lived_keys = {mutant.key for mutant in lived}
    new = [mutant for mutant in lived if mutant.key not in known]
    tried = {key for key in known if key[0] == module and not sample}
    tried |= {mutant.key for mutant in found} & known.keys()
    gone = sorted(tried - lived_keys)
    killed = len(found) - len(lived)
    print(
        f"{module}: {len(found)} of {len(everything)} mutants, {killed} killed "
        f"({len(late)} by their time limit), {len(lived) - len(new)} explained, "
        f"{len(new)} survived ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    for mutant in new:
        print(f"\n# line {mutant.line}, {mutant.operator}\n{_entry(mutant)}")
    for mutant in late:
        print(f"killed by its time limit, line {mutant.line}: {' | '.join(mutant.key)}")
    for key in gone:
        print(f"no survivor any more, take it out of {SURVIVORS.name}: {' | '.join(key)}")
    return not new and not gone


def _entry(mutant: Mutant) -> str:
    """An entry for the list; a JSON string is a TOML string too."""
    pairs = zip(("module", "in", "was", "becomes"), mutant.key, strict=True)
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in pairs]
    return "\n".join(["[[survivor]]", *lines, 'why = ""'])


def main() -> int:
    status = "Exit status: 0 every survivor is explained, 1 one is not, or an explanation is void."
    parser = ending.parser("dev.py mutation", __doc__, status)
    add = parser.add_argument
    add("modules", nargs="*", default=modules(), metavar="module")
    add("--tests", nargs="+", help="the tests to use, as pytest takes them")
    add("--jobs", type=int, default=2, help="mutants at a time (%(default)s)")
    about = "so many mutants of each module, evenly spread over it (default: all)"
    add("--sample", type=int, default=0, metavar="N", help=about)
    given = parser.parse_args()
    for module in given.modules:
        if not (given.tests or tests_of(module)):
            parser.error(f"{module} has no tests of its own; give some: --tests tests/unit")
    os.chdir(ROOT)
    os.nice(10)
    WORK.mkdir(parents=True, exist_ok=True)
    sys.dont_write_bytecode = True
    for name in PRELOADED:
        importlib.import_module(name)
    if PACKAGE in sys.modules:
        raise RuntimeError(f"one of {PRELOADED} has imported {PACKAGE}: no mutant would be seen")
    known = explained()
    results = [
        examine(module, given.tests or tests_of(module), given.jobs, known, given.sample)
        for module in given.modules
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
