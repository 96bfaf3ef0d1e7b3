"""With vendors' wrappers under a supervisor, crashes and hangs are answered.

The sandbox is kept and serves the next event.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.runtime.harness import call, running

from .harness import ENTRYPOINT, TIMEOUT, endpoint, function
from .test_tracers import ORDERS, invoke, tls
from .vendors import VENDORS, Order, Vendor

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.runtime.emulator import Emulator

__all__ = ["tls"]

pytestmark = pytest.mark.wrappers

SUPERVISE: Final = {"WATCHDOG_LAMBDA_LAST_RESORT": "supervise"}
REFUSED: Final = "LAST_RESORT=supervise is not available, so exit is used instead"


def assert_keeps_serving_after(emulator: Emulator, do: str, error: str) -> None:
    """Check that the caller gets a structured answer in time, and that the wrappers still work."""
    before: Any = call(emulator, {}).answer
    answered = call(emulator, {"do": do})
    after: Any = call(emulator, {}).answer

    assert answered.answer["errorType"] == error
    assert answered.response.seconds < TIMEOUT
    assert after["pid"] != before["pid"]
    assert after["call"] == 1
    same = ("alarm", "term")
    assert [after[name] for name in same] == [before[name] for name in same]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_vendor_wrapper_works_under_supervisor(
    vendor: Vendor, order: Order, tls: tuple[ssl.SSLContext, Path]
) -> None:
    """Each vendor's wrapper works under a supervisor, and the vendor hears of later invocations.

    A wrapper around ours that has started a thread is the exception: the log says that there is
    no supervisor.
    """
    context, certificate = tls
    vendor = replace(vendor, environment={**vendor.environment, **SUPERVISE})
    with (
        endpoint(context if vendor.uses_tls else None) as intake,
        running(vendor.function(order, intake.port, certificate)) as emulator,
    ):
        refused = [line.text for line in emulator.lines if REFUSED in line.text]
        if vendor.has_threads and order == "watchdog inside of it":
            assert len(refused) == 1
            assert "2 threads are already running" in refused[0]
            return
        assert refused == []
        for do, error in (("crash", "RuntimeCrash"), ("hold", "LambdaTimeout")):
            assert_keeps_serving_after(emulator, do, error)
            told = invoke(emulator, intake, {})
            assert told.call.request_id in told.to(vendor), "the vendor's data was not flushed"


@pytest.mark.parametrize("module", ["awslambdaric", "watchdog_lambda"])
def test_sentry_patches_each_restarted_process(module: str) -> None:
    """Sentry, which patches the runtime, does so in each new process."""
    handler = "sentry_app.handler"
    environment = {"WATCHDOG_LAMBDA_HANDLER": handler} if module == "awslambdaric" else {}
    with endpoint() as intake:
        environment |= {"SENTRY_DSN": f"http://key@127.0.0.1:{intake.port}/1", **SUPERVISE}
        started = ENTRYPOINT if module == "awslambdaric" else handler
        with running(function(started, environment, module=module, warm_up={})) as emulator:
            assert_keeps_serving_after(emulator, "crash", "RuntimeCrash")
            assert_keeps_serving_after(emulator, "hold", "LambdaTimeout")
            assert not any(REFUSED in line.text for line in emulator.lines)
