"""A job that is longer than a timeout: it saves its progress, and continues from there.

It does not mention the watchdog. Repeated invocations (a Step Functions loop, a queue that delivers
the message again) bring it to its end.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Simulates a table: on Lambda /tmp disappears with the sandbox.
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
        # The step in progress has not been saved, so it will be repeated.
        return {"status": "CONTINUE", "began_with": began_with, "done": len(done)}
    finally:
        # This also runs after a timeout, which is what the grace period is for.
        save(checkpoint, done)
    return {"status": "SUCCEEDED", "began_with": began_with, "done": len(done)}


def work(step: int, seconds: float) -> int:
    """Do one step, which may be repeated: the result is the same."""
    time.sleep(seconds)
    return step * step


def save(checkpoint: Path, done: list[int]) -> None:
    """Write the file atomically, so that a reader never sees half of it."""
    draft = checkpoint.with_suffix(".draft")
    draft.write_text(json.dumps(done))
    draft.replace(checkpoint)
