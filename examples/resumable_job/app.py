"""A job that is longer than a timeout: it saves how far it has come, and goes on from there.

It knows nothing of the watchdog. Whoever invokes it again and again (a Step Functions loop, a queue
that gives it back) brings it to its end.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Stands for a table: on Lambda /tmp is gone with the sandbox.
CHECKPOINTS = Path(os.environ.get("CHECKPOINTS", tempfile.gettempdir()))


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Do the steps of a job that are not done yet."""
    checkpoint = CHECKPOINTS / f"{event['job']}.json"
    done = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
    began_with = len(done)
    try:
        for step in range(began_with, event["steps"]):
            done.append(work(step, event["seconds"]))
    except TimeoutError:
        # The step that was under way has not been noted: it is done again.
        return {"status": "CONTINUE", "began_with": began_with, "done": len(done)}
    finally:
        # After the timeout, too: there is a grace period for it.
        save(checkpoint, done)
    return {"status": "SUCCEEDED", "began_with": began_with, "done": len(done)}


def work(step: int, seconds: float) -> int:
    """One step; the same again if it is done again."""
    time.sleep(seconds)
    return step * step


def save(checkpoint: Path, done: list[int]) -> None:
    """In one step, so that whoever reads it never sees half of it."""
    draft = checkpoint.with_suffix(".draft")
    draft.write_text(json.dumps(done))
    draft.replace(checkpoint)
