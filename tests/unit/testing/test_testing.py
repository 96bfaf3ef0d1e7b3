"""Tests of ``watchdog_lambda.testing``, which moves time and uses production's watchdog."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from awslambdaric.lambda_context import LambdaContext

from tests.support import BOUND, Context, landed_outside
from watchdog_lambda import (
    Interrupt,
    LambdaTimeout,
    TimeoutDetails,
    Watchdog,
    remaining_time,
    scoped_hook,
    shield,
    shutdown_hook,
    testing,
    watch,
)
from watchdog_lambda._engine.current import active, under_way
from watchdog_lambda._engine.invocation import Firing
from watchdog_lambda._engine.press import Press
from watchdog_lambda._hooks import shared as shared_hooks
from watchdog_lambda._hooks import staged
from watchdog_lambda._process import process_watchdog
from watchdog_lambda._report import listeners
from watchdog_lambda.testing import (
    ClockError,
    FakeContext,
    async_expire,
    clock,
    expire,
    isolated_hooks,
    moves,
    timeout_records,
)
from watchdog_lambda.testing import time_travel as passage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRED = "interrupted after 27.0 s, 3.0 s before the 30.0 s limit, in "
NEAR = 0.4
"""The number of seconds that a busy machine may take between two lines of a test."""


@pytest.fixture
def timeouts() -> Iterator[list[dict[str, Any]]]:
    with timeout_records() as records:
        yield records


@pytest.fixture(autouse=True)
def isolate_hooks_and_forbid_sleep() -> Iterator[None]:
    """Remove the stages of a test's own watchdogs. Check that no test waits for time to pass."""
    began = time.monotonic()
    with isolated_hooks():
        yield
    assert time.monotonic() - began < 2.4


def near(seconds: float) -> Any:
    return pytest.approx(seconds, abs=NEAR)


# ---- the context -------------------------------------------------------------------------------


def test_context_has_every_attribute_of_the_real_one() -> None:
    """The context has every public attribute and method of awslambdaric's.

    Their values have the same types.
    """
    real = LambdaContext("1", None, {"cognitoIdentityId": "a"}, 0, "arn", None)
    fake = FakeContext()

    public = {name for name in dir(real) if not name.startswith("_")}
    assert public <= set(dir(fake))
    for name in public:
        assert callable(getattr(real, name)) == callable(getattr(fake, name)), name
    assert isinstance(fake.get_remaining_time_in_millis(), int)
    assert fake.w3c() == real.w3c()
    assert fake.identity.cognito_identity_id is None
    assert fake.invoked_function_arn.endswith(":function:test-function")
    assert FakeContext(function_name="orders").log_group_name == "/aws/lambda/orders"


def test_context_logs_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """The context's log goes to standard output.

    The real one does the same without a runtime that listens.
    """
    FakeContext().log({"a": 1})

    assert capsys.readouterr().out == "{'a': 1}"


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan, math.inf, 86_401, "3", None])
def test_context_with_invalid_timeout_is_refused(timeout: Any) -> None:
    """A context with a timeout that no function has is refused.

    The message names the value and a valid one.
    """
    with pytest.raises(ValueError, match=r"timeout=.*use for example 30\.0"):
        FakeContext(timeout)


def test_every_invocation_has_the_whole_timeout() -> None:
    """Every invocation has the whole timeout.

    What the last one has used and the context's age do not matter.
    """
    context = FakeContext(10.0)
    limits: list[float] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        limits.append(remaining_time())
        clock.advance(5.0)

    handler({}, context)
    assert context.get_remaining_time_in_millis() / 1000 == near(5.0)
    clock.advance(2.0)
    handler({}, context)

    assert limits == [near(10.0), near(10.0)]
    assert context.get_remaining_time_in_millis() / 1000 == near(5.0)


def test_timeout_setting_replaces_the_context_timeout() -> None:
    """TIMEOUT in the settings replaces the context's timeout, and both tell the same time."""

    @watch(timeout=10.0)
    def handler(_event: object, context: FakeContext) -> tuple[float, float]:
        clock.advance(2.0)
        return remaining_time(), context.get_remaining_time_in_millis() / 1000

    assert handler({}, FakeContext(30.0)) == (near(8.0), near(8.0))


def test_context_and_remaining_time_always_agree() -> None:
    """The context and remaining_time() agree in the handler, in its threads and in hooks.

    They agree before and after time has moved.
    """
    context = FakeContext()
    pairs: list[tuple[float, float]] = []

    def compare(_details: object = None) -> None:
        before = remaining_time()
        told = context.get_remaining_time_in_millis() / 1000
        pairs.append((before, told))
        assert before >= told >= remaining_time() - 0.001

    def handler(_event: object, context: FakeContext) -> None:
        compare()
        clock.advance(12.0)
        compare()
        with ThreadPoolExecutor() as pool:
            pool.submit(compare).result()
        try:
            expire()
        except TimeoutError:
            compare()
            clock.advance(1.5)
            compare()

    watchdog = Watchdog()
    watchdog.shutdown_hook(compare)
    watchdog.watch(handler)({}, context)

    assert [told for _, told in pairs] == [
        near(seconds) for seconds in (30.0, 18.0, 18.0, 3.0, 3.0, 1.5)
    ]


def test_unwatched_handler_sees_time_pass() -> None:
    """In a handler that is not watched clock.advance() moves the time of its context."""

    def handler(context: FakeContext) -> int:
        chunks = 0
        while context.get_remaining_time_in_millis() > 10_000:
            clock.advance(7.0)
            chunks += 1
        return chunks

    assert handler(FakeContext()) == 3
    assert handler(FakeContext()) == 3  # this context is new, so none of its time has passed


def test_context_without_the_fake_clock_can_be_used() -> None:
    """A context without the watchdog's clock can be used.

    Time is the invocation's, whatever context has given the limit.
    """
    with pytest.raises(LambdaTimeout, match=FIRED):
        watch(lambda _e, _c: expire())({}, Context(30.0))


# ---- expire ------------------------------------------------------------------------------------


def load_rows(_table: str) -> list[str]:
    """A function that the tests replace."""
    raise AssertionError("not replaced")


def test_expire_lands_in_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """expire() lands in its caller, with message and details of a handler that has run for 27 s."""
    monkeypatch.setattr(sys.modules[__name__], "load_rows", expire)

    with pytest.raises(LambdaTimeout) as caught:
        watch(lambda _e, _c: load_rows("orders"))({}, FakeContext())

    assert str(caught.value).startswith(FIRED)
    assert str(caught.value).endswith("(<lambda>)")
    details = caught.value.details
    assert details is not None
    assert details.elapsed == near(27.0)
    assert details.remaining() == near(3.0)
    assert details.deadline - time.monotonic() == near(3.0)
    assert details.request_id == FakeContext().aws_request_id


def test_location_is_the_handlers_own_line() -> None:
    """The location is the handler's own line, and not one of a mock's or of this package."""
    load = Mock(side_effect=expire)

    def handler(_event: object, _context: object) -> None:
        load("orders", limit=5)

    with pytest.raises(LambdaTimeout) as caught:
        watch(handler)({}, FakeContext())

    line = inspect.getsourcelines(handler)[1] + 1
    assert str(caught.value) == f"{FIRED}tests/unit/testing/test_testing.py:{line} (handler)"
    load.assert_called_once_with("orders", limit=5)


@pytest.mark.parametrize(
    ("timeout", "grace_period", "text"),
    [
        (3.0, 3.0, "interrupted after 2.2 s, 0.8 s before the 3.0 s limit"),
        (900.0, 20.0, "interrupted after 880.0 s, 20.0 s before the 900.0 s limit"),
        (1.0, 0.2, "interrupted after 0.8 s, 0.2 s before the 1.0 s limit"),
    ],
)
def test_expire_uses_timeout_and_grace_period(
    timeout: float, grace_period: float, text: str
) -> None:
    """expire() uses the timeout and the grace period that are set, whatever they are."""
    with pytest.raises(LambdaTimeout) as caught:
        watch(grace_period=grace_period)(lambda _e, _c: expire())({}, FakeContext(timeout))

    # These are 2.25 and 0.75, a microsecond later, so both ways of rounding give the same.
    assert str(caught.value).partition(", in ")[0] in {
        text,
        "interrupted after 2.3 s, 0.7 s before the 3.0 s limit",
    }


def test_hooks_have_run_when_the_interrupt_lands() -> None:
    """Hooks have run when the interrupt lands, with the remaining time of that instant.

    A hook's own running time does not move the clock.
    """
    told: list[float] = []
    pause = threading.Event()
    watchdog = Watchdog()

    @watchdog.shutdown_hook
    def slow(details: TimeoutDetails) -> None:
        told.append(details.remaining())
        pause.wait(0.3)

    with pytest.raises(LambdaTimeout, match=FIRED) as caught:
        watchdog.watch(lambda _e, _c: expire())({}, FakeContext())

    assert told == [near(3.0)]
    details = caught.value.details
    assert details is not None
    assert details.remaining() == near(3.0)


def test_fallback_value_is_the_answer(timeouts: list[dict[str, Any]]) -> None:
    """The fallback's value is the answer, and a callable gets the details."""
    handler = watch(fallback=lambda details: round(details.remaining(), 1))(lambda _e, _c: expire())

    assert handler({}, FakeContext()) == 3.0
    assert [record["outcome"] for record in timeouts] == ["fallback"]


def test_handler_value_is_the_answer() -> None:
    """The handler's value is the answer, with unchanged code for the SIGALRM recipe."""

    @watch
    def handler(_event: object, _context: object) -> dict[str, int]:
        try:
            expire()
        except TimeoutError:
            return {"statusCode": 504}
        return {"statusCode": 200}

    assert handler({}, FakeContext()) == {"statusCode": 504}


def test_swallowed_interrupt_is_followed_by_the_next(timeouts: list[dict[str, Any]]) -> None:
    """A handler that swallows the first interrupt gets the next one in its next call.

    A batch takes the first one for a bad record, and no ``except Exception`` catches the next.
    """
    done: list[int] = []
    failed: list[int] = []

    @watch
    def handler(event: list[int], _context: object) -> None:
        for record in event:
            try:
                expire(record)
                done.append(record)
            except Exception:
                failed.append(record)

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler([1, 2, 3], FakeContext())

    assert (done, failed) == ([], [1])
    assert [(i["exception"], i["outcome"]) for i in timeouts[0]["interrupts"]] == [
        ("LambdaTimeout", "swallowed"),
        ("Interrupt", "delivered"),
    ]


def test_powertools_batch_can_be_tested() -> None:
    """A Powertools batch can be tested.

    The processor takes a TimeoutError for a bad record and goes on, so another interrupt lands.
    """
    from aws_lambda_powertools.utilities.batch import (  # noqa: PLC0415
        BatchProcessor,
        EventType,
        process_partial_response,
    )

    begun: list[str] = []
    processor = BatchProcessor(event_type=EventType.SQS)

    def work(record: Any) -> None:
        begun.append(record.message_id)
        if record.message_id != "a":
            expire()

    @watch
    def handler(event: dict[str, Any], _context: object) -> Any:
        return process_partial_response(event, work, processor)

    records = [{"messageId": name, "body": "", "eventSource": "aws:sqs"} for name in "abcd"]
    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({"Records": records}, FakeContext())

    assert begun == ["a", "b"]


def test_blocking_cleanup_is_interrupted_at_last_call(timeouts: list[dict[str, Any]]) -> None:
    """A cleanup that blocks is interrupted at last call, and not before.

    The time until then passes at once.
    """
    left: list[float] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        try:
            expire()
        finally:
            try:
                expire()
            finally:
                left.append(remaining_time())

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert left == [near(0.5)]
    assert [i["after_ms"] for i in timeouts[0]["interrupts"]] == [27_000, 29_500]


def test_blocking_wind_up_is_interrupted_at_last_call() -> None:
    """The code after a handler's own ``except TimeoutError`` is interrupted at last call.

    It is not interrupted before.
    """
    left: list[float] = []

    @watch
    def handler(_event: object, _context: object) -> str:
        try:
            expire()
        except TimeoutError:
            pass
        try:
            expire()
        except Interrupt:
            left.append(remaining_time())
            raise
        return "unreachable"

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert left == [near(0.5)]


def test_endless_cleanup_is_killed(timeouts: list[dict[str, Any]]) -> None:
    """A cleanup that never ends is killed.

    The test gets an error whatever the handler catches, and the record says stuck.
    """

    @watch
    def handler(_event: object, _context: object) -> str:
        for _ in range(3):
            try:
                expire()
            except BaseException:
                try:
                    expire()
                except Exception:
                    return "caught"
                finally:
                    expire()
        return "unreachable"

    with pytest.raises(ClockError, match="Lambda would kill the process here"):
        handler({}, FakeContext())

    assert [(r["outcome"], r["remaining_ms"]) for r in timeouts] == [
        ("stuck", pytest.approx(250, abs=NEAR * 1000))
    ]


def test_expire_in_shield_returns_and_lands_at_its_end() -> None:
    """expire() returns in a shield, and the interrupt lands at the shield's end.

    The shielded code runs to its end, and the hooks run meanwhile.
    """
    order: list[str] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(lambda _details: order.append("hook"))

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        with shield():
            expire()
            order.append("committed")
        order.append("unreachable")

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert order == ["hook", "committed"]


def test_shield_holds_only_until_last_call() -> None:
    """A shield holds until last call at most, and time that passes in it counts."""
    left: list[float] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        with shield():
            expire()
            left.append(remaining_time())
            clock.advance(2.0)
            left.append(remaining_time())
            clock.advance(2.0)
            left.append(-1.0)

    with pytest.raises(LambdaTimeout, match=r"after 29\.5 s, 0\.5 s before"):
        handler({}, FakeContext())

    assert left == [near(3.0), near(1.0)]


def test_expire_with_interrupt_none_returns_after_hooks() -> None:
    """With INTERRUPT=none expire() returns when the hooks have run, each time it is called."""
    ran: list[str] = []
    watchdog = Watchdog(interrupt="none")
    watchdog.shutdown_hook(lambda _details: ran.append("hook"))

    @watchdog.watch
    def handler(_event: object, _context: object) -> float:
        expire()
        assert ran == ["hook"]
        expire()
        return remaining_time()

    assert handler({}, FakeContext()) == near(3.0)


def test_expire_with_interrupt_base_lands_interrupt() -> None:
    """With INTERRUPT=base the interrupt that lands first passes ``except Exception``."""

    @watch(interrupt="base")
    def handler(_event: object, _context: object) -> str:
        try:
            expire()
        except Exception:
            return "swallowed"
        return "unreachable"

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())


def test_expire_in_a_child_thread_interrupts_the_handler() -> None:
    """expire() in a thread of the handler's interrupts the handler's own thread.

    It returns after that.
    """
    seen: list[str] = []
    waits = threading.Event()

    def work() -> None:
        assert waits.wait(BOUND)
        expire()
        assert has_landed()
        seen.append("returned")

    @watch
    def handler(_event: object, _context: object) -> None:
        with ThreadPoolExecutor() as pool:
            future = pool.submit(work)
            try:
                waits.set()
                future.result()
            finally:
                seen.append("landed")

    with pytest.raises(LambdaTimeout, match="interrupted after 27"):
        handler({}, FakeContext())

    assert sorted(seen) == ["landed", "returned"]


def has_landed() -> bool:
    """Return whether the first interrupt of the one open invocation has landed."""
    [(_, invocation)] = under_way()
    assert invocation.firing is not None
    return invocation.firing.policy.records[0].landed_at is not None


def in_thread(call: Callable[[], object]) -> Any:
    """Return the result of `call` on a thread that is not the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(BOUND * 2)


def test_expire_off_the_main_thread_injects() -> None:
    """Off the main thread expire() injects the interrupt.

    The message and the ladder are the same.
    """

    @watch
    def handler(event: object, _context: object) -> None:
        try:
            expire()
        finally:
            if event == "twice":
                expire()

    for event in ("once", "twice"):
        with pytest.raises(LambdaTimeout, match=FIRED):
            in_thread(lambda event=event: handler(event, FakeContext()))  # type: ignore[misc]


def test_each_thread_has_its_own_time() -> None:
    """With two invocations at once only that of the calling thread is moved."""
    moved, looked = threading.Event(), threading.Event()

    @watch
    def first(_event: object, _context: object) -> float:
        clock.advance(20.0)
        moved.set()
        assert looked.wait(BOUND)
        return remaining_time()

    @watch
    def second(_event: object, _context: object) -> float:
        assert moved.wait(BOUND)
        try:
            with pytest.raises(ClockError, match="2 invocations are under way"):
                in_thread(expire)
            return remaining_time()
        finally:
            looked.set()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(h, {}, FakeContext()) for h in (first, second)]
        assert [future.result(BOUND * 2) for future in futures] == [near(10.0), near(30.0)]


def test_expire_works_under_a_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    """expire() works under a tracer, such as a coverage tool or a debugger."""
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        with pytest.raises(LambdaTimeout, match=FIRED):
            watch(lambda _e, _c: expire())({}, FakeContext())
    finally:
        sys.settrace(before)


def test_expire_in_a_hook_returns() -> None:
    """expire() in a hook does not wait for the hook's own stage. The interrupt goes ahead."""
    returned = threading.Event()
    watchdog = Watchdog()

    @watchdog.shutdown_hook(before=10.0)
    def early(_details: TimeoutDetails) -> None:
        expire()
        returned.set()

    with pytest.raises(LambdaTimeout, match=r"interrupted after 27\.. s"):
        watchdog.watch(lambda _e, _c: clock.advance(25.0))({}, FakeContext())

    assert returned.wait(BOUND)


# ---- async -------------------------------------------------------------------------------------


def test_async_expire_cancels_the_task() -> None:
    """An async expire() cancels the task.

    In production the interrupt lands while the loop waits, as here.
    """

    @watch
    async def handler(_event: object, _context: object) -> str:
        try:
            await async_expire()
        except asyncio.CancelledError:
            return f"{remaining_time():.0f} s left"
        return "unreachable"

    assert handler({}, FakeContext()) == "3 s left"


def test_async_expire_leaves_the_handler_as_timeout(timeouts: list[dict[str, Any]]) -> None:
    """A cancellation that is not caught leaves the handler as the timeout.

    The hooks have run by then.
    """
    ran: list[str] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(lambda _details: ran.append("grace"))
    watchdog.shutdown_hook(before=5.0)(lambda _details: ran.append("early"))

    @watchdog.watch
    async def handler(_event: object, _context: object) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(async_expire())

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert ran == ["early", "grace"]
    assert [i["after_ms"] for i in timeouts[0]["interrupts"]] == [27_000]


def test_async_expire_in_cleanup_is_cancelled_at_last_call(timeouts: list[dict[str, Any]]) -> None:
    """An async cleanup that waits endlessly is cancelled again at last call."""
    left: list[float] = []

    @watch
    async def handler(_event: object, _context: object) -> None:
        try:
            await async_expire()
        finally:
            try:
                await async_expire()
            except asyncio.CancelledError:
                left.append(remaining_time())
                raise

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert left == [near(0.5)]
    assert [i["after_ms"] for i in timeouts[0]["interrupts"]] == [27_000, 29_500]


def test_endless_async_cleanup_does_not_delay_the_answer() -> None:
    """An async cleanup that waits a third time delays no answer.

    After last call nothing waits for it, and it never runs again.
    """
    ends: list[str] = []

    @watch
    async def handler(_event: object, _context: object) -> None:
        try:
            await async_expire()
        finally:
            try:
                await async_expire()
            finally:
                try:
                    await async_expire()
                finally:
                    ends.append("ran")

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert ends == []


def test_async_expire_with_interrupt_none_returns() -> None:
    """With INTERRUPT=none an async expire() returns when the hooks have run.

    The loop is blocked no longer than they take.
    """
    ran: list[str] = []
    watchdog = Watchdog(interrupt="none")
    watchdog.shutdown_hook(lambda _details: ran.append("hook"))

    @watchdog.watch
    async def handler(_event: object, _context: object) -> float:
        await async_expire()
        assert ran == ["hook"]
        return remaining_time()

    assert handler({}, FakeContext()) == near(3.0)


def test_async_expire_behind_a_shield_returns() -> None:
    """An async expire() behind a shield returns, and the interrupt lands at the shield's end."""
    order: list[str] = []

    @watch
    async def handler(_event: object, _context: object) -> None:
        with shield():
            await async_expire()
            order.append("committed")
        order.append("unreachable")

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert order == ["committed"]


def test_async_expire_off_the_main_thread_lands() -> None:
    """Off the main thread an async expire() lands the interrupt.

    Nothing wakes a loop there, so expire() does not wait for long.
    """

    @watch
    async def handler(_event: object, _context: object) -> None:
        await async_expire()

    with pytest.raises(LambdaTimeout, match=FIRED):
        in_thread(lambda: handler({}, FakeContext()))


def test_expire_in_a_coroutine_lands_in_the_task() -> None:
    """expire() in a coroutine blocks the loop, so the interrupt lands in the task itself."""

    @watch
    async def handler(_event: object, _context: object) -> str:
        try:
            expire()
        except TimeoutError:
            return "answered"
        return "unreachable"

    assert handler({}, FakeContext()) == "answered"


# ---- the clock ---------------------------------------------------------------------------------


def test_advance_reduces_the_remaining_time() -> None:
    """clock.advance() moves the remaining time that a handler sees."""

    @watch
    def handler(event: list[int], _context: object) -> list[int]:
        done = []
        for item in event:
            if remaining_time() < 10.0:
                break
            clock.advance(6.0)
            done.append(item)
        return done

    assert handler([1, 2, 3, 4, 5, 6], FakeContext()) == [1, 2, 3, 4]


def test_advance_stops_at_every_stage() -> None:
    """clock.advance() stops at every stage.

    The hooks of each run at its own instant, and the interrupt lands at its own.
    """
    told: list[tuple[str, float]] = []
    watchdog = Watchdog()

    def tell(name: str) -> Callable[[TimeoutDetails], None]:
        return lambda details: told.append((name, details.remaining()))

    watchdog.shutdown_hook(before=10.0)(tell("ten"))
    watchdog.shutdown_hook(before=20.0)(tell("twenty"))
    watchdog.shutdown_hook(before=1.0)(tell("one"))
    watchdog.shutdown_hook(tell("grace"))

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        try:
            clock.advance(1000.0)
        except TimeoutError:
            told.append(("landed", remaining_time()))
            clock.advance(1000.0)

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert told == [
        ("twenty", near(20.0)),
        ("ten", near(10.0)),
        ("grace", near(3.0)),
        ("landed", near(3.0)),
        ("one", near(1.0)),
    ]


def test_handler_ending_after_an_early_stage_has_not_timed_out(
    timeouts: list[dict[str, Any]],
) -> None:
    """A handler that ends after an early stage has not timed out.

    The stage's hooks have run, and there is no record.
    """
    ran: list[str] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(before=10.0)(lambda _details: ran.append("early"))

    @watchdog.watch
    def handler(_event: object, _context: object) -> str:
        clock.advance(25.0)
        return "done"

    assert handler({}, FakeContext()) == "done"
    assert (ran, timeouts) == (["early"], [])


def test_advance_in_cleanup_lands_at_last_call() -> None:
    """A cleanup sees time pass until last call, and is interrupted then."""
    left: list[float] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        try:
            expire()
        except TimeoutError:
            clock.advance(2.0)
            left.append(remaining_time())
            try:
                clock.advance(2.0)
            finally:
                left.append(remaining_time())

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert left == [near(1.0), near(0.5)]


def test_advance_beyond_the_budget_in_hook_lets_interrupt_go_ahead(
    timeouts: list[dict[str, Any]],
) -> None:
    """clock.advance() in a hook moves time at once.

    If it exceeds the budget, the interrupt goes ahead.
    """
    answered = threading.Event()
    watchdog = Watchdog()

    @watchdog.shutdown_hook
    def hang(_details: TimeoutDetails) -> None:
        clock.advance(1.5)
        answered.wait(BOUND)

    @watchdog.watch
    def handler(_event: object, _context: object) -> float:
        try:
            expire()
        except TimeoutError:
            return remaining_time()
        return math.inf

    left = handler({}, FakeContext())
    answered.set()

    assert left == near(1.5)
    assert [hook["outcome"] for hook in timeouts[0]["hooks"]] == ["timed-out"]


def test_advance_within_the_budget_in_hook_is_waited_for(timeouts: list[dict[str, Any]]) -> None:
    """A hook that stays within its budget is waited for.

    Its time has passed when the interrupt lands.
    """
    watchdog = Watchdog()
    watchdog.shutdown_hook(lambda _details: clock.advance(0.5))

    with pytest.raises(LambdaTimeout, match=r"after 27\.5 s, 2\.5 s before the 30\.0 s limit"):
        watchdog.watch(lambda _e, _c: expire())({}, FakeContext())

    assert [hook["outcome"] for hook in timeouts[0]["hooks"]] == ["ok"]


def test_hanging_hook_is_given_up_after_its_budget(timeouts: list[dict[str, Any]]) -> None:
    """A hook that hangs is given up after its budget in real time.

    The interrupt lands then, on the clock as well.
    """
    answered = threading.Event()
    watchdog = Watchdog(hook_budget=0.2)
    watchdog.shutdown_hook(lambda _details: answered.wait(BOUND))
    handler = watchdog.watch(lambda _e, _c: expire())

    with pytest.raises(LambdaTimeout, match=r"after 27\.2 s, 2\.8 s before the 30\.0 s limit"):
        handler({}, FakeContext())
    answered.set()

    assert [hook["outcome"] for hook in timeouts[0]["hooks"]] == ["timed-out"]


def test_advance_in_a_child_thread_runs_the_stages() -> None:
    """clock.advance() in a thread of the handler's runs the stages.

    At the grace period the handler is interrupted, and the clock stops.
    """
    ran: list[str] = []
    watchdog = Watchdog()
    watchdog.shutdown_hook(before=10.0)(lambda _details: ran.append("early"))
    left: list[float] = []
    waits = threading.Event()

    def work() -> None:
        assert waits.wait(BOUND)
        clock.advance(28.5)
        ran.append(f"landed: {has_landed()}")

    @watchdog.watch
    def handler(_event: object, _context: object) -> None:
        with ThreadPoolExecutor() as pool:
            future = pool.submit(work)
            try:
                waits.set()
                future.result()
            finally:
                left.append(remaining_time())

    with pytest.raises(LambdaTimeout, match="interrupted after 27"):
        handler({}, FakeContext())

    assert ran == ["early", "landed: True"]
    assert left == [near(3.0)]


def test_hook_registered_meanwhile_runs() -> None:
    """A hook that is registered meanwhile is seen, for the block and for its stage."""
    released: list[str] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        clock.advance(5.0)
        shutdown_hook(before=9.0)(lambda _details: released.append("nine"))
        with scoped_hook(released.append, "lock"):
            clock.advance(25.0)

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert released == ["nine", "lock"]


def test_nested_watched_handlers_use_inner_settings() -> None:
    """A watched handler that calls another one is one invocation, with the inner one's settings."""

    @watch(grace_period=1.0)
    def inner(_event: object, _context: object) -> None:
        expire()

    with pytest.raises(LambdaTimeout, match=r"after 29\.0 s, 1\.0 s before the 30\.0 s limit"):
        watch(inner)({}, FakeContext())


def test_nothing_lands_after_the_invocation() -> None:
    """Nothing lands after the invocation, in the test or in the next invocation.

    The next one has all its time.
    """
    with pytest.raises(LambdaTimeout):
        watch(lambda _e, _c: expire())({}, FakeContext())

    assert landed_outside() == []
    assert watch(lambda _e, _c: landed_outside())({}, FakeContext()) == []
    assert remaining_time() == math.inf


def test_invocation_stores_few_instants() -> None:
    """An invocation stores few instants, and all others as seconds since its start.

    So time is moved by a few assignments.
    """
    held: list[Firing | None] = []

    def look(_event: object, _context: object) -> None:
        with shield():
            expire()
            held.append(active[threading.get_ident()].firing)

    watchdog = Watchdog()
    watchdog.shutdown_hook(lambda _details: None)
    with pytest.raises(LambdaTimeout):
        watchdog.watch(look)({}, FakeContext())
    [firing] = held
    assert firing is not None
    parts: list[Any] = [firing, firing.invocation, firing.timeline, firing.policy, firing.stopwatch]
    parts += [*firing.policy.records, firing.details, *firing.stages]
    parts += [record for stage in firing.stages for record in stage.records]
    began = firing.invocation.start
    assert began > 60.0, "instants cannot be distinguished from spans"

    instants = {
        (type(part).__name__, name)
        for part in parts
        for kind in type(part).__mro__
        for name in getattr(kind, "__slots__", ())
        if isinstance(number := getattr(part, name, None), float) and abs(number - began) < 60.0
    }

    assert instants == {
        ("Invocation", "start"),
        ("Invocation", "due"),
        ("Stopwatch", "start"),
        ("TimeoutDetails", "deadline"),
    }


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, "5"])
def test_advance_refuses_invalid_time(seconds: Any) -> None:
    """clock.advance() refuses an invalid time. The message names the value and a valid one."""
    with pytest.raises(ClockError, match=r"use for example 5\.0"):
        clock.advance(seconds)


# ---- where it cannot be ------------------------------------------------------------------------


def test_expire_outside_of_an_invocation_raises() -> None:
    """expire() outside of an invocation raises an error that says what may be missing."""

    def handler(_event: object, _context: object) -> None:
        expire()

    with pytest.raises(ClockError, match=r"watch\(app\.handler\)\(event, FakeContext\(\)\)"):
        handler({}, FakeContext())


def test_expire_in_a_disabled_handler_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """expire() in a handler that the environment has disabled raises an error that says so."""
    monkeypatch.setenv("WATCHDOG_LAMBDA_DISABLED", "1")

    with pytest.raises(ClockError, match="WATCHDOG_LAMBDA_DISABLED"):
        watch(lambda _e, _c: expire())({}, FakeContext())


def test_expire_error_reaches_the_test_despite_except() -> None:
    """An error of expire() reaches the test whatever the handler catches.

    An ``except Exception`` does not hide it, and the handler's value is no answer.
    """

    def handler(_event: object, _context: object) -> str:
        try:
            expire()
        except Exception:
            return "caught"
        return "unreachable"

    with pytest.raises(ClockError):
        handler({}, FakeContext())


def test_expire_raises_if_nothing_can_land(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no interrupt can land, expire() raises with the reason that the record would have."""
    monkeypatch.setattr(passage, "BOUND", 0.2)
    monkeypatch.setattr(Press, "step", lambda self, now: now + 0.01)

    with pytest.raises(ClockError, match="the interrupt has not landed: C code held the GIL"):
        watch(lambda _e, _c: expire())({}, FakeContext())


def test_expire_raises_if_the_watchdog_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the watchdog does not run, because no thread can be started, expire() raises."""
    monkeypatch.setattr(moves, "BOUND", 0.05)

    class Lost(list[Any]):
        def append(self, _errand: object) -> None:
            """Drop the errand, so that it is never called."""

    monkeypatch.setattr(process_watchdog, "pending_calls", Lost())

    with pytest.raises(ClockError, match="the watchdog thread is not running"):
        watch(lambda _e, _c: expire())({}, FakeContext())


def test_async_expire_raises_if_nothing_can_land(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no interrupt can land in a coroutine, expire() raises.

    Otherwise the task would wait endlessly.
    """
    monkeypatch.setattr(testing, "BOUND", 0.2)
    monkeypatch.setattr(Press, "step", lambda self, now: now + 0.01)

    @watch
    async def handler(_event: object, _context: object) -> None:
        await async_expire()

    with pytest.raises(ClockError, match="the interrupt has not landed: "):
        handler({}, FakeContext())


def test_error_between_looks_is_raised_in_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error between two looks is raised in the test, and the watchdog's thread survives it."""

    def fail(_invocation: object, _seconds: float) -> None:
        raise KeyError("no such instant")

    @watch
    def handler(_event: object, _context: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(passage, "move_back", fail)
            with pytest.raises(KeyError, match="no such instant"):
                clock.advance(1.0)
        expire()

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())


# ---- rarely seen -------------------------------------------------------------------------------


def test_clock_and_context_have_readable_reprs() -> None:
    """The reprs of the clock and the context are readable in a failed assertion."""
    assert repr(clock) == "<watchdog_lambda.testing.clock>"
    assert repr(FakeContext(5.0, function_name="f", aws_request_id="r")) == (
        "FakeContext(timeout=5.0, function_name='f', aws_request_id='r')"
    )


def test_context_of_another_invocation_keeps_its_own_time() -> None:
    """A context of another invocation keeps its own time.

    The current invocation has its own context.
    """
    other = FakeContext(7.0)

    @watch
    def handler(_event: object, _context: object) -> int:
        clock.advance(5.0)
        return other.get_remaining_time_in_millis()

    assert handler({}, FakeContext()) / 1000 == near(7.0)


def in_a_child_thread(call: Callable[[], object], times: int = 1) -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(times):
            pool.submit(call).result(BOUND)


def test_expire_in_a_child_thread_without_interrupt_returns() -> None:
    """In a thread of the handler's expire() returns each time if there is no interrupt.

    There is nothing to wait for.
    """

    @watch(interrupt="none")
    def handler(_event: object, _context: object) -> float:
        in_a_child_thread(expire, times=2)
        return remaining_time()

    assert handler({}, FakeContext()) == near(3.0)


def test_expire_in_a_child_thread_behind_a_shield_returns() -> None:
    """In a thread of the handler's expire() returns behind a shield.

    The interrupt lands at the shield's end, in the handler's own thread.
    """
    order: list[str] = []

    @watch
    def handler(_event: object, _context: object) -> None:
        with shield():
            in_a_child_thread(expire)
            order.append("committed")
        order.append("unreachable")

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert order == ["committed"]


def test_async_expire_behind_a_shield_returns_each_time() -> None:
    """Behind a shield an async expire() returns each time, and no more time passes.

    In production the handler goes on until the shield ends.
    """
    left: list[float] = []

    @watch
    async def handler(_event: object, _context: object) -> None:
        with shield():
            for _ in range(2):
                await async_expire()
                left.append(remaining_time())

    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, FakeContext())

    assert left == [near(3.0), near(3.0)]


def test_invocation_can_be_moved_after_its_escalation() -> None:
    """An invocation is moved even if the watchdog's thread has finished with it.

    Its escalation is over, and its instants are still read.
    """

    @watch(interrupt="none")
    def handler(_event: object, _context: object) -> tuple[float, float]:
        expire()
        [(_, invocation)] = under_way()
        firing = invocation.firing
        assert firing is not None
        before = firing.invocation.hard
        course = process_watchdog.escalations.pop(invocation)
        try:
            moves.move_back(invocation, 1.0)
        finally:
            process_watchdog.escalations[invocation] = course
        return before, firing.invocation.hard

    before, after = handler({}, FakeContext())
    assert before - after == pytest.approx(1.0)


@pytest.mark.parametrize("has_landed", [False, True])
def test_landing_time_is_subtracted_from_every_figure(
    monkeypatch: pytest.MonkeyPatch,
    has_landed: bool,  # noqa: FBT001
) -> None:
    """The time that a landing takes is subtracted from every figure.

    This includes records that have not noted the landing yet, and landings whose error is gone.
    """
    error = LambdaTimeout("27.1 s") if has_landed else None
    record = SimpleNamespace(
        at=27.1, landed_at=27.2 if has_landed else None, place="", error=lambda: error
    )
    ladder = SimpleNamespace(records=[record])
    firing = SimpleNamespace(
        policy=ladder, grace_stage=None, timeline=SimpleNamespace(hook_budget=1.0)
    )
    moved: list[float] = []
    invocation: Any = SimpleNamespace(firing=firing, message=lambda at, _place: f"{at:.1f} s")
    monkeypatch.setattr(passage, "moves", SimpleNamespace(get=lambda *_: 0))
    monkeypatch.setattr(passage, "move_back", lambda _invocation, by: moved.append(by))
    monkeypatch.setattr(passage.TimeTravel, "_have_done", lambda _self, errand: errand())

    passage.TimeTravel(invocation).realign(27.0)

    assert moved == [pytest.approx(-0.1, abs=0.001)]
    assert record.at == pytest.approx(27.0, abs=0.001)
    if error is not None:
        assert record.landed_at == pytest.approx(27.1, abs=0.001)
        assert error.args == ("27.0 s",)


# ---- pytest's fixtures -------------------------------------------------------------------------


def test_pytest_fixtures_are_those_of_this_module(
    watchdog_context: FakeContext,
    watchdog_clock: object,
    watchdog_timeouts: list[dict[str, Any]],
    watchdog_hooks: None,
) -> None:
    """The fixtures of pytest are those of this module.

    Another test has them in a pytest of its own: tests/test_pytest_plugin.py.
    """

    @watch
    def handler(_event: object, _context: object) -> None:
        expire()

    shutdown_hook(lambda _details: None)
    with pytest.raises(LambdaTimeout, match=FIRED):
        handler({}, watchdog_context)

    assert watchdog_clock is clock
    assert [record["outcome"] for record in watchdog_timeouts] == ["raised"]


# ---- records and hooks -------------------------------------------------------------------------


def test_timeout_records_match_the_log(
    timeouts: list[dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    """timeout_records() has the record of the log, and the line is written as well."""
    with pytest.raises(LambdaTimeout):
        watch(lambda _e, _c: expire())({}, FakeContext())

    [record] = timeouts
    written = json.loads(capfd.readouterr().out)
    assert record.items() <= written.items()
    assert record["outcome"] == "raised"
    assert record["elapsed_ms"] == pytest.approx(27_000, abs=NEAR * 1000)


def test_timeout_records_are_those_of_the_block() -> None:
    """timeout_records() has the records of its block only, also if blocks are nested.

    No listener is left afterwards.
    """
    handler = watch(fallback=None)(lambda _e, _c: expire())
    before = list(listeners)
    with timeout_records() as outer:
        handler({}, FakeContext())
        with timeout_records() as inner:
            handler({}, FakeContext())

    assert (len(outer), len(inner)) == (2, 1)
    assert listeners == before


def test_isolated_hooks_are_restored() -> None:
    """isolated_hooks() restores the hooks and stages of before.

    Hooks registered in the block are removed, and those removed in it come back.
    """
    before, early = Mock(), Mock()
    with isolated_hooks():
        shutdown_hook(before)
        shutdown_hook(before=5.0)(early)
        kept, kept_staged = shared_hooks.snapshot(), dict(staged)
        with isolated_hooks():
            shutdown_hook(Mock())
            shutdown_hook(before=7.0)(Mock())
            shared_hooks.remove(kept[1].key)
            assert len(shared_hooks.snapshot()) == 3
        assert (shared_hooks.snapshot(), staged) == (kept, kept_staged)

    assert (shared_hooks.snapshot(), staged) == ([], {})


def test_moving_to_a_past_instant_changes_nothing() -> None:
    """Moving time to a past instant changes nothing, as real time may have reached it already."""

    @watch
    def handler(_event: object, _context: object) -> str:
        clock.advance(5.0)
        found = passage.find()
        assert found is not None
        before = found.elapsed
        found._move_to(1.0)
        assert before <= found.elapsed < before + NEAR
        return "answer"

    assert handler({}, FakeContext()) == "answer"
