"""Known vulnerabilities in what this project installs: pip-audit over every pinned file.

It asks PyPI, first about a release that is known to be vulnerable: a mirror that serves packages
only knows of no vulnerability at all. What is known about the lowest versions that pyproject.toml
allows is printed, and fails nothing: they are tested, not recommended.

Exit status: 0 none, 1 a vulnerability, 77 no service could be asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools import ROOT, ending

FILES: Final = sorted(ROOT.glob("requirements/*.txt"))
TOLD_ONLY: Final = "minimum.txt"
CONTROL: Final = "urllib3==1.24.1"
"""Never installed. A service that has no vulnerability of it has none of any release."""

BOUND: Final = 300.0  # seconds for one file; a service that takes longer counts as unavailable


def main(pip_audit: str) -> int:
    """Ask; see the exit codes above."""
    status = 0
    for name, asked in {"the control": CONTROL, **{f.name: _versions(f) for f in FILES}}.items():
        found = _ask(pip_audit, asked)
        is_control = name == "the control"
        if found is None or (is_control and not any("fixed in" in line for line in found)):
            print(f"!!! SKIPPED: no credible answer about {name}", *found or ())
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
        f"(fixed in: {', '.join(one['fix_versions']) or 'none'})"
        for package in packages
        for one in package.get("vulns", ())
    ]


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
