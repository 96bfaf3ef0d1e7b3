"""Known vulnerabilities in what this project installs: pip-audit over every pinned file.

Asks PyPI, whose advisories come with each release's metadata; first about a release that is known
to be vulnerable, because a mirror that serves packages only would have nothing against any.

The lowest versions that pyproject.toml allows are tested, not recommended: what is known about them
is told, and fails nothing.

Exit codes: 0; 1 for a vulnerability; 77 if no service could be asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools import ending

FILES: Final = sorted(Path(__file__).parents[1].glob("requirements/*.txt"))
TOLD_ONLY: Final = "minimum.txt"
CONTROL: Final = "urllib3==1.24.1"
"""Never installed. A service that knows nothing against it knows nothing."""

BOUND: Final = 300.0
"""Seconds for one file: a service that does not answer is one that cannot be asked."""


def main(pip_audit: str) -> int:
    """Ask; see the exit codes above."""
    status = 0
    for name, asked in {"the control": CONTROL, **{f.name: _versions(f) for f in FILES}}.items():
        found = _ask(pip_audit, asked)
        is_control = name == "the control"
        if found is None or (is_control and not any("mended in" in line for line in found)):
            print(f"!!! SKIPPED: no answer about {name} that could be believed", *found or ())
            return ending.SKIPPED
        if not is_control:
            print(*(f"{name}: {line}" for line in found), sep="\n", end="\n" if found else "")
            print(f"» {name}: {len(found)} known vulnerabilities", flush=True)
            status |= bool(found) and name != TOLD_ONLY
    return status


def _versions(file: Path) -> str:
    """As they are pinned, without markers: what is for another platform or Python can be as bad."""
    pinned = re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    # Another version for another Python comes second.
    return "\n".join(f"{name}=={version}" for name, version in dict(reversed(pinned)).items())


def _ask(pip_audit: str, asked: str) -> list[str] | None:
    """What is known, a line each; None if that could not be found out."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as names:
        names.write(asked + "\n")
        names.flush()
        # Nothing is installed or looked up for it: each file has all that its environment has.
        command = [pip_audit, "--requirement", names.name, "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--timeout", "30"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND)  # noqa: PLW1510
            packages = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError) as error:
            print(error, file=sys.stderr)
            return None
    skipped = [f"{p['name']}: {p['skip_reason']}" for p in packages if "skip_reason" in p]
    return skipped + [
        f"{package['name']} {package['version']}: {one['id']} "
        f"(mended in: {', '.join(one['fix_versions']) or 'none'})"
        for package in packages
        for one in package.get("vulns", ())
    ]


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
