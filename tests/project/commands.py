"""Collects the names of dev.py's commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

COMMANDS: Final = frozenset(
    re.findall(
        r"^def ([a-z]\w*)\(session: nox\.Session\) -> None:",
        (ROOT / "noxfile.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
"""They are read from the file, because importing it would change this process's PATH."""
