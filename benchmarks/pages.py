"""Pages of the documentation whose figures are made by code: what cog finds between its markers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from cogapp import Cog

from tools import ROOT

_COG: Final = ("cog", "-P", "-I", str(ROOT), "--verbosity=0")


def remake(*pages: Path) -> None:
    """Make the generated parts of the pages anew; the prose around them stays."""
    if Cog().main([*_COG, "-r", *map(str, pages)]):
        raise RuntimeError(f"cog failed on {', '.join(map(str, pages))}")


def is_made(page: Path) -> bool:
    return not Cog().main([*_COG, "--check", str(page)])


def as_json(figures: Any) -> str:
    """Figures for a file. An object that holds no other is on one line: runs can be compared."""
    text = json.dumps(figures, indent=1, default=vars)
    for innermost in (r"\[[^][{}]*\]", r"\{[^{}]*\}"):
        text = re.sub(innermost, lambda found: re.sub(r"\s+", " ", found[0]), text)
    return text + "\n"
