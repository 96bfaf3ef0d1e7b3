"""Each example shows under the real runtime what its documentation claims."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests import events

from .harness import WAYS, Call, Way, bare, call, running, wrapped

if TYPE_CHECKING:
    from tests.runtime.emulator import Emulator

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
TIMEOUT: Final = 2
FIRES_AFTER: Final = 1.5  # a quarter of the time before the hard deadline
MESSAGE: Final = re.compile(
    r"interrupted after 1\.[5-7] s, 0\.[3-5] s before the 2\.0 s limit, "
    r"in app\.py:\d+ \(load_page\)"
)


def logged(done: Call) -> list[dict[str, Any]]:
    """Return the decoded lines that the handler's own logger has written."""
    records = [json.loads(line) for line in done.lines if line.startswith("{")]
    return [record for record in records if record.get("event") != "watchdog.timeout"]


def messages(done: Call) -> list[str]:
    """Return the messages of these lines."""
    return [record["message"] for record in logged(done)]


def assert_answered_at(done: Call, seconds: float) -> None:
    """Check that the caller was answered at this instant, and not by a kill.

    There is a tolerance for a busy machine.
    """
    assert seconds - 0.05 < done.response.seconds < min(seconds + 0.25, TIMEOUT)


# ---- sigalrm_recipe ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_sigalrm_recipe(way: Way) -> None:
    """A handler that knows nothing of the package catches its timeout, cleans up and answers."""
    path = EXAMPLES / "sigalrm_recipe"
    assert "watchdog_lambda" not in (path / "app.py").read_text(encoding="utf-8")

    with running(
        wrapped("app.handler", way=way, cwd=path, timeout=TIMEOUT, warm_up={})
    ) as function:
        normal = call(function, {"sleep": 0.5})
        timed_out = call(function, {"sleep": 30})
        after = call(function, {})

        pid = normal.answer["pid"]
        assert normal.answer == {"statusCode": 200, "pages": 3, "call": 2, "pid": pid}
        assert messages(normal) == ["report begins", "finally: connection closed"]
        pages = timed_out.answer["pages"]
        assert pages in {6, 7}  # each takes 0.2 s
        assert timed_out.answer == {"statusCode": 504, "pages": pages, "call": 3, "pid": pid}
        assert_answered_at(timed_out, FIRES_AFTER + 0.1)
        assert after.answer == {"statusCode": 200, "pages": 0, "call": 4, "pid": pid}

        begins, warning, saved, ends = messages(timed_out)
        assert (begins, ends) == ("report begins", "finally: connection closed")
        reason, _, message = warning.partition(": ")
        assert reason == "out of time"
        assert MESSAGE.fullmatch(message)
        assert saved == f"saved {pages} pages"
        [report] = timed_out.reports
        assert report["outcome"] == "returned"
        assert re.fullmatch(r"app\.py:\d+ \(load_page\)", report["location"])
        # The line has the format of the handler's Logger.
        assert report["service"] == "reports"
        assert normal.reports == after.reports == []


def test_sigalrm_recipe_without_the_watchdog_is_killed() -> None:
    """Without the watchdog the handler is killed.

    Neither ``except`` nor ``finally`` runs, there is no answer, and the next call gets another
    process.
    """
    path = EXAMPLES / "sigalrm_recipe"
    with running(bare("app.handler", cwd=path, timeout=TIMEOUT, warm_up={})) as function:
        normal = call(function, {})
        killed = call(function, {"sleep": 30})
        after = call(function, {})

        assert killed.response.body == "Task timed out after 2.00 seconds"
        assert messages(killed) == ["report begins"]
        assert after.answer["call"] == 1
        assert after.answer["pid"] != normal.answer["pid"]


# ---- hooks_and_fallback ------------------------------------------------------------------------


@pytest.fixture(params=["decorator alone", *WAYS])
def orders(request: pytest.FixtureRequest) -> Emulator:
    """Run the example in each way that it can be started.

    Its decorator is enough, and it is watched only once.
    """
    path = EXAMPLES / "hooks_and_fallback"
    if request.param in WAYS:
        return wrapped("app.handler", way=request.param, cwd=path, timeout=TIMEOUT, warm_up={})
    return bare("app.handler", cwd=path, timeout=TIMEOUT, warm_up={})


def test_hooks_and_fallback(orders: Emulator) -> None:
    """At the timeout the lock is released, the telemetry sent, and the fallback returned."""
    with running(orders) as function:
        normal = call(function, {"orders": ["a", "b"]})
        noticed = call(function, {"orders": ["c", "d"], "price_seconds": 1.2})
        timed_out = call(function, {"orders": ["e"], "price_seconds": 30})
        after = call(function, {})

        assert normal.answer["statusCode"] == 200
        assert normal.answer["placed"] == ["a", "b"]
        assert messages(normal) == ["2 records flushed"]
        # The handler notices it itself with 0.8 s left, so there is no timeout.
        assert noticed.answer["statusCode"] == 206
        assert (noticed.answer["placed"], noticed.answer["left"]) == (["c"], ["d"])

        assert timed_out.answer["statusCode"] == 504
        body = json.loads(timed_out.answer["body"])
        assert body["request_id"] == timed_out.request_id
        assert_answered_at(timed_out, FIRES_AFTER)
        # One hook runs a second before the deadline; the others run in reverse order of
        # registration.
        late, released, flushed = messages(timed_out)
        assert re.fullmatch(r"running late, in app\.py:\d+ \(price\)", late)
        assert [released, flushed] == ["lock of e released", "0 records flushed"]
        assert logged(timed_out)[2]["is_timeout"] is True
        [report] = timed_out.reports
        assert report["outcome"] == "fallback"
        assert [(hook["name"], hook["outcome"]) for hook in report["hooks"]] == [
            ("app.warn", "ok"),
            ("app.release", "ok"),
            ("app.flush", "ok"),
        ]

        assert after.answer["pid"] == normal.answer["pid"]
        assert after.answer["tables"] == {
            "locks": [],
            "charged": ["a", "b", "c"],
            "shipped": ["a", "b", "c"],
        }
        assert normal.reports == noticed.reports == after.reports == []


def test_hooks_and_fallback_commit_is_shielded() -> None:
    """An order whose commit has begun is committed completely.

    The interrupt waits for the shield.
    """
    path = EXAMPLES / "hooks_and_fallback"
    with running(bare("app.handler", cwd=path, timeout=TIMEOUT, warm_up={})) as function:
        before = call(function, {})
        timed_out = call(function, {"orders": ["a", "b"], "commit_seconds": 1.7})
        after = call(function, {})

        assert timed_out.answer["statusCode"] == 504
        assert_answered_at(timed_out, 1.7)
        [report] = timed_out.reports
        assert [interrupt["outcome"] for interrupt in report["interrupts"]] == ["delivered"]
        assert after.answer["tables"] == {"locks": [], "charged": ["a"], "shipped": ["a"]}
        assert after.answer["pid"] == before.answer["pid"]


# ---- existing_signals --------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_existing_signals(way: Way) -> None:
    """The handler's timer ticks before, during and after a timeout.

    Its SIGTERM handler runs, too.
    """
    path = EXAMPLES / "existing_signals"
    assert "watchdog_lambda" not in (path / "app.py").read_text(encoding="utf-8")

    with running(
        wrapped("app.handler", way=way, cwd=path, timeout=TIMEOUT, warm_up={"work": 0})
    ) as function:
        normal = call(function, {})
        timed_out = call(function, {"work": 30})
        pid = normal.answer["pid"]
        # Another process sends it, as Lambda does.
        os.kill(pid, signal.SIGTERM)
        after = call(function, {})

        assert timed_out.answer["statusCode"] == 504
        assert_answered_at(timed_out, FIRES_AFTER + 0.2)
        # It ticks every 50 ms: for 1.5 s until the interrupt and for 0.2 s in the cleanup.
        assert timed_out.answer["beats"] == pytest.approx(34, abs=6)
        assert timed_out.answer["beats_in_cleanup"] == pytest.approx(4, abs=2)
        assert len(timed_out.reports) == 1
        for done in (normal, after):
            assert done.answer["statusCode"] == 200
            assert done.answer["beats"] == pytest.approx(4, abs=2)
            assert done.answer["signals_are_own"] is True
            assert done.answer["timer"] == pytest.approx(0.05)
            assert done.answer["pid"] == pid
        assert after.answer["requests_to_stop"] == normal.answer["requests_to_stop"] + 1


# ---- sqs_partial_batch -------------------------------------------------------------------------


def orders_of(*seconds: float) -> dict[str, Any]:
    """Return a batch of orders 0, 1 and so on, with the seconds that each takes."""
    return events.sqs(*(json.dumps({"id": n, "seconds": s}) for n, s in enumerate(seconds)))


def shipped(done: Call) -> list[int]:
    return [record["order"] for record in logged(done) if record["message"] == "shipped"]


@pytest.mark.parametrize("way", WAYS)
def test_sqs_partial_batch(way: Way) -> None:
    """SQS delivers again only what was not done, and every order is shipped exactly once."""
    path = EXAMPLES / "sqs_partial_batch"
    with running(
        wrapped("app.handler", way=way, cwd=path, timeout=TIMEOUT, warm_up=orders_of(0))
    ) as function:
        batch = orders_of(0.1, 0.1, 30, 0.1)
        timed_out = call(function, batch)
        failed = [item["itemIdentifier"] for item in timed_out.answer["batchItemFailures"]]
        # SQS would deliver it again in this way; the slow service has recovered.
        again = [record for record in batch["Records"] if record["messageId"] in failed]
        again[0]["body"] = json.dumps({"id": 2, "seconds": 0.1})
        after = call(function, {"Records": again})

        assert failed == ["message-2", "message-3"]
        assert_answered_at(timed_out, FIRES_AFTER)
        assert shipped(timed_out) == [0, 1]
        assert messages(timed_out)[-1] == "connection closed"
        [report] = timed_out.reports
        assert report["outcome"] == "returned"
        assert re.fullmatch(r"app\.py:\d+ \(ship\)", report["location"])
        assert after.answer == {"batchItemFailures": []}
        assert shipped(after) == [2, 3]


def test_sqs_partial_batch_without_the_watchdog_is_killed() -> None:
    """Under AWS's runtime alone the whole batch comes again, including orders that were shipped."""
    path = EXAMPLES / "sqs_partial_batch"
    with running(bare("app.handler", cwd=path, timeout=TIMEOUT, warm_up=orders_of(0))) as function:
        killed = call(function, orders_of(0.1, 0.1, 30, 0.1))

        assert killed.response.body == "Task timed out after 2.00 seconds"
        assert shipped(killed) == [0, 1]


# ---- resumable_job -----------------------------------------------------------------------------


def test_resumable_job(tmp_path: Path) -> None:
    """Each timeout saves the progress, and the next call continues from there until all is done."""
    job = {"job": "a", "steps": 5, "seconds": 0.6}
    settings = {"CHECKPOINTS": str(tmp_path)}
    path = EXAMPLES / "resumable_job"
    assert "watchdog_lambda" not in (path / "app.py").read_text(encoding="utf-8")

    with running(
        wrapped("app.handler", cwd=path, timeout=TIMEOUT, environment=settings)
    ) as function:
        function.invoke({"job": "warm-up", "steps": 0, "seconds": 0})
        answers = [call(function, job).answer for _ in range(3)]

    assert answers == [
        {"status": "CONTINUE", "began_with": 0, "done": 2},
        {"status": "CONTINUE", "began_with": 2, "done": 4},
        {"status": "SUCCEEDED", "began_with": 4, "done": 5},
    ]
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [0, 1, 4, 9, 16]


def test_resumable_job_without_the_watchdog_makes_no_progress(tmp_path: Path) -> None:
    """Without the watchdog the job is killed before it has saved anything, so it never advances."""
    job = {"job": "a", "steps": 5, "seconds": 0.6}
    path = EXAMPLES / "resumable_job"
    with running(
        bare("app.handler", cwd=path, timeout=TIMEOUT, environment={"CHECKPOINTS": str(tmp_path)})
    ) as function:
        function.invoke({"job": "warm-up", "steps": 0, "seconds": 0})
        assert "Task timed out" in function.invoke(job).body

    assert not (tmp_path / "a.json").exists()


# ---- async_fan_out -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_async_fan_out(way: Way) -> None:
    """At the timeout the handler answers with the calls that have finished.

    Its loop and client remain usable.
    """
    path = EXAMPLES / "async_fan_out"
    warm_up: dict[str, object] = {"services": {"stock": 0}}
    with running(
        wrapped("app.handler", way=way, cwd=path, timeout=TIMEOUT, warm_up=warm_up)
    ) as function:
        timed_out = call(function, {"services": {"stock": 0.1, "prices": 0.2, "reviews": 30}})
        after = call(function, {"services": {"stock": 0.1}})

    pid = after.answer["pid"]
    assert timed_out.answer == {
        "answers": {"stock": "STOCK", "prices": "PRICES"},
        "missing": ["reviews"],
        "connections": 1,
        "pid": pid,
    }
    assert "gave up on reviews" in timed_out.lines
    assert_answered_at(timed_out, FIRES_AFTER)
    assert after.answer == {"answers": {"stock": "STOCK"}, "missing": [], "connections": 1} | {
        "pid": pid
    }


# ---- telemetry_flush ---------------------------------------------------------------------------


QUICK: Final = {"id": "a", "seconds": 0.1}


def spans(done: Call) -> list[tuple[str, str, str | None]]:
    """Return the exported spans: name, status and order."""
    return [(s["span"], s["status"], s.get("order")) for s in logged(done) if "span" in s]


def shipped_metrics(done: Call) -> list[list[float]]:
    """Return the values of each metric line."""
    return [record["Shipped"] for record in logged(done) if "_aws" in record]


@pytest.mark.parametrize("way", WAYS)
def test_telemetry_flush(way: Way) -> None:
    """Each span and each metric is exported once, by invocations in time and interrupted ones."""
    path = EXAMPLES / "telemetry_flush"
    with running(
        wrapped("app.handler", way=way, cwd=path, timeout=TIMEOUT, warm_up={})
    ) as function:
        normal = call(function, {"orders": [QUICK]})
        timed_out = call(function, {"orders": [QUICK, {"id": "b", "seconds": 30}]})
        after = call(function, {"orders": [QUICK]})

    assert normal.answer == after.answer == {"statusCode": 200, "shipped": ["a"]}
    assert timed_out.answer == {"statusCode": 504, "shipped": ["a"]}
    assert_answered_at(timed_out, FIRES_AFTER)
    ended = [("ship", "UNSET", "a"), ("handler", "UNSET", None)]
    assert spans(normal) == spans(after) == ended
    assert spans(timed_out) == [
        ("ship", "UNSET", "a"),
        ("ship", "ERROR", "b"),
        ("handler", "ERROR", None),
    ]
    for done in (normal, timed_out, after):
        assert shipped_metrics(done) == [[1.0]]
    [report] = timed_out.reports
    # The late hook is meant for a handler that has not ended.
    assert [hook["name"] for hook in report["hooks"]] == ["app.flush_spans"]


def test_telemetry_flush_when_stuck() -> None:
    """A stuck handler is killed, but its telemetry is exported, because both hooks have run."""
    path = EXAMPLES / "telemetry_flush"
    with running(wrapped("app.handler", cwd=path, timeout=TIMEOUT, warm_up={})) as function:
        stuck = call(function, {"orders": [QUICK, {"id": "b", "seconds": 30, "in_c": True}]})

    assert "Task timed out" in stuck.response.body
    assert spans(stuck) == [("ship", "UNSET", "a")]
    assert shipped_metrics(stuck) == [[1.0]]
    [report] = stuck.reports
    assert report["outcome"] == "stuck"
    assert [(hook["name"], hook["outcome"]) for hook in report["hooks"]] == [
        ("app.flush_spans", "ok"),
        ("app.flush_metrics", "ok"),
    ]


def test_telemetry_flush_without_the_watchdog_loses_data() -> None:
    """Under AWS's runtime alone a timeout loses the contents of the buffers."""
    path = EXAMPLES / "telemetry_flush"
    with running(bare("app.handler", cwd=path, timeout=TIMEOUT, warm_up={})) as function:
        killed = call(function, {"orders": [QUICK, {"id": "b", "seconds": 30}]})

    assert "Task timed out" in killed.response.body
    assert spans(killed) == []
    assert shipped_metrics(killed) == []
