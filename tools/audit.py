"""Known vulnerabilities in what this project installs: pip-audit over every pinned file.

    python3 dev.py audit

Every file in requirements/ has every package of its environment with a version and hashes; one line
without them is a failure, before anybody is asked.

Asks PyPI, whose advisories come with each release's metadata; first about a release that is known
to be vulnerable, because a mirror that serves packages only would have nothing against any.

The lowest versions that pyproject.toml allows are tested, not recommended: what is known about them
is told, and fails nothing.

Exit codes: 0; 1 for a vulnerability, or something that is not pinned; 77 if nobody could be asked.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools import ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main", "unpinned"]

ROOT: Final = Path(__file__).resolve().parent.parent
FILES: Final = tuple(sorted((ROOT / "requirements").glob("*.txt")))
TOLD_ONLY: Final = ("minimum.txt",)
KNOWN_VULNERABLE: Final = "urllib3==1.24.1"
"""Never installed. A service that knows nothing against it knows nothing."""

BOUND: Final = 300.0
"""Seconds for one file: a service that does not answer is one that cannot be asked."""

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at all files, then ask; see the exit codes above."""
    parser = argparse.ArgumentParser(prog="dev.py audit", description=__doc__.partition("\n")[0])
    parser.add_argument("--pip-audit", required=True, help=argparse.SUPPRESS)
    pip_audit = parser.parse_args(arguments).pip_audit
    if loose := [line for file in FILES for line in unpinned(file)]:
        print("NOT PINNED:", *loose, sep="\n  ", file=sys.stderr)
        return 1
    print(f"» {len(FILES)} files in requirements/, everything with a version and hashes")
    asked = {"the control": [KNOWN_VULNERABLE], **{f.name: list(_versions(f)) for f in FILES}}
    status = 0
    for name, versions in asked.items():
        found = _ask(pip_audit, versions)
        is_control = name == "the control"
        knows = found and found[0].startswith(f"{KNOWN_VULNERABLE.replace('==', ' ')}: ")
        if found is None or (is_control and not knows):
            print(f"!!! SKIPPED: no answer about {name} that could be believed", *found or ())
            return ending.SKIPPED
        if not is_control:
            print(*(f"{name}: {line}" for line in found), sep="\n", end="\n" if found else "")
            print(f"» {name}: {len(found)} known vulnerabilities", flush=True)
            status |= bool(found) and name not in TOLD_ONLY
    return status


def unpinned(file: Path) -> Iterator[str]:
    """What pip would be free to choose: requirements without a version, or without a hash."""
    # A requirement goes on over lines that end in a backslash.
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        words = line.split("#")[0].strip()
        if words and not (_REQUIREMENT.match(words) and "--hash=sha256:" in words):
            yield f"{file.name}: {words[:80]}"


def _ask(pip_audit: str, versions: list[str]) -> list[str] | None:
    """What is known, a line each; None if that could not be found out."""
    with tempfile.TemporaryDirectory() as scratch:
        # As they are, and nothing installed: each file has all that its environment has. Without
        # the markers, for what is for another platform or Python can be as bad.
        names = Path(scratch, "requirements.txt")
        names.write_text("".join(f"{version}\n" for version in versions), encoding="utf-8")
        command = [pip_audit, "--requirement", str(names), "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", "30"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=BOUND
            )
        except subprocess.TimeoutExpired:
            print(f"no answer within {BOUND:g} s", file=sys.stderr)
            return None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        print(done.stderr.strip()[-2000:], file=sys.stderr)
        return None
    return list(_vulnerabilities(answer))


def _versions(file: Path) -> Iterator[str]:
    seen: set[str] = set()
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _REQUIREMENT.match(line)
        if match and match["name"] not in seen:  # another version for another Python comes second
            seen.add(match["name"])
            yield match[0]


def _vulnerabilities(answer: dict[str, Any]) -> Iterator[str]:
    for package in answer["dependencies"]:
        if "skip_reason" in package:
            yield f"{package['name']}: not looked at ({package['skip_reason']})"
        for one in package.get("vulns", ()):
            mended = ", ".join(one["fix_versions"]) or "none"
            yield f"{package['name']} {package['version']}: {one['id']} (mended in: {mended})"


if __name__ == "__main__":
    raise SystemExit(main())
