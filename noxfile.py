"""The commands of ``dev.py``, a session each.

Most run in the environment that nox itself runs in: ``.venv``, which ``dev.py`` makes. What needs
other packages, or another Python, has an environment of its own in ``.nox``, made by uv and reused.
Everything that is installed is pinned by hash in ``requirements/``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nox
from nox.command import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent
SUPPORTED: Final = nox.project.python_versions(nox.project.load_toml(ROOT / "pyproject.toml"))
TRIED: Final = ("3.15",)
"""Not supported yet: the tests run on them all the same, where there is one."""
THIS: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
MODULE: Final = (sys.executable, "-m")
DEV: Final = "requirements/dev.txt"
COMPILED: Final = "--compile-bytecode"
"""For environments that functions start in: one that has whole packages to compile when it starts
can be over its timeout.
"""

FETCHED: Final = ROOT / ".cache" / "debian-python" / "bin"
"""Where `pythons` leaves what it fetches."""

SKIPPED: Final = 77
"""Exit status of a tool that could not run here at all; what it printed says why."""

nox.needs_version = ">=2026.10"
nox.options.error_on_missing_interpreters = False
nox.options.download_python = "never"

SECOND_CHANCES: Final = ("--reruns=2", "--reruns-delay=2", "--max-suite-reruns=20", "-rR")
"""For all tests but the soak: most meet real deadlines, of a second or two, and on a machine
that is busy elsewhere a few of three thousand may come too late. A defect that shows by chance
would pass too, so those tests are named at the end of the run, and there are twenty second runs at
the most.
"""

MEASURED: Final = (
    *("tests/unit", "tests/cli", "tests/test_api.py"),
    *(
        f"tests/threads/test_{name}.py"
        for name in ("async", "batch", "exits", "fork", "gil", "metrics", "shield", "tracing")
    ),
)
"""What `coverage` runs: not what counts in microseconds, nor races that a tracer has hang."""

TOUCHES_BOUNDS: Final = (
    "tests/test_api.py",
    "tests/project/test_docs_powertools.py",
    "tests/threads/test_idempotency.py",
    "tests/threads/test_metrics.py",
    "tests/unit/test_entrypoint.py",
    "tests/runtime/test_powertools.py",
    "tests/runtime/test_handler_choice.py",
)
"""What meets the packages that this one depends on, or works with: `minimum --quick`."""

here = nox.session(venv_backend="none")
"""A session that runs in ``.venv``."""

own = nox.session(venv_backend="uv", reuse_venv=True)
"""A session with an environment of its own."""


# ---- the tests -----------------------------------------------------------------------------------


@here
def demo(session: nox.Session) -> None:
    """A real handler runs into its timeout, with and without the watchdog, side by side."""
    with session.chdir(session.invoked_from):  # --path is relative to where the user is
        _python(session, "-m", "tools.demo", *session.posargs, env={"PYTHONPATH": str(ROOT)})


@here
def test(session: nox.Session) -> None:
    """The tests: units, threads and races, the real runtime under AWS's emulator."""
    if session.posargs:
        _python(session, "-m", "pytest", *session.posargs)
        return
    # Most of them wait most of the time. What counts in microseconds, or by processor time, runs
    # by itself.
    beside = ("-m", "not soak and not alone", "-n", "5", "--dist", "worksteal", *SECOND_CHANCES)
    by_itself = ("-m", "alone and not soak", *SECOND_CHANCES)
    soak = ("-m", "soak")  # where a defect that shows by chance is what is looked for
    _all_of(session, *((*MODULE, "pytest", *how) for how in (beside, by_itself, soak)))


@nox.session(python=[*SUPPORTED, *TRIED], venv_backend="uv", reuse_venv=True, allow_parallel=True)
def interpreters(session: nox.Session) -> None:
    """The tests on every supported Python found here, and the next (--others: not on this one)."""
    arguments = [argument for argument in session.posargs if argument != "--others"]
    if session.python == THIS and len(arguments) < len(session.posargs):
        session.log(f"left out: `test` runs on Python {THIS}")
        return
    _install_dev(session)
    _test_on(session, str(session.python), *arguments)


@nox.session(python=str(FETCHED / "python3.14-arm64"), venv_backend="uv", reuse_venv=True)
def arm64(session: nox.Session) -> None:
    """The tests on arm64, under qemu, with what `pythons 3.14 3.14-arm64` has fetched."""
    [site] = Path(session.virtualenv.location).glob("lib/*/site-packages")
    # Built and compiled by this machine's: under qemu it takes minutes, and comes to the same.
    python = str(FETCHED / "python3.14")
    there = ("--target", str(site), "--python-platform", "aarch64-manylinux_2_39")
    _install(session, "dev", "--python", python, *there)
    _install_package(session, "--python", sys.executable, *there)
    compiling = [python, "-W", "ignore", "-m", "compileall", "-qq", str(site)]
    subprocess.run(compiling, check=False)  # some packages have templates that do not compile
    _test_on(session, "arm64", "--timeout=300", *session.posargs)


@here
def pythons(session: nox.Session) -> None:
    """Fetch Debian's Pythons that are newer than this machine's, for `interpreters` (root)."""
    _python(session, "-m", "tools.debian_python", *session.posargs)


@nox.session(python=SUPPORTED[0], venv_backend="uv", reuse_venv=True)
def minimum(session: nox.Session) -> None:
    """Tests on the oldest Python with the lowest versions that pyproject.toml allows (--quick)."""
    _install(session, "minimum", COMPILED)
    _install_package(session)
    arguments = [argument for argument in session.posargs if argument != "--quick"]
    if not arguments:
        # In short: one of the two ways of choosing the handler.
        in_short = len(arguments) < len(session.posargs)
        arguments = [*TOUCHES_BOUNDS, "-k", "not setting"] if in_short else ["tests"]
        arguments += ["-m", "not soak and not image"]
    several = ("-n", "3", "--dist", "worksteal", *SECOND_CHANCES)
    _run(session, "python", "-m", "pytest", "-q", *several, *arguments)


@own
def wrappers(session: nox.Session) -> None:
    """Datadog, Lumigo, New Relic, OpenTelemetry, Sentry, ... around the watchdog and inside."""
    _install(session, "wrappers", COMPILED)
    os.environ["WRAPPERS_PYTHON"] = _python_of(session)
    _python(session, "-m", "pytest", "tests/wrappers", *session.posargs)


@own
def stacks(session: nox.Session) -> None:
    """Clients on real servers: who is answered in time, and whether the next call works."""
    _install(session, "stacks", COMPILED)
    os.environ["STACKS_PYTHON"] = _python_of(session)
    arguments = session.posargs
    if arguments[:1] == ["test"]:
        _python(session, "-m", "pytest", "-q", "tests/stacks", *arguments[1:])
    else:
        _python(session, "-m", "benchmarks.stacks", *arguments)


@here
def coverage(session: nox.Session) -> None:
    """Lines and branches of the package that no test runs, and that say no reason (minutes)."""
    folder = ROOT / "build" / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Subprocesses look for the settings where they stand.
    os.environ["COVERAGE_RCFILE"] = str(ROOT / "pyproject.toml")
    pytest = ("-m", "pytest", "-p", "tests.traced", "-m", "not soak and not untraced")
    several = ("-n", "2", "--dist", "worksteal", *SECOND_CHANCES)
    _all_of(
        session,
        (*MODULE, "coverage", "run", *pytest, *several, *(session.posargs or MEASURED)),
        (*MODULE, "coverage", "combine", "--quiet"),
        (*MODULE, "coverage", "report"),
    )


@own
def mutation(session: nox.Session) -> None:
    """Does a test fail for each small mistake in a module? (hours for all; --sample 20)."""
    _install(session, "mutation")
    os.environ["MUTATION_PYTHON"] = _python_of(session)
    # Under a name of no file: tests look at their own frames, and the runner's, which are around
    # them, would count as the user's code.
    script = "exec(compile(open(f := 'tools/mutation.py').read(), '<mutation>', 'exec'), "
    script += "{'__name__': '__main__', '__file__': f})"
    _python(session, "-c", script, *session.posargs)


@here
def check(session: nox.Session) -> None:
    """Format, lint, types (mypy and pyright, both strict) and the import layers."""
    _all_of(
        session,
        (*MODULE, "ruff", "format", "--check", "--quiet", "."),
        (*MODULE, "ruff", "check", "--quiet", "."),
        (*MODULE, "mypy"),
        (*MODULE, "pyright", "--pythonpath", sys.executable),
        (str(Path(sys.executable).with_name("lint-imports")),),
    )


# ---- long runs and measurements ------------------------------------------------------------------


@here
def soak(session: nox.Session) -> None:
    """Invocations that end within microseconds of the firing, in numbers (long)."""
    arguments = list(_environments_in(session))
    if "--full" in arguments and "--interpreter" not in arguments:
        arguments += [f"--interpreter={interpreter}" for interpreter in _interpreters()]
    _python(session, "-m", "tools.soak", *arguments)


@here
def chaos(session: nox.Session) -> None:
    """The soak among signals, forks, debuggers, and short of memory, threads, files (long)."""
    _python(session, "-m", "tools.soak.chaos", *_environments_in(session))


@here
def landing(session: nox.Session) -> None:
    """Loops that an interrupt can land wrongly in, timed out, and what was left behind (long)."""
    _python(session, "-m", "tools.landing", *_environments_in(session))


@here
def workers(session: nox.Session) -> None:
    """Ten thousand timeouts through the real awslambdaric, at several workers (long)."""
    _python(session, "-m", "tools.workers", *session.posargs)


@here
def race(session: nox.Session) -> None:
    """Invocations that end at the instant at which the supervisor decides (long)."""
    _python(session, "-m", "tools.race", *session.posargs)


@here
def supervisor(session: nox.Session) -> None:
    """What a supervisor costs, and whether it is in time with a small share of a processor."""
    _python(session, "-m", "benchmarks.supervisor", *session.posargs)


@here
def flat(session: nox.Session) -> None:
    """A hundred thousand timeouts in one process: does anything grow? (long)."""
    _python(session, "-m", "tools.flat", *session.posargs)


@here
def bench(session: nox.Session) -> None:
    """What a call, a cold start and an interrupt cost, beside the alternatives, in one run."""
    parts = {argument.removeprefix("--only=") for argument in session.posargs}
    is_short = {"--quick", "--redraw", "-h", "--help"} & parts
    has_all = not any(argument.startswith("--only") for argument in session.posargs)
    if not is_short and (has_all or {"calls", "counts"} & parts):
        # The vendors' libraries are measured in the environment that they live in.
        os.environ["WRAPPERS_PYTHON"] = _python_made_for("wrappers")
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--interpreter")
    given, arguments = options.parse_known_args(session.posargs)
    version = given.interpreter
    python = _python_made_for(f"interpreters-{version}") if version else sys.executable
    _run(session, python, "-m", "benchmarks.costs", *arguments)


@here
def limits(session: nox.Session) -> None:
    """Which blocking calls a timeout can interrupt, and how fast, beside the alternatives."""
    _python(session, "-m", "benchmarks.limits", *_environments_in(session))


@own
def blocks(session: nox.Session) -> None:
    """`time_limit` beside stopit, func_timeout, timeout decorators and SIGALRM, as a table."""
    _install(session, "blocks")
    _run(session, "python", "-m", "benchmarks.limits.blocks", *session.posargs)


@here
def grace(session: nox.Session) -> None:
    """What a grace period has to hold, at the share of a processor of a small function (root)."""
    _python(session, "-m", "benchmarks.grace", *session.posargs)


# ---- what is published, and what it says ---------------------------------------------------------


@here
def image(session: nox.Session) -> None:
    """Build the container image for real and time a handler out in it (root, podman)."""
    _python(session, "-m", "tools.image", *session.posargs)


@here
def layer(session: nox.Session) -> None:
    """Build the Lambda layer, dist/watchdog-lambda-layer.zip, compiled for the Pythons found."""
    given = [f"--interpreter={interpreter}" for interpreter in _interpreters()]
    _python(session, "-m", "tools.layer", *given, *session.posargs)


@own
def package(session: nox.Session) -> None:
    """Build wheel and sdist twice, compare, look into them, try the wheel elsewhere (--quick)."""
    _install(session, "release")
    _python(session, "-m", "tools.package", f"--twine={session.bin}/twine", *session.posargs)


@own
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of everything that is installed for development, by pip-audit."""
    _install(session, "release")
    _python(session, "-m", "tools.audit", f"{session.bin}/pip-audit")


@own
def template(session: nox.Session) -> None:
    """Check SAM, CDK and Terraform in deploy/, and that all three describe the same function."""
    _install(session, "deploy")
    _run(session, "python", "-m", "tools.deployment", *session.posargs)


@here
def api(session: nox.Session) -> None:
    """Write the public API down in tests/public_api.txt, which a test compares."""
    _python(session, "-m", "tools.api", *session.posargs)


@here
def follow(session: nox.Session) -> None:
    """The documentation to the letter: from the wheel, each page in a fresh environment."""
    _python(session, "-m", "tools.follow", *session.posargs)


@here
def pictures(session: nox.Session) -> None:
    """Draw the documentation's pictures of a run that is made for it (--redraw: of the last)."""
    _python(session, "-m", "tools.pictures", *session.posargs)


@own
def docs(session: nox.Session) -> None:
    """Build the documentation's site in build/docs, strictly (--serve [PORT]: and show it here)."""
    _install(session, "docs")
    site = ROOT / "build" / "docs"
    # All of it anew: of a page that was read before, the warnings would not come again.
    strictly = ("--fail-on-warning", "--nitpicky", "--keep-going", "--fresh-env", "--quiet")
    sphinx = ("python", "-m", "sphinx", "-b", "html", "--doctree-dir", f"{site}-cache")
    _run(session, *sphinx, *strictly, "docs", str(site))
    session.log(f"the site is there: {site / 'index.html'}")
    if session.posargs[:1] == ["--serve"]:
        port = session.posargs[1:] or ["8000"]
        serve = ("python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(site))
        _run(session, *serve, *port)


@here
def lock(session: nox.Session) -> None:
    """Pin the newest versions that pyproject.toml allows in requirements/*.txt; and the lowest."""
    newest = ("--universal", "--upgrade")
    lowest = ("--resolution", "lowest-direct", "--upgrade", "--extra", "runtime", "--extra", "cli")
    groups = ("wrappers", "stacks", "blocks", "deploy", "docs", "release", "mutation")
    what = {
        # The package's own dependencies belong to the first and the last alone.
        "dev": ("pyproject.toml", "--group", "dev", *newest),
        **{group: ("--group", group, *newest) for group in groups},
        "minimum": ("pyproject.toml", "--group", "test", "--group", "build", *lowest),
    }
    compiling = ("uv", "--system-certs", "--quiet", "pip", "compile", "--python-version", "3.11")
    for name, options in what.items():
        output = ("--generate-hashes", "--no-header", "--output-file", f"requirements/{name}.txt")
        _python(session, "-m", *compiling, *options, *output, *session.posargs)


# ---- helpers -------------------------------------------------------------------------------------


def _python(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run something in ``.venv``, whichever environment the session has."""
    _run(session, sys.executable, *arguments, env=env)


def _run(session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
    try:
        # Both streams apart, as they are; and after Ctrl-C, which the command gets too, it may end
        # in its own way.
        session.run(*command, env=env, external=True, stderr=None, interrupt_timeout=None)
    except CommandFailed as error:
        if error.return_code == SKIPPED:
            session.skip(f"{' '.join(command[-2:])} cannot run here")
        raise


def _all_of(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run each command, and fail in the end if any has failed."""
    failed = []
    for command in commands:
        try:
            _run(session, *command)
        except CommandFailed:
            failed.append(" ".join([Path(command[0]).name, *command[1:4]]))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def _install(session: nox.Session, group: str, *options: str) -> None:
    """What requirements/ pins for this group, nothing else; builds use pinned tools too."""
    pinned = ("--require-hashes", "--build-constraints", DEV, "-r", f"requirements/{group}.txt")
    session.install("--quiet", "--system-certs", *options, *pinned)


def _install_package(session: nox.Session, *options: str) -> None:
    """This checkout, as it stands, without what it depends on."""
    session.install("--quiet", "--no-deps", "--no-build-isolation", *options, "--editable", ".")


def _install_dev(session: nox.Session) -> None:
    _install(session, "dev", COMPILED)
    _install_package(session)


def _test_on(session: nox.Session, name: str, *arguments: str) -> None:
    # uv's environments have no pip to download AWS's emulator with.
    found = subprocess.run(
        [*MODULE, "tools.emulator"], stdout=subprocess.PIPE, text=True, check=False
    )
    env = {"AWS_EMULATOR": found.stdout.strip()}  # where there is none, a test says so
    cache = ("-o", f"cache_dir=build/pytest/{name}")  # each has its own
    _run(session, "python", "-m", "pytest", *cache, *SECOND_CHANCES, *arguments, env=env)


def _python_of(session: nox.Session) -> str:
    return str(Path(session.bin) / "python")


def _python_made_for(name: str) -> str:
    """The Python of another session's environment, made if need be."""
    nox_itself = [sys.executable, "-m", "nox", "--noxfile", __file__, "--install-only"]
    subprocess.run([*nox_itself, "--session", name], check=True)
    return str(ROOT / ".nox" / name.replace(".", "-") / "bin" / "python")


def _environments_in(session: nox.Session) -> Iterator[str]:
    """The arguments; 3.12 or arm64, for example, stands for the Python of that environment."""
    made = {version: f"interpreters-{version}" for version in (*SUPPORTED, *TRIED)}
    made |= {"arm64": "arm64"}
    for argument in session.posargs:
        yield _python_made_for(made[argument]) if argument in made else argument


def _interpreters() -> Iterator[str]:
    """The supported Pythons that are found here."""
    for version in SUPPORTED:
        found = shutil.which(f"python{version}")
        # A shim on PATH may stand for an interpreter that is not there.
        if found and subprocess.run([found, "-c", ""], check=False).returncode == 0:
            yield found


def _pyenv() -> Iterator[str]:
    """Where pyenv has the supported Pythons: on PATH it has shims for one of them only."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in SUPPORTED:
        yield from map(str, sorted(root.glob(f"versions/{version}.*/bin"), reverse=True))


os.environ["PATH"] = os.pathsep.join([*_pyenv(), str(FETCHED), os.environ["PATH"]])
os.environ["PY_DISCOVERY_TIMEOUT"] = "120"  # seconds to say what it is; under qemu that takes long
