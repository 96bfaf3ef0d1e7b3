"""Nothing of the event gets into a line that the package writes, on any path."""

from __future__ import annotations

import pytest

from .harness import running, wrapped

CANARY = "canary-5b1d7f"

# What awslambdaric writes about an error that leaves the handler is the runtime's own, with or
# without the package, and quotes the error's message.
RUNTIMES_OWN = ("[ERROR]", "Traceback")


@pytest.mark.parametrize("handler", ["plain", "falls_back"])
@pytest.mark.parametrize("last_resort", ["report", "restart"])
def test_no_line_of_ours_has_anything_of_the_event(handler: str, last_resort: str) -> None:
    """Errors of hooks and fallbacks, stacks, locals, records, dumps: the canary is in none."""
    environment = {"WATCHDOG_LAMBDA_LAST_RESORT": last_resort}
    emulator = wrapped(
        f"leaky.{handler}",
        timeout=2,
        environment=environment,
        warm_up={"do": "ok", "secret": "none"},
    )
    with running(emulator):
        paths = ["sleep", "swallow", "make an error of it", "stuck", "hold the GIL"]
        for do in paths:
            emulator.invoke({"do": do, "secret": CANARY})
            emulator.invoke({"do": "ok", "secret": CANARY})

        lines = [line.text for line in emulator.lines]
        records = [line for line in lines if "watchdog.timeout" in line]
        assert len(records) == len(paths) - 1, "but for the one that held the GIL"
        assert any(line.startswith("Current thread") for line in lines)
        guilty = [line for line in lines if CANARY in line and not line.startswith(RUNTIMES_OWN)]
        assert guilty == []
