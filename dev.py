#!/usr/bin/env python3
"""Every command of this project, from a fresh checkout with nothing but Python.

Each sets up what it needs first: a virtual environment in ``.venv`` with the pinned tools (once),
smaller ones in ``.venv-wrappers`` and the like, and AWS's Runtime Interface Emulator in ``.cache``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from tools.environments import (
    SUPPORTED,
    SetUpError,
    environment,
    environment_of,
    extra_environment,
    find,
    install_package,
    say,
)

ROOT = Path(__file__).resolve().parent

TOUCHES_BOUNDS = (
    "tests/test_api.py",
    "tests/test_docs_powertools.py",
    "tests/threads/test_idempotency.py",
    "tests/threads/test_metrics.py",
    "tests/unit/test_entrypoint.py",
    "tests/runtime/test_powertools.py",
    "tests/runtime/test_handler_choice.py",
)
"""What meets the packages that the package depends on, or works with: `minimum --quick`."""

MEASURED = (
    *("tests/unit", "tests/cli", "tests/test_api.py"),
    *(
        f"tests/threads/test_{name}.py"
        for name in ("async", "batch", "exits", "fork", "gil", "metrics", "shield", "tracing")
    ),
)
"""What `coverage` runs: not what counts in microseconds, nor races that a tracer has hang."""

SECOND_CHANCES = 5
"""How many tests of a run may fail beside others and pass by themselves. Most meet real deadlines,
of a second or two, and on a machine that is busy elsewhere one of two thousand may come too late.
A defect that shows by chance would pass too: those tests are named at the end of the run.
"""

SKIPPED = 77
"""Exit code of a command that could not run here at all, as automake has it."""


# ---- commands ----------------------------------------------------------------------------------


def demo(arguments: list[str]) -> int:
    """A real handler runs into its timeout, with and without the watchdog, side by side."""
    # From where the user stands: --path is theirs.
    return _module("tools.demo", arguments, cwd=Path.cwd())


def test(arguments: list[str]) -> int:
    """The tests: units, threads and races, the real runtime under AWS's emulator."""
    pytest = [str(environment()), "-m", "pytest"]
    if arguments:
        return _call([*pytest, *arguments])
    # Most of them wait most of the time. What counts in microseconds, or by processor time, runs
    # by itself.
    several = ["-m", "not soak and not alone", "-n", "5", "--dist", "worksteal"]
    beside_each_other = _call([*pytest, *_remembering("test"), *several])
    late = _late("test") if beside_each_other == 1 else []
    if late:
        say("the failed ones again, beside no other")
        beside_each_other = _call([*pytest, *late])
    by_themselves = _call([*pytest, "-m", "soak or alone"])
    if late and not beside_each_other:
        say(f"failed beside others, and passed by themselves: {' '.join(late)}")
    return by_themselves or beside_each_other


def coverage(arguments: list[str]) -> int:
    """Lines and branches of the package that no test runs, and that say no reason (minutes)."""
    folder = ROOT / "build" / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    measure = [str(environment()), "-m", "coverage"]
    pytest = ["run", "-m", "pytest", "-p", "tools.traced", "-m", "not soak and not untraced"]
    pytest += arguments or MEASURED
    # Subprocesses look for the settings where they stand.
    os.environ["COVERAGE_RCFILE"] = str(ROOT / "pyproject.toml")
    failed = _call([*measure, *pytest, "-n", "2", "--dist", "worksteal"])
    if failed == 1:
        # A tracer on top of a busy machine makes some too late. They have a second chance, alone.
        say("the failed ones again, beside no other")
        failed = _call([*measure, *pytest, "--last-failed", "--last-failed-no-failures", "none"])
    _call([*measure, "combine", "--quiet"])
    return _call([*measure, "report"]) or failed


def mutation(arguments: list[str]) -> int:
    """Does a test fail for each small mistake in the core modules? (hours for all of them)."""
    os.environ["MUTATION_PYTHON"] = str(extra_environment("mutation"))
    return _module("tools.mutation", arguments)


def check(arguments: list[str]) -> int:
    """Format, lint, types (mypy and pyright, both strict) and the import layers."""
    del arguments
    python = str(environment())
    bin_folder = Path(python).parent
    steps = [
        [python, "-m", "ruff", "format", "--check", "--quiet", "."],
        [python, "-m", "ruff", "check", "--quiet", "."],
        [python, "-m", "mypy"],
        [python, "-m", "pyright", "--pythonpath", python],
        [str(bin_folder / "lint-imports")],
    ]
    failed = [" ".join(step[1:4]) for step in steps if _call(step, announce=True)]
    for name in failed:
        say(f"FAILED: {name}")
    return 1 if failed else 0


def interpreters(arguments: list[str]) -> int:
    """The tests on every supported interpreter found here (--others: but for this one)."""
    outcomes: dict[str, str] = {}
    running: dict[str, tuple[list[str], subprocess.Popen[bytes], IO[bytes]]] = {}
    versions = list(SUPPORTED)
    if "--others" in arguments:
        arguments = [argument for argument in arguments if argument != "--others"]
        versions.remove(f"{sys.version_info.major}.{sys.version_info.minor}")
    for version in versions:
        interpreter = find(version)
        if interpreter is None:
            outcomes[version] = "SKIPPED: not found on this machine"
            continue
        pytest = [str(environment(interpreter)), "-m", "pytest"]
        say(f"Python {version}: pytest {' '.join(arguments)}")
        # Beside each other, for they wait most of the time; each one's output in one piece.
        output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed when it has ended
        process = subprocess.Popen(
            [*pytest, *_remembering(version), *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        running[version] = pytest, process, output
    statuses: dict[str, int] = {}
    for version, (_, process, said) in running.items():
        statuses[version] = _wait(process)
        with said:
            said.seek(0)
            sys.stdout.write(said.read().decode(errors="replace"))
        say(f"Python {version}: {'failed' if statuses[version] else 'passed'}")
    for version, status in statuses.items():
        outcomes[version] = "failed" if status else "passed"
        late = _late(version) if status == 1 else []
        if late:
            say(f"Python {version}: the failed ones again, beside no other")
            if not _call([*running[version][0], *late]):
                outcomes[version] = (
                    f"passed; failed beside others, and passed by themselves: {' '.join(late)}"
                )
    print()
    for version, outcome in outcomes.items():
        say(f"Python {version}: {outcome}")
    if "failed" in outcomes.values():
        return 1
    return 0 if statuses else SKIPPED


def _remembering(run: str) -> list[str]:
    """Have pytest remember what failed in this run alone: several go on at the same time."""
    return ["--cache-clear", "-o", f"cache_dir=build/pytest/{run}"]


def _late(run: str) -> list[str]:
    """The tests that failed in the run, if they are so few that they may have come too late."""
    try:
        kept = (ROOT / "build/pytest" / run / "v/cache/lastfailed").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    failed = list(json.loads(kept))
    return failed if len(failed) <= SECOND_CHANCES else []


def soak(arguments: list[str]) -> int:
    """Invocations that end within microseconds of the firing, in numbers."""
    ready = [environment_of(a) if a in SUPPORTED else a for a in arguments]
    if "--full" in arguments and "--interpreter" not in arguments:
        found = [interpreter for version in SUPPORTED if (interpreter := find(version))]
        ready += [f"--interpreter={interpreter}" for interpreter in found]
    return _module("tools.soak", ready)


def chaos(arguments: list[str]) -> int:
    """The soak among signals, forks, debuggers, and short of memory, threads, descriptors."""
    ready = [environment_of(a) if a in SUPPORTED else a for a in arguments]
    return _module("tools.chaos", ready)


def workers(arguments: list[str]) -> int:
    """Ten thousand timeouts through the real awslambdaric, at several workers (long)."""
    return _module("tools.workers", arguments)


def flat(arguments: list[str]) -> int:
    """A hundred thousand timeouts in one process: does anything grow? (long)."""
    return _module("tools.flat", arguments)


def bench(arguments: list[str]) -> int:
    """What a call, a cold start and an interrupt cost, beside the alternatives, in one run."""
    parts = {argument.removeprefix("--only=") for argument in arguments}
    is_short = {"--quick", "--redraw", "-h", "--help"} & parts
    has_all = not any(argument.startswith("--only") for argument in arguments)
    if not is_short and (has_all or {"calls", "counts"} & parts):
        # The vendors' libraries are measured in the environment that they live in.
        os.environ["WRAPPERS_PYTHON"] = str(extra_environment("wrappers"))
    return _module("benchmarks.costs", arguments)


def limits(arguments: list[str]) -> int:
    """Which blocking calls a timeout can interrupt, and how fast, beside the alternatives."""
    # A version stands for its environment, for which the calls need more than a bare Python.
    ready = [environment_of(a) if a in SUPPORTED else a for a in arguments]
    return _module("benchmarks.limits", ready)


def grace(arguments: list[str]) -> int:
    """What a grace period has to hold, at the share of a processor of a small function (root)."""
    return _module("benchmarks.grace", arguments)


def image(arguments: list[str]) -> int:
    """Build the container image for real and time a handler out in it (root, buildah)."""
    return _module("tools.image", arguments)


def wrappers(arguments: list[str]) -> int:
    """Datadog, Lumigo, New Relic, OpenTelemetry, Sentry, ... around the watchdog and inside."""
    python = extra_environment("wrappers")
    # A cold start that has a vendor's whole package to compile as well can be over its timeout.
    _call([str(python), "-m", "compileall", "-q", "-j", "2", str(python.parents[1] / "lib")])
    os.environ["WRAPPERS_PYTHON"] = str(python)
    return test(["tests/wrappers", *arguments])


def follow(arguments: list[str]) -> int:
    """The documentation to the letter: from the wheel, each page in a fresh environment."""
    return _module("tools.follow", arguments)


def template(arguments: list[str]) -> int:
    """Check the deployment's template, deploy/template.yaml, with cfn-lint."""
    cfn_lint = extra_environment("deploy").with_name("cfn-lint")
    return _call([str(cfn_lint), "deploy/template.yaml", *arguments])


def layer(arguments: list[str]) -> int:
    """Build the Lambda layer, dist/watchdog-lambda-layer.zip, compiled for the Pythons found."""
    found = [interpreter for version in SUPPORTED if (interpreter := find(version))]
    given = [f"--interpreter={interpreter}" for interpreter in found]
    return _module("tools.layer", [*given, *arguments])


def docs(arguments: list[str]) -> int:
    """Build the documentation's site in build/docs, strictly (--serve: and show it here)."""
    parser = argparse.ArgumentParser(prog="dev.py docs", description=docs.__doc__)
    parser.add_argument("--serve", action="store_true", help="serve it on this machine")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args(arguments)
    python = str(extra_environment("docs"))
    site = ROOT / "build" / "docs"
    # All of it anew: of a page that was read before, the warnings would not come again.
    sphinx = [python, "-m", "sphinx", "-b", "html", "--fail-on-warning", "--nitpicky"]
    sphinx += ["--keep-going", "--fresh-env", "--quiet", "--doctree-dir", f"{site}-cache"]
    if status := _call([*sphinx, "docs", str(site)]):
        return status
    say(f"the site is there: {site / 'index.html'}")
    if not given.serve:
        return 0
    serve = [python, "-m", "http.server", str(given.port), "--bind", "127.0.0.1"]
    return _call([*serve, "--directory", str(site)])


def pictures(arguments: list[str]) -> int:
    """Draw the documentation's pictures of a run that is made for it (--redraw: of the last)."""
    return _module("tools.pictures", arguments)


def package(arguments: list[str]) -> int:
    """Build wheel and sdist twice, compare, look into them, try the wheel elsewhere (--quick)."""
    given = [f"--twine={extra_environment('release').with_name('twine')}"]
    return _module("tools.package", [*given, *arguments])


def minimum(arguments: list[str]) -> int:
    """Tests on the oldest Python with the lowest versions that pyproject.toml allows (--quick)."""
    oldest = SUPPORTED[0]
    interpreter = find(oldest)
    if interpreter is None:
        say(f"SKIPPED: Python {oldest} was not found on this machine")
        return SKIPPED
    python = extra_environment("minimum", interpreter)
    # Each time: its metadata are those of the day that it was installed.
    install_package(python)
    quick = "--quick" in arguments
    given = [argument for argument in arguments if argument != "--quick"]
    if not given:
        # In short: what touches the packages that the bounds are of, in one of the two ways of
        # choosing the handler.
        in_short = (*TOUCHES_BOUNDS, "-k", "not setting")
        given = list(in_short if quick else ("tests", "-m", "not soak and not image"))
    return _call([str(python), "-m", "pytest", "-n", "3", "--dist", "worksteal", "-q", *given])


def audit(arguments: list[str]) -> int:
    """Known vulnerabilities of everything that is installed for development, by pip-audit."""
    pip_audit = str(extra_environment("release").with_name("pip-audit"))
    return _module("tools.audit", [f"--pip-audit={pip_audit}", *arguments])


def api(arguments: list[str]) -> int:
    """Write the public API down in tests/public_api.txt, which a test compares (--check)."""
    return _module("tools.api", arguments)


def lock(arguments: list[str]) -> int:
    """Pin the newest versions that pyproject.toml allows in requirements/*.txt; and the lowest."""
    # The package's own dependencies belong to the first and the last alone.
    package_itself = ["pyproject.toml"]
    newest = ["--universal", "--upgrade"]
    lowest = ["--resolution", "lowest-direct", "--upgrade", "--extra", "runtime", "--extra", "cli"]
    what: dict[str, list[str]] = {
        "dev": [*package_itself, "--group", "dev", *newest],
        "wrappers": ["--group", "wrappers", *newest],
        "deploy": ["--group", "deploy", *newest],
        "docs": ["--group", "docs", *newest],
        "release": ["--group", "release", *newest],
        "mutation": ["--group", "mutation", *newest],
        "minimum": [*package_itself, "--group", "test", "--group", "build", *lowest],
    }
    for name, options in what.items():
        command = [str(environment()), "-m", "uv", "--system-certs", "pip", "compile", *options]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header"]
        command += ["--quiet", "--output-file", f"requirements/{name}.txt"]
        if status := _call([*command, *arguments]):
            return status
    return 0


COMMANDS = (
    demo,
    test,
    coverage,
    mutation,
    check,
    interpreters,
    soak,
    chaos,
    workers,
    flat,
    bench,
    limits,
    grace,
    image,
    wrappers,
    follow,
    template,
    layer,
    docs,
    pictures,
    package,
    minimum,
    audit,
    api,
    lock,
)


def main() -> int:
    """Run one command; its own exit code, or 2 for a wrong call, or 130 after Ctrl-C."""
    listing = "\n".join(
        f"  {command.__name__:<14}{(command.__doc__ or '').strip()}" for command in COMMANDS
    )
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"commands:\n{listing}\n\nWhat follows the command goes to it: dev.py soak --help",
    )
    names = [command.__name__ for command in COMMANDS]
    parser.add_argument("command", choices=names, metavar="command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    chosen = next(command for command in COMMANDS if command.__name__ == given.command)
    try:
        return chosen(given.arguments)
    except SetUpError as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"dev.py: {' '.join(map(str, error.cmd))} failed", file=sys.stderr)
        return error.returncode or 1
    except KeyboardInterrupt:
        return 130


# ---- helpers -----------------------------------------------------------------------------------


def _module(name: str, arguments: list[str], *, cwd: Path = ROOT) -> int:
    return _call([str(environment()), "-m", name, *arguments], cwd=cwd)


def _call(command: list[str], *, announce: bool = False, cwd: Path = ROOT) -> int:
    if announce:
        say(" ".join([Path(command[0]).name, *command[1:]]))
    return _wait(subprocess.Popen(command, cwd=cwd))


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent it Ctrl-C too: it ends in its own way, and we wait for that.
            continue


if __name__ == "__main__":
    raise SystemExit(main())
