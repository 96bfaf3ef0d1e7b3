"""Run the handler of the pictures into its timeout, and draw what came of it.

python3 dev.py pictures                # two runs of 12 s, and the pictures
python3 dev.py pictures --redraw       # the pictures of the figures that are there
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.pages import remake
from tools import soak
from watchdog_lambda._config import Settings

from . import race, timeline
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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--redraw", action="store_true", help="run nothing")
    if not parser.parse_args().redraw:
        FIGURES.write_text(json.dumps(asdict(measure()), indent=1) + "\n", encoding="utf-8")
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    remake(PROOF)
    return 0


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


def read() -> Run:
    return Run(**json.loads(FIGURES.read_text(encoding="utf-8")))


def read_soak() -> Soak:
    """What the last long soak came to, as it was saved."""
    return Soak(**json.loads(SOAK.read_text(encoding="utf-8")))


def drawn() -> dict[Path, str]:
    return {
        FOLDER / "timeline.svg": timeline.draw(read()),
        FOLDER / "race.svg": race.draw(read_soak()),
    }


def soak_table() -> None:
    found = read_soak()
    cells = [(cell["name"], cell["rows"]) for cell in found.cells]
    # Two of them side by side are what a page has room for.
    for n in range(0, len(cells), 2):
        print("\n```\n" + soak.table(cells[n : n + 2]) + "\n```")
    print(f"\n**{found.verdict}**")


if __name__ == "__main__":
    sys.exit(main())
