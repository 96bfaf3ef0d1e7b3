"""The checks before a release find defects, and the release documents name existing commands."""

from __future__ import annotations

import json
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.project.commands import COMMANDS
from tools import audit, built, ending, package

ROOT = Path(__file__).parents[2]
CHECKED = ("RELEASING.md", "CONTRIBUTING.md", ".ci/run")


def unpinned(text: str) -> list[str]:
    """Return the requirements without a version or a hash, which would leave pip a choice."""
    # A requirement continues over lines that end in a backslash.
    lines = (line.split("#")[0].strip() for line in text.replace("\\\n", " ").splitlines())
    pinned = re.compile(r"[\w.-]+==[^\s;]+.*--hash=sha256:")
    return [line for line in lines if line and not pinned.match(line)]


def test_every_requirement_is_pinned() -> None:
    """Every line of every requirements file has a version and a hash.

    This includes uv and the build tools.
    """
    for file in audit.FILES:
        assert unpinned(file.read_text(encoding="utf-8")) == [], file

    pinned = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    for name in ("uv", "hatchling", "editables", "setuptools"):
        assert re.search(rf"^{name}==", pinned, re.MULTILINE), name


@pytest.mark.parametrize(
    "loose",
    ["uv", "uv>=0.9 --hash=sha256:00", "uv==0.9", "-r other.txt", "https://example.com/uv.whl"],
)
def test_unpinned_requirement_is_detected(loose: str) -> None:
    """A requirement that is not pinned is found.

    It has no version, a range, no hash, or another source.
    """
    text = f"# a remark\na==1 \\\n    --hash=sha256:00\n    # via b\n{loose}\n"

    assert unpinned(text) == [loose]


def test_readme_links_are_absolute_in_package_description() -> None:
    """Each relative link of the README becomes absolute in the package's description.

    It names a file that exists.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    [rule] = hook["substitutions"]
    base = project["project"]["urls"]["Source"] + "/blob/main/"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", re.sub(rule["pattern"], rule["replacement"], text))

    assert len(links) > 20
    for link in links:
        assert link.startswith(base)
        assert (ROOT / link.removeprefix(base).partition("#")[0]).exists(), link


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/install.md"])
def test_documented_powertools_bound_matches_metadata(page: str) -> None:
    """The documented bound of Powertools is that of the package's metadata."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [requirement] = project["project"]["dependencies"]

    bound = requirement.removeprefix("aws-lambda-powertools>=")

    assert f"`aws-lambda-powertools` {bound} or newer" in (ROOT / page).read_text(encoding="utf-8")


VULNERABLE = {"id": "PYSEC-1", "fix_versions": ["1.24.2"]}
KNOWN = {"dependencies": [{"name": "urllib3", "version": "1.24.1", "vulns": [VULNERABLE]}]}
NOTHING = {"dependencies": [{"name": "urllib3", "version": "1.24.1", "vulns": []}]}
UNKNOWN = {"dependencies": [{"name": "urllib3", "skip_reason": "not found"}]}


@pytest.mark.parametrize(
    ("about_the_control", "about_the_rest", "status"),
    [
        (KNOWN, NOTHING, 0),
        (KNOWN, KNOWN, 1),
        (KNOWN, UNKNOWN, 1),
        (NOTHING, NOTHING, ending.SKIPPED),
        (UNKNOWN, NOTHING, ending.SKIPPED),
        ("no connection", NOTHING, ending.SKIPPED),
        (KNOWN, "no connection", ending.SKIPPED),
    ],
)
def test_audit_fails_if_known_vulnerability_is_missed(
    tmp_path: Path, about_the_control: object, about_the_rest: object, status: int
) -> None:
    """An audit fails if its service reports nothing for a release that is known to be unsafe."""
    answers = {True: about_the_control, False: about_the_rest}
    texts = {k: json.dumps(v) if isinstance(v, dict) else str(v) for k, v in answers.items()}
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "asked = open(sys.argv[sys.argv.index('--requirement') + 1]).read()\n"
        f"print({texts!r}[asked == {audit.CONTROL!r} + '\\n'])\n"
    )
    stand_in.chmod(0o755)

    assert audit.main(str(stand_in)) == status


def test_wheel_with_unexpected_or_missing_files_is_refused(tmp_path: Path) -> None:
    """A wheel with an additional file is refused, and so is one that lacks a file.

    The file is a cache, a local setting, or one that version control does not know.
    """
    files = ["watchdog_lambda/__init__.py", "watchdog_lambda/py.typed", "tests/test_api.py"]
    about = [f"watchdog_lambda-1.dist-info/{name}" for name in package._METADATA]

    package._look_into_wheel(wheel_of(tmp_path, [*files[:2], *about]), files)
    with pytest.raises(built.Unfit, match=r"has not: watchdog_lambda/\.env"):
        package._look_into_wheel(
            wheel_of(tmp_path, [*files[:2], *about, "watchdog_lambda/.env"]), files
        )
    with pytest.raises(built.Unfit, match=r"misses watchdog_lambda/py\.typed"):
        package._look_into_wheel(wheel_of(tmp_path, [files[0], *about]), files)


def wheel_of(folder: Path, names: list[str]) -> Path:
    wheel = folder / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return wheel


def test_differing_builds_are_refused(tmp_path: Path) -> None:
    """Builds that differ by a byte or by name are refused."""
    one, other = tmp_path / "a" / "x.whl", tmp_path / "b" / "x.whl"
    for file in (one, other):
        file.parent.mkdir()
        file.write_bytes(b"same")

    built.expect_same("the second", one, other)
    other.write_bytes(b"sane")
    with pytest.raises(built.Unfit, match="the second differs"):
        built.expect_same("the second", one, other)


@pytest.mark.parametrize("document", CHECKED)
def test_documented_commands_exist(document: str) -> None:
    """Every ``python3 dev.py ...`` in a release document is an existing command."""
    text = (ROOT / document).read_text(encoding="utf-8")

    named = set(re.findall(r"python3 dev\.py (\w+)", text))

    assert named
    assert named <= COMMANDS
