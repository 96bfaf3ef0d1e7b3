"""The pictures' files: the figures as measured, and what is drawn of them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.markdown import fill_in
from tools import soak
from watchdog_lambda._config import Settings

from . import ladder, race, timeline
from .race import Soak
from .timeline import Run

ROOT: Final = Path(__file__).resolve().parent.parent.parent
FOLDER: Final = ROOT / "docs" / "explanation"
FIGURES: Final = FOLDER / "timeline.json"
SOAK: Final = FOLDER / "soak.json"
PROOF: Final = FOLDER / "proof.md"

DEFAULTS: Final = Settings({})
TIMEOUT: Final = 4 * DEFAULTS.grace_period
"""Of the function: the shortest one that has the default grace period whole."""


def measure() -> Run:
    """Run the handler in the real runtime, with the watchdog and without."""
    watched, unwatched = _invoke(), _invoke("--unwatched")
    [call], [bare] = watched["invocations"], unwatched["invocations"]
    return Run(
        timeout=watched["timeout"],
        grace_period=call["record"]["grace_period_ms"] / 1000,
        last_call=DEFAULTS.last_call,
        python=watched["python"],
        awslambdaric=watched["awslambdaric"],
        watched=call["timeline"],
        unwatched=bare["timeline"],
        answer=json.dumps(call["response"]),
        error=bare["error"]["errorMessage"].rpartition("Z ")[2],
    )


def _invoke(*options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "watchdog_lambda.cli", "invoke", "app.handler", "--json"]
    command += [f"--path={Path(__file__).parent}", f"--timeout={TIMEOUT:g}", "--emulator=none"]
    done = subprocess.run([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def to_json(run: Run) -> str:
    """What the file says of a run."""
    return json.dumps(asdict(run), indent=1) + "\n"


def read() -> Run:
    """The figures that the picture shows."""
    return Run(**json.loads(FIGURES.read_text(encoding="utf-8")))


def read_soak() -> Soak:
    """What the last long soak came to, as it was saved."""
    return Soak(**json.loads(SOAK.read_text(encoding="utf-8")))


def made_of(run: Run, soak: Soak) -> dict[Path, str]:
    """What each picture must be then, and the page with the soak's table."""
    return {
        FOLDER / "timeline.svg": timeline.draw(run),
        FOLDER / "ladder.svg": ladder.draw(),
        FOLDER / "race.svg": race.draw(soak),
        PROOF: _page(soak),
    }


def _page(found: Soak) -> str:
    cells = [(cell["name"], cell["rows"]) for cell in found.cells]
    tables = [
        line
        # Two of them side by side are what a page has room for.
        for n in range(0, len(cells), 2)
        for line in ("```", soak.table(cells[n : n + 2]), "```", "")
    ]
    page = PROOF.read_text(encoding="utf-8")
    return fill_in(page, {"soak": ["", *tables, f"**{found.verdict}**"]}, command="pictures")
