"""Tests of vendors' wrappers around the watchdog and inside of it: timeouts, flushing, signals."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import pytest

from tests.runtime.harness import Call, call, running

from .harness import ENTRYPOINT, TIMEOUT, Endpoint, endpoint, function
from .vendors import VENDORS, Order, Vendor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.emulator import Emulator

pytestmark = pytest.mark.wrappers

ORDERS = get_args(Order)[:2]
FIRES_AFTER = TIMEOUT * 0.75
BUSY = {"do": "sleep"}
RETRYING = {"do": "swallow"}


@dataclass(frozen=True)
class Told:
    """One invocation, and the data that its vendor had received by its end."""

    call: Call
    posts: str

    def to(self, vendor: Vendor) -> str:
        return vendor.flushed_by_lines(self.call.lines) if vendor.flushed_by_lines else self.posts


def invoke(emulator: Emulator, intake: Endpoint, event: dict[str, Any]) -> Told:
    since = len(intake.bodies)
    done = call(emulator, event)
    return Told(done, b"".join(intake.bodies[since:]).decode(errors="replace"))


def assert_timed_out(done: Call) -> None:
    """Check for a timeout in time, with the handler's own cleanup and one record."""
    answer = done.answer
    assert answer["errorType"] == "LambdaTimeout"
    assert f"before the {TIMEOUT}.0 s limit, in app.py:" in answer["errorMessage"]
    assert FIRES_AFTER - 0.1 < done.response.seconds < TIMEOUT
    assert sum(line.startswith("handler: finally") for line in done.lines) == 1
    [report] = done.reports
    assert report["outcome"] == "raised"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """Make a certificate for the loopback, and a server's context with it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to create a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_vendor_wrapper_keeps_timeout_in_time(
    vendor: Vendor, order: Order, tls: tuple[ssl.SSLContext, Path]
) -> None:
    """With each vendor's wrapper the timeout is answered in time, by a process that is kept.

    The vendor's data is sent, and its signals are not changed.
    """
    context, certificate = tls
    with endpoint(context if vendor.uses_tls else None) as intake:
        with running(vendor.function("alone", intake.port, certificate)) as alone:
            expected = invoke(alone, intake, {})
        with running(vendor.function(order, intake.port, certificate)) as emulator:
            normal = invoke(emulator, intake, {})
            timed_out = invoke(emulator, intake, BUSY)
            after = invoke(emulator, intake, {})
            retried = invoke(emulator, intake, RETRYING)
            last = invoke(emulator, intake, {})

            for told in (normal, timed_out, after, last):
                assert told.call.request_id in told.to(vendor), "the vendor's data was not flushed"
            # An Interrupt is no Exception: wrappers that flush only for those do it with the next
            # call.
            flushed = retried.to(vendor)
            if order == "watchdog around it" and not vendor.flushes_interrupts:
                assert retried.call.request_id not in flushed
                flushed = last.to(vendor)
            assert retried.call.request_id in flushed

            assert_timed_out(timed_out.call)
            assert_timed_out(retried.call)
            assert retried.call.lines.count("handler: swallowed LambdaTimeout") == 1

            for told, number in ((normal, 2), (after, 4), (last, 6)):
                answer = told.call.answer
                assert answer == {
                    **expected.call.answer,
                    "pid": normal.call.answer["pid"],
                    "call": number,
                    "timer": pytest.approx(expected.call.answer["timer"], abs=0.3),
                }


@pytest.mark.parametrize("module", ["awslambdaric", "watchdog_lambda"])
def test_sentry_wrapper_keeps_timeout_in_time(module: str) -> None:
    """Sentry patches the runtime, so it is always around the watchdog, however that is started."""
    handler = "sentry_app.handler"
    environment = {"WATCHDOG_LAMBDA_HANDLER": handler} if module == "awslambdaric" else {}
    with endpoint() as intake:
        environment["SENTRY_DSN"] = f"http://key@127.0.0.1:{intake.port}/1"
        started = ENTRYPOINT if module == "awslambdaric" else handler
        with running(function(started, environment, module=module, warm_up={})) as emulator:
            normal = invoke(emulator, intake, {})
            timed_out = invoke(emulator, intake, BUSY)
            after = invoke(emulator, intake, {})
            retried = invoke(emulator, intake, RETRYING)
            last = invoke(emulator, intake, {})

            for told in (timed_out, retried):
                assert_timed_out(told.call)
                assert told.call.request_id in told.posts
                # Sentry sends its own warning 1.5 s before the limit, and then the outcome.
                assert "ServerlessTimeoutWarning" in told.posts
                assert "LambdaTimeout" in told.posts
            for told in (normal, after, last):
                assert told.call.request_id in told.posts
                assert told.call.answer["pid"] == normal.call.answer["pid"]
            assert last.call.answer["call"] == 6
