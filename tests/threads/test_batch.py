"""Batch processors: completed records stay done, and those not done in time are reported."""

from __future__ import annotations

import asyncio
import collections
import functools
import json
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.utilities import batch as powertools
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError
from aws_lambda_powertools.utilities.parser.models import (
    DynamoDBStreamRecordModel,
    KafkaRecordModel,
    KinesisDataStreamRecord,
    SqsRecordModel,
)
from aws_lambda_powertools.warnings import PowertoolsDeprecationWarning
from pydantic import model_validator

from tests import events
from tests.support import BOUND, Context
from watchdog_lambda import (
    ConfigurationError,
    Interrupt,
    LambdaTimeout,
    TimeLimitExceeded,
    batch,
    shutdown_hook,
    watch,
)
from watchdog_lambda._engine.current import under_way
from watchdog_lambda._hooks import shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 0.8
"""The time that an invocation has; the watchdog fires after three quarters of it."""


class OrderError(Exception):
    """An error that the record handler raises itself."""


# ---- sources -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Where a batch comes from, and how its records are read and named."""

    make: Callable[..., dict[str, Any]]
    type: batch.EventType
    read: Callable[[Any], str]
    model: Any
    read_model: Callable[[Any], str]
    identifier: Callable[[int], Any]


SOURCES = {
    "sqs": Source(
        events.sqs,
        batch.EventType.SQS,
        lambda record: record.body,
        SqsRecordModel,
        lambda record: record.body,
        "message-{}".format,
    ),
    "kinesis": Source(
        events.kinesis,
        batch.EventType.KinesisDataStreams,
        lambda record: record.kinesis.data_as_text(),
        KinesisDataStreamRecord,
        lambda record: record.kinesis.data.decode(),
        "4959033827149025660855969253836157109592157598913665{}".format,
    ),
    "dynamodb": Source(
        events.dynamodb,
        batch.EventType.DynamoDBStreams,
        lambda record: record.dynamodb.new_image["Message"],
        DynamoDBStreamRecordModel,
        lambda record: record.dynamodb.NewImage["Message"],
        "1110000000000000000{}".format,
    ),
}
if hasattr(batch.EventType, "Kafka"):  # from Powertools 3.26 on
    SOURCES["kafka"] = Source(
        events.kafka,
        batch.EventType.Kafka,
        lambda record: record.json_value["body"],
        KafkaRecordModel,
        lambda record: json.loads(record.value)["body"],
        lambda number: {"partition": "mytopic-0", "offset": number},
    )
SQS = SOURCES["sqs"]


# ---- record handlers ---------------------------------------------------------------------------

begun: list[str] = []
ended: list[str] = []


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    """Clear what earlier tests have noted."""
    begun.clear()
    ended.clear()


def block() -> None:
    """Block, as a call to a service that does not answer."""
    assert not threading.Event().wait(BOUND)
    raise AssertionError("no interrupt landed in time")


def work(what: str) -> str:
    """Do what the record says."""
    begun.append(what)
    match what.split("-", 1)[0]:
        case "fail":
            raise OrderError(what)
        case "block":
            block()
        case "swallow":
            try:
                block()
            except TimeoutError:
                what = f"{what}, in part"
        case "wrap":
            try:
                block()
            except TimeoutError as timeout:
                raise OrderError(what) from timeout
        case "again":
            while True:
                try:
                    block()
                except Exception:  # a retry, which blocks again
                    begun.append("again and again")
        case "insist":
            with pytest.raises(Interrupt):
                work("again")
    ended.append(what)
    return what


async def async_work(what: str) -> str:
    """Do the same without blocking the loop where it waits."""
    begun.append(what)
    match what.split("-", 1)[0]:
        case "fail":
            raise OrderError(what)
        case "block":
            await asyncio.sleep(BOUND)
        case "swallow":
            try:
                await asyncio.sleep(BOUND)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)  # a cleanup that waits
                what = f"{what}, in part"
        case "own":
            return work(what.removeprefix("own-"))  # in the task's own step
        case "resist":
            while True:
                try:
                    await asyncio.sleep(BOUND)
                except asyncio.CancelledError:
                    if len(ended) > 1:
                        break  # and returns as if it had not been cancelled
        case "late":
            await asyncio.sleep(0.02)
    ended.append(what)
    return what


def handler_of(read: Callable[[Any], str]) -> Callable[..., str]:
    """Return a record handler: a plain function with the argument that Powertools passes."""

    def record_handler(record: Any) -> str:
        return work(read(record))

    return record_handler


def async_handler_of(read: Callable[[Any], str]) -> Callable[..., Any]:
    """Return the same as a coroutine function."""

    async def record_handler(record: Any) -> str:
        return await async_work(read(record))

    return record_handler


read_body = SQS.read
record_handler = handler_of(read_body)
async_record_handler = async_handler_of(read_body)


# ---- one batch ---------------------------------------------------------------------------------


@dataclass
class Outcome:
    """A batch's response, and what was logged."""

    response: Any
    reports: list[dict[str, Any]]
    remaining: float

    @property
    def failed(self) -> list[Any]:
        return [item["itemIdentifier"] for item in self.response["batchItemFailures"]]


Run = Any


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a batch under the watchdog; it must answer before the hard deadline."""

    def run(
        processor: Any,
        event: dict[str, Any],
        handler: Callable[..., Any],
        *,
        seconds: float = SECONDS,
        **options: Any,
    ) -> Outcome:
        process: Any = batch.process_partial_response
        if isinstance(processor, powertools.AsyncBatchProcessor):
            process = batch.async_process_partial_response

        @watch(**options)
        def watched(event: Any, context: Any) -> Any:
            return process(event, handler, processor, context)

        context = Context(seconds)
        capfd.readouterr()
        response = watched(event, context)
        remaining = context.get_remaining_time_in_millis() / 1000
        lines = capfd.readouterr().out.splitlines()
        assert remaining > 0
        return Outcome(response, [json.loads(line) for line in lines], remaining)

    return run


def names(*numbers: int) -> list[str]:
    return [f"message-{number}" for number in numbers]


# ---- without a timeout, as with Powertools -----------------------------------------------------


def test_module_has_every_powertools_name() -> None:
    """The module has Powertools' names, and subclasses where it differs.

    So a user changes one import.
    """
    assert set(batch.__all__) == set(powertools.__all__)
    differ = {n for n in batch.__all__ if getattr(batch, n) is not getattr(powertools, n)}
    assert differ == {"BatchProcessor", "AsyncBatchProcessor", "SqsFifoPartialProcessor"}
    for name in differ:
        subclass, base = getattr(batch, name), getattr(powertools, name)
        assert issubclass(subclass, base)
        assert {name for name in vars(subclass) if not name.startswith("_")} == set()


def both(name: str, *args: Any, **options: Any) -> list[Any]:
    return [getattr(module, name)(*args, **options) for module in (batch, powertools)]


BATCHES = [["ok-1", "ok-2"], ["ok-1", "fail-2", "ok-3"], ["fail-1", "fail-2"]]


@pytest.mark.parametrize("bodies", BATCHES)
@pytest.mark.parametrize("is_watched", [True, False])
@pytest.mark.parametrize("name", sorted(SOURCES))
@pytest.mark.parametrize("model", [False, True])
def test_batch_without_timeout_equals_powertools(
    *, name: str, model: bool, is_watched: bool, bodies: list[str]
) -> None:
    """Without a timeout the response, errors and lists equal Powertools', watched or not."""
    source = SOURCES[name]
    notes: list[Any] = []
    for processor in both("BatchProcessor", source.type, model=source.model if model else None):
        handler = handler_of(source.read_model if model else source.read)

        def process(event: Any, context: Any, p: Any = processor, h: Any = handler) -> Any:
            return batch.process_partial_response(event, h, p, context)

        answer: Any
        try:
            answer = (watch(process) if is_watched else process)(
                source.make(*bodies), Context(30.0)
            )
        except BatchProcessingError as error:
            answer = error.msg
        notes.append(
            (
                answer,
                [str(r.__class__) + str(r) for r in processor.fail_messages],
                len(processor.success_messages),
                [kind for kind, _, _ in processor.exceptions],
            )
        )

    assert notes[0] == notes[1]


@pytest.mark.parametrize("bodies", BATCHES)
@pytest.mark.parametrize("task_root", [None, "/var/task"])
@pytest.mark.parametrize("is_watched", [True, False])
def test_async_batch_without_timeout_equals_powertools(
    *,
    is_watched: bool,
    bodies: list[str],
    task_root: str | None,
    monkeypatch: pytest.MonkeyPatch,
    own_loop: asyncio.AbstractEventLoop,
) -> None:
    """The same holds for the async processor, on a new loop and on the one kept in Lambda."""
    del own_loop
    if task_root:
        monkeypatch.setenv("LAMBDA_TASK_ROOT", task_root)
    notes: list[Any] = []
    for processor in both("AsyncBatchProcessor", batch.EventType.SQS):

        def process(event: Any, context: Any, p: Any = processor) -> Any:
            return batch.async_process_partial_response(event, async_record_handler, p, context)

        try:
            answer: Any = (watch(process) if is_watched else process)(
                events.sqs(*bodies), Context(30.0)
            )
        except BatchProcessingError as error:
            answer = error.msg
        notes.append((answer, [r.body for r in processor.fail_messages]))

    assert notes[0] == notes[1]


@pytest.mark.parametrize("skip", [True, False])
def test_fifo_batch_without_timeout_equals_powertools(run: Run, *, skip: bool) -> None:
    """Without a timeout a failed FIFO message fails its group, or all that follow."""
    event = events.fifo("ok", "fail", "ok", "ok", groups="ABAB")
    outcomes = [
        run(processor, event, record_handler)
        for processor in both("SqsFifoPartialProcessor", skip_group_on_error=skip)
    ]

    assert outcomes[0].response == outcomes[1].response
    assert outcomes[0].failed == (names(1, 3) if skip else names(1, 2, 3))
    assert outcomes[0].reports == []


def test_process_returns_powertools_entries() -> None:
    """``process()`` returns Powertools' entries, and ``handler`` is the one that was given."""
    entries = []
    records = events.sqs("ok", "fail")["Records"]
    for processor in both("BatchProcessor", batch.EventType.SQS):

        def process(_event: Any, _context: Any, p: Any = processor) -> Any:
            with p(records, record_handler):
                done = p.process()
            assert p.handler is record_handler
            return done

        entries.append(watch(process)({}, Context(30.0)))

    assert entries[0] == entries[1]
    assert [entry[0] for entry in entries[0]] == ["success", "fail"]


def test_shield_is_released_after_a_batch() -> None:
    """After a batch that ended in time the shield is down, and the handler is interrupted."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    @watch
    def handler(event: Any, context: Any) -> Any:
        batch.process_partial_response(event, record_handler, processor, context)
        [(_, invocation)] = under_way()
        assert invocation.shields == 0
        block()

    with pytest.raises(LambdaTimeout):
        handler(events.sqs("ok", "fail"), Context(0.3))


# ---- a timeout ---------------------------------------------------------------------------------

KINDS = ["block", "wrap", "again"]
"""A record is interrupted, makes an error of the interrupt, or retries until an Interrupt lands."""


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_sqs_reports_interrupted_and_later_records(run: Run, kind: str, position: int) -> None:
    """The interrupted record and those after it are reported, at any position."""
    bodies = ["ok-0", "ok-1", "ok-2"]
    bodies[position] = kind
    processor = batch.BatchProcessor(batch.EventType.SQS, raise_on_entire_batch_failure=False)

    outcome = run(processor, events.sqs(*bodies), record_handler)

    assert outcome.failed == names(*range(position, 3))
    assert ended == bodies[:position]
    assert [body for body in begun if body != "again and again"] == bodies[: position + 1]
    [report] = outcome.reports
    assert report["outcome"] == "returned"
    assert outcome.remaining > SECONDS / 16  # not at last call
    assert not under_way()


@pytest.mark.parametrize("name", sorted(SOURCES))
@pytest.mark.parametrize("model", [False, True])
def test_errors_and_timeouts_are_reported_for_every_source(
    run: Run, name: str, *, model: bool
) -> None:
    """An error and a timeout are reported by the identifiers of each source."""
    source = SOURCES[name]
    processor = batch.BatchProcessor(source.type, model=source.model if model else None)
    handler = handler_of(source.read_model if model else source.read)

    outcome = run(processor, source.make("ok-0", "fail-1", "ok-2", "block", "ok-4"), handler)

    # Lambda continues a shard at its lowest identifier, which is that of the first failure.
    assert outcome.failed == [source.identifier(n) for n in (1, 3, 4)]
    assert begun == ["ok-0", "fail-1", "ok-2", "block"]
    assert ended == ["ok-0", "ok-2"]


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_fifo_reports_all_messages_after_the_interrupted_one(
    run: Run, kind: str, *, skip: bool, model: bool
) -> None:
    """In a FIFO queue all messages after the interrupted one are reported, of any group."""
    processor = batch.SqsFifoPartialProcessor(
        model=SqsRecordModel if model else None, skip_group_on_error=skip
    )
    event = events.fifo("ok-0", "ok-1", kind, "ok-3", "ok-4", groups="ABABA")

    outcome = run(processor, event, record_handler)
    assert outcome.failed == names(2, 3, 4)
    assert ended == ["ok-0", "ok-1"]

    # The next batch does not remember them.
    assert run(processor, events.fifo("ok", "ok"), record_handler).failed == []


@pytest.mark.parametrize(("skip", "failed"), [(True, [1, 3, 4, 5]), (False, [1, 2, 3, 4, 5])])
def test_fifo_error_and_timeout_are_both_reported(
    run: Run, failed: list[int], *, skip: bool
) -> None:
    """A failed group stays failed, and a timeout in another one fails the remaining messages."""
    processor = batch.SqsFifoPartialProcessor(skip_group_on_error=skip)
    event = events.fifo("ok-0", "fail-1", "ok-2", "ok-3", "block", "ok-5", groups="ABCBCA")

    outcome = run(processor, event, record_handler)

    assert outcome.failed == names(*failed)
    assert "ok-5" not in begun
    assert bool(outcome.reports) is skip  # without skipping, "block" is not reached


def test_record_that_swallows_the_timeout_is_done(run: Run) -> None:
    """A record that catches the timeout and returns is done, and no further one begins."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    outcome = run(processor, events.sqs("ok-0", "swallow", "ok-2"), record_handler)

    assert outcome.failed == names(2)
    assert ended == ["ok-0", "swallow, in part"]
    assert [interrupt["outcome"] for interrupt in outcome.reports[0]["interrupts"]] == ["delivered"]


def test_record_that_swallows_the_interrupt_too_is_done(run: Run) -> None:
    """A record that catches the Interrupt as well, and returns, is done."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    outcome = run(processor, events.sqs("insist", "ok-1"), record_handler)

    assert outcome.failed == names(1)
    assert ended == ["insist"]


def test_timeout_swallowed_by_last_record_reports_nothing(run: Run) -> None:
    """If the last record catches the timeout, nothing is reported, though the watchdog fired."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    outcome = run(processor, events.sqs("ok-0", "swallow"), record_handler)

    assert outcome.failed == []
    assert outcome.reports[0]["outcome"] == "returned"


@pytest.mark.parametrize("interrupt", ["timeout-error", "base", "none"])
def test_no_record_begins_in_the_grace_period(run: Run, interrupt: str) -> None:
    """No record begins in the grace period, even without interrupts, and a timeout is recorded.

    The processor looks at the time before each record.
    """
    processor = batch.BatchProcessor(batch.EventType.SQS)
    pause = threading.Event()

    def handler(record: Any) -> None:
        begun.append(record.body)
        # The handler is uninterruptible until the grace period begins, and no longer.
        [(_, invocation)] = under_way()
        invocation.shields += 1
        while not invocation.is_out_of_time():
            pause.wait(0.0001)
        invocation.shields -= 1

    outcome = run(processor, events.sqs("a", "b", "c"), handler, interrupt=interrupt)

    assert begun == ["a"]
    assert outcome.failed in (names(1, 2), names(0, 1, 2))
    [report] = outcome.reports
    if interrupt == "none":
        assert outcome.failed == names(1, 2)
        assert report["interrupts"] == []


def test_batch_out_of_time_before_the_watchdog_wakes_still_runs_hooks(run: Run) -> None:
    """A batch whose time is up before the watchdog has woken runs its hooks all the same."""
    processor = batch.BatchProcessor(batch.EventType.SQS)
    shutdown_hook(lambda _details: ended.append("hook"))

    def handler(record: Any) -> None:
        [(_, invocation)] = under_way()
        invocation.start -= BOUND  # the time is up at once, while the watchdog sleeps
        invocation.limit = BOUND * 1.1
        invocation.due = 0.0
        begun.append(record.body)

    try:
        outcome = run(processor, events.sqs("a", "b"), handler, seconds=BOUND)
    finally:
        for hook in shared.snapshot():
            shared.remove(hook.key)

    assert outcome.failed == names(1)
    assert begun == ["a"]
    assert ended == ["hook"]


@pytest.mark.parametrize("raises", [True, False])
def test_raise_on_entire_batch_failure_is_respected(run: Run, *, raises: bool) -> None:
    """If no record was done, the processor's setting says whether to raise."""
    processor = batch.BatchProcessor(batch.EventType.SQS, raise_on_entire_batch_failure=raises)

    if not raises:
        assert run(processor, events.sqs("block", "ok"), record_handler).failed == names(0, 1)
        return
    with pytest.raises(BatchProcessingError) as raised:
        run(processor, events.sqs("block", "ok"), record_handler)
    kinds = [kind for kind, _, _ in raised.value.child_exceptions]
    assert kinds == [LambdaTimeout, LambdaTimeout]
    [note] = raised.value.__notes__
    assert "interrupted after" in note


@pytest.mark.parametrize("interrupt", ["base", "timeout-error"])
def test_partial_record_handler_is_interrupted(run: Run, interrupt: str) -> None:
    """A partial, which has no frame of its own, is interrupted as well."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    def three(record: Any, *, tag: str) -> str:
        begun.append(tag)
        return work(record.body)

    outcome = run(
        processor,
        events.sqs("ok-0", "block", "ok-2"),
        functools.partial(three, tag="x"),
        interrupt=interrupt,
    )

    assert outcome.failed == names(1, 2)
    assert ended == ["ok-0"]


class Formatted(SqsRecordModel):
    """A model whose formatting blocks in C, without any Python frame."""


_never = threading.Lock()
_never.acquire()
Formatted.__format__ = collections.defaultdict(  # type: ignore[method-assign, assignment]
    functools.partial(_never.acquire, True, BOUND)
).__getitem__


def test_record_handler_in_c_is_interrupted() -> None:
    """A record handler in C, without a frame of its own, is interrupted as well."""
    processor = batch.BatchProcessor(
        batch.EventType.SQS, model=Formatted, raise_on_entire_batch_failure=False
    )

    @watch
    def handler(event: Any, _context: Any) -> Any:
        # The context is not passed: for that Powertools would need a signature, which C code lacks.
        return batch.process_partial_response(event, "{record}".format, processor)

    context = Context(SECONDS)
    response = handler(events.sqs("a", "b"), context)

    assert [item["itemIdentifier"] for item in response["batchItemFailures"]] == names(0, 1)
    assert context.get_remaining_time_in_millis() > SECONDS * 1000 / 16


def test_lambda_context_is_passed_to_the_record_handler(run: Run) -> None:
    """A record handler that asks for the Lambda context gets it, as with Powertools."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    def handler(record: Any, lambda_context: Any) -> str:
        begun.append(lambda_context.aws_request_id)
        return work(record.body)

    assert run(processor, events.sqs("ok", "block"), handler).failed == names(1)
    assert begun[0] == "request-1"


def test_interrupt_in_an_exception_group_counts_as_timeout(run: Run) -> None:
    """An Interrupt in a group, as a task group raises it, counts as the timeout."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    def handler(record: Any) -> str:
        try:
            return work(record.body)
        except Interrupt as interrupt:
            raise BaseExceptionGroup("of a task group", [interrupt]) from None

    outcome = run(processor, events.sqs("ok", "block", "ok"), handler, interrupt="base")

    assert outcome.failed == names(1, 2)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])]
)
def test_other_base_exceptions_end_the_batch(run: Run, error: BaseException) -> None:
    """SystemExit and KeyboardInterrupt end the batch, as with Powertools."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    def handler(record: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        run(processor, events.sqs("a", "b"), handler)
    assert not under_way()


class Validated(SqsRecordModel):
    """A model whose validator blocks for some records."""

    @model_validator(mode="after")
    def check(self) -> Validated:
        if self.body == "slow":
            block()
        return self


def test_validator_is_interrupted_at_last_call(run: Run) -> None:
    """A validator is outside of the record handler, so it is interrupted only at last call.

    The record is still reported by its name.
    """
    processor = batch.BatchProcessor(batch.EventType.SQS, model=Validated)

    outcome = run(processor, events.sqs("ok", "slow", "ok"), record_handler)

    assert outcome.failed == names(1, 2)


def test_record_failing_validation_is_reported(run: Run) -> None:
    """A record that its model rejects and one with a timeout are both reported."""
    processor = batch.BatchProcessor(batch.EventType.SQS, model=SqsRecordModel)
    event = events.sqs("ok", "pill", "block", "ok")
    del event["Records"][1]["receiptHandle"]

    assert run(processor, event, record_handler).failed == names(1, 2, 3)


class Slow(batch.BatchProcessor):
    """A user's processor whose own bookkeeping reaches into the grace period."""

    def success_handler(self, record: Any, result: Any) -> Any:
        [(_, invocation)] = under_way()
        pause = threading.Event()
        if result == "ok-1":
            while not invocation.has_fired():
                pause.wait(0.001)
            pause.wait(0.05)  # interrupts are due, five times
        return super().success_handler(record, result)


def test_bookkeeping_is_not_interrupted(run: Run) -> None:
    """A record stays done if the time ends before the processor has noted it."""
    processor = Slow(batch.EventType.SQS)

    outcome = run(processor, events.sqs("ok-0", "ok-1", "ok-2"), record_handler)

    assert outcome.failed == names(2)
    assert outcome.reports[0]["interrupts"] == []


class SlowAnswer(batch.BatchProcessor):
    """A processor whose response takes into the grace period."""

    def _clean(self) -> None:
        [(_, invocation)] = under_way()
        pause = threading.Event()
        while not invocation.has_fired():
            pause.wait(0.001)
        pause.wait(0.05)
        super()._clean()  # type: ignore[no-untyped-call]


def test_building_the_response_is_not_interrupted(run: Run) -> None:
    """The response is given if the time ends while it is made."""
    processor = SlowAnswer(batch.EventType.SQS)

    outcome = run(processor, events.sqs("ok-0", "fail-1", "ok-2"), record_handler)

    assert outcome.failed == names(1)


def test_handler_continues_after_an_interrupted_batch(run: Run) -> None:
    """The handler may use the response of an interrupted batch until last call."""
    processor = batch.BatchProcessor(batch.EventType.SQS)
    pause = threading.Event()

    @watch
    def handler(event: Any, context: Any) -> Any:
        response = batch.process_partial_response(event, record_handler, processor, context)
        pause.wait(SECONDS / 12)
        return {**response, "flushed": True}

    response = handler(events.sqs("ok", "block"), Context(SECONDS))

    assert response == {"batchItemFailures": [{"itemIdentifier": "message-1"}], "flushed": True}


def test_decorator_and_context_manager_report_the_timeout(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Powertools' older decorator and context manager answer a timeout in the same way."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    @watch
    def handler(event: Any, context: Any) -> Any:
        del context
        with processor(records=event["Records"], handler=record_handler):
            entries = processor.process()
        assert [entry[0] for entry in entries] == ["success", "fail", "fail"]
        return processor.response()

    decorate: Any = batch.batch_processor
    decorated = watch(
        decorate(record_handler=record_handler, processor=processor)(
            lambda _event, _context: processor.response()
        )
    )

    event = events.sqs("ok", "block", "ok")
    failures = {"batchItemFailures": [{"itemIdentifier": n} for n in names(1, 2)]}
    assert handler(event, Context(SECONDS)) == failures
    with pytest.warns(PowertoolsDeprecationWarning):
        assert decorated(event, Context(SECONDS)) == failures
    assert capfd.readouterr().out.count("watchdog.timeout") >= 2


def test_next_invocation_is_not_affected(run: Run) -> None:
    """After a timeout the same processor runs the next batch from the start."""
    processor = batch.BatchProcessor(batch.EventType.SQS)

    first = run(processor, events.sqs("ok", "block"), record_handler)
    second = run(processor, events.sqs("ok", "ok"), record_handler)
    third = run(processor, events.sqs("ok", "block", "ok"), record_handler)

    assert (first.failed, second.failed, third.failed) == (names(1), [], names(1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_batch_on_another_thread_gives_the_same_response(run: Run, kind: str) -> None:
    """In another thread, where interrupts are injected, the answer is the same."""
    processor = batch.BatchProcessor(batch.EventType.SQS)
    found: list[Any] = []

    def handler(record: Any) -> None:
        begun.append(record.body)
        if record.body != "ok":
            while True:
                try:
                    while True:
                        threading.Event().wait(0.001)
                except TimeoutError as timeout:
                    if kind == "wrap":
                        raise OrderError from timeout
                    if kind == "block":
                        raise

    thread = threading.Thread(
        target=lambda: found.append(run(processor, events.sqs("ok", kind, "ok"), handler))
    )
    thread.start()
    thread.join(BOUND)

    assert found[0].failed == names(1, 2)
    assert begun == ["ok", kind]


def test_batch_in_a_handlers_own_thread_behaves_as_powertools() -> None:
    """In a thread that the handler starts, the processor behaves as Powertools', without a shield.

    Interrupts land in the handler's thread only.
    """

    class Looking(batch.BatchProcessor):
        def success_handler(self, record: Any, result: Any) -> Any:
            [(_, invocation)] = under_way()
            ended.append(str(invocation.shields))
            return super().success_handler(record, result)

    processor = Looking(batch.EventType.SQS)

    @watch
    def handler(event: Any, context: Any) -> Any:
        found: list[Any] = []
        thread = threading.Thread(
            target=lambda: found.append(
                batch.process_partial_response(event, record_handler, processor, context)
            )
        )
        thread.start()
        thread.join()
        return found[0]

    assert handler(events.sqs("ok", "fail"), Context(30.0)) == {
        "batchItemFailures": [{"itemIdentifier": "message-1"}]
    }
    assert ended == ["ok", "0"]


# ---- async -------------------------------------------------------------------------------------


@pytest.fixture
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return the loop that Powertools keeps in Lambda; at the end it has no task."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    assert not asyncio.all_tasks(loop), "a task is pending"
    loop.run_until_complete(asyncio.sleep(0))  # fails if a callback is left that would stop it
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture(params=[None, "/var/task"])
def where(
    request: pytest.FixtureRequest,
    own_loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> asyncio.AbstractEventLoop | None:
    """Run outside of Lambda, with ``asyncio.run``, and in it, on the kept loop."""
    if request.param is None:
        return None
    monkeypatch.setenv("LAMBDA_TASK_ROOT", request.param)
    return own_loop


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("kind", ["block", "own-block", "own-wrap", "own-again"])
def test_async_finished_records_stay_done(run: Run, kind: str, position: int) -> None:
    """Records that have ended stay done, whether the loop waits or a task holds it."""
    bodies = ["ok-0", "late-1", "ok-2"]
    bodies[position] = kind
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS, raise_on_entire_batch_failure=False)

    outcome = run(processor, events.sqs(*bodies), async_record_handler)

    done = sorted(set(bodies) - {kind})
    if kind.startswith("own"):
        # It holds the loop, so of the records before it only those without a second step end.
        done = [body for body in bodies[:position] if body.startswith("ok")]
    assert sorted(ended) == done
    # The order is that of the events: records that failed by themselves come first.
    failed = [n for n, body in enumerate(bodies) if body not in done]
    assert sorted(outcome.failed) == names(*failed)
    assert len(outcome.reports) == 1
    assert outcome.remaining > SECONDS / 16


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_async_errors_and_timeouts_are_reported_for_every_source(run: Run, name: str) -> None:
    """An error and a timeout are reported; a record that ends after the error is done."""
    source = SOURCES[name]
    processor = batch.AsyncBatchProcessor(source.type)

    outcome = run(
        processor,
        source.make("ok-0", "fail-1", "block", "late-3"),
        async_handler_of(source.read),
    )

    assert outcome.failed == [source.identifier(n) for n in (1, 2)]
    assert sorted(ended) == ["late-3", "ok-0"]


@pytest.mark.usefixtures("where")
def test_async_entries_keep_the_order_of_records(run: Run) -> None:
    """``async_process()`` returns an entry for each record, in the records' order."""
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS)

    @watch
    def handler(event: Any, _context: Any) -> Any:
        with processor(records=event["Records"], handler=async_record_handler):
            return [(entry[0], entry[2]) for entry in processor.async_process()]

    entries = handler(events.sqs("block", "ok", "block", "fail"), Context(SECONDS))

    assert [kind for kind, _ in entries] == ["fail", "success", "fail", "fail"]


@pytest.mark.usefixtures("where")
def test_async_record_that_catches_cancellation_is_done(run: Run) -> None:
    """A record that catches its cancellation, cleans up and returns is not reported."""
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS)

    outcome = run(processor, events.sqs("swallow", "block", "ok"), async_record_handler)

    assert outcome.failed == names(1)
    assert sorted(ended) == ["ok", "swallow, in part"]


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("kind", ["block", "own-block"])
def test_async_cleanup_is_not_interrupted(run: Run, kind: str) -> None:
    """A record that is cancelled by another one's timeout has time to clean up."""
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS)

    async def handler(record: Any) -> None:
        if record.body != "cleans up":
            await async_work(record.body)
            return
        try:
            await asyncio.sleep(BOUND)
        finally:
            await asyncio.sleep(0.08)
            ended.append("cleaned up")

    outcome = run(processor, events.sqs("ok", "cleans up", kind), handler)

    assert sorted(outcome.failed) == names(1, 2)
    assert ended == ["ok", "cleaned up"]
    assert len(outcome.reports[0]["interrupts"]) == 1


@pytest.mark.usefixtures("where")
def test_async_timeout_swallowed_by_last_record_reports_nothing(run: Run) -> None:
    """If the last record catches the timeout, nothing is reported."""
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS)

    outcome = run(processor, events.sqs("swallow", "own-swallow", "ok"), async_record_handler)

    assert outcome.failed in ([], names(2))  # the third did not begin if the second held the loop


@pytest.mark.usefixtures("where")
def test_async_batch_without_finished_records_raises(run: Run) -> None:
    """If no record was done, the async processor raises as well."""
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS)

    with pytest.raises(BatchProcessingError):
        run(processor, events.sqs("block", "block"), async_record_handler)


@pytest.mark.usefixtures("where")
def test_async_cancellation_without_timeout_ends_the_batch(run: Run) -> None:
    """A record that is cancelled without a timeout ends the batch, as with Powertools."""

    async def handler(record: Any) -> None:
        raise asyncio.CancelledError

    for processor in both("AsyncBatchProcessor", batch.EventType.SQS):
        with pytest.raises(asyncio.CancelledError):
            run(processor, events.sqs("a", "b"), handler)


def test_async_task_resisting_cancellation_never_runs_in_later_batch(
    run: Run, own_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that resists its cancellation until last call never runs in a later batch.

    It would give in by then.
    """
    monkeypatch.setenv("LAMBDA_TASK_ROOT", "/var/task")
    processor = batch.AsyncBatchProcessor(batch.EventType.SQS)
    first = run(processor, events.sqs("resist", "ok"), async_record_handler)
    assert first.failed == names(0)
    assert ended == ["ok"]
    assert not asyncio.all_tasks(own_loop)

    ended.extend("xx")
    second = run(processor, events.sqs("late", "late"), async_record_handler)

    assert second.failed == []
    assert len(processor.success_messages) == 2
    assert ended == ["ok", "x", "x", "late", "late"]


# ---- a limit for each record -------------------------------------------------------------------

LIMIT = 0.15
"""The number of seconds that a record may take."""

HANGS = ["ok"] * 6 + ["block"] + ["ok"] * 3


def response_of(processor: Any, event: Any, handler: Any, *, is_watched: bool = True) -> Any:
    """Return the answer to a batch with far more time than a record may take."""
    process: Any = batch.process_partial_response
    if isinstance(processor, powertools.AsyncBatchProcessor):
        process = batch.async_process_partial_response

    def answer(event: Any, context: Any) -> Any:
        return process(event, handler, processor, context)

    return (watch(answer) if is_watched else answer)(event, Context(BOUND))


def reported(response: Any) -> list[Any]:
    return [item["itemIdentifier"] for item in response["batchItemFailures"]]


@pytest.mark.parametrize("is_watched", [True, False])
@pytest.mark.parametrize("kind", ["BatchProcessor", "AsyncBatchProcessor"])
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_hanging_record_fails_alone(name: str, kind: str, *, is_watched: bool) -> None:
    """One record of ten that hangs is reported, and the other nine are done."""
    source = SOURCES[name]
    processor = getattr(batch, kind)(source.type, record_time_limit=LIMIT)
    make = async_handler_of if kind.startswith("Async") else handler_of

    response = response_of(processor, source.make(*HANGS), make(source.read), is_watched=is_watched)

    assert reported(response) == [source.identifier(6)]
    assert ended == ["ok"] * 9
    [(failure, error, _)] = processor.exceptions
    assert failure is TimeLimitExceeded
    assert re.match(r"interrupted after 0\.\d s, the limit of this block, in ", str(error))
    assert processor.handler.__name__ == "record_handler", "the handler has not been restored"


@pytest.mark.parametrize(
    ("skip", "failed"), [(False, [2, 3, 4, 5, 6, 7, 8, 9]), (True, [2, 4, 6, 8])]
)
def test_fifo_keeps_order_after_a_hanging_message(failed: list[int], *, skip: bool) -> None:
    """After a message that hangs no message of its group, or none at all, is processed."""
    processor = batch.SqsFifoPartialProcessor(skip_group_on_error=skip, record_time_limit=LIMIT)
    bodies = ["ok", "ok", "block", *["ok"] * 7]

    response = response_of(processor, events.fifo(*bodies, groups="AB" * 5), record_handler)

    assert reported(response) == names(*failed)
    assert len(ended) == 10 - len(failed)


def test_each_hanging_record_fails_with_its_own_limit() -> None:
    """Each of two records that hang exceeds its own limit, and is reported."""
    processor = batch.BatchProcessor(SQS.type, record_time_limit=LIMIT)

    response = response_of(processor, events.sqs("block", "ok", "block", "ok"), record_handler)

    assert reported(response) == names(0, 2)
    assert ended == ["ok", "ok"]


def test_record_that_swallows_its_limit_still_fails() -> None:
    """A record that catches its limit once gets an Interrupt, and fails with TimeLimitExceeded."""
    processor = batch.BatchProcessor(SQS.type, record_time_limit=LIMIT)

    response = response_of(processor, events.sqs("again", "ok"), record_handler)

    assert reported(response) == names(0)
    assert [kind for kind, _, _ in processor.exceptions] == [TimeLimitExceeded]


def test_invocation_timeout_before_record_limit_ends_the_batch(run: Run) -> None:
    """If the invocation times out before a record's limit, the batch ends as without a limit."""
    processor = batch.BatchProcessor(SQS.type, record_time_limit=BOUND)

    outcome = run(processor, events.sqs("ok", "block", "ok"), record_handler)

    assert outcome.failed == names(1, 2)
    assert [kind for kind, _, _ in processor.exceptions] == [LambdaTimeout] * 2


def test_record_limit_applies_to_handler_in_c() -> None:
    """A record handler in C has a limit as well; a frame is made for it."""
    processor = batch.BatchProcessor(SQS.type, record_time_limit=LIMIT)
    waits = functools.partial(wait_for, threading.Event())

    response = response_of(processor, events.sqs("block", "ok"), waits)

    assert reported(response) == names(0)


def wait_for(event: threading.Event, record: Any) -> None:
    if record.body == "block":
        event.wait(BOUND)


@pytest.mark.parametrize("seconds", ["soon", True, float("nan"), 0, -1.0, []])
@pytest.mark.parametrize(
    "kind", ["BatchProcessor", "AsyncBatchProcessor", "SqsFifoPartialProcessor"]
)
def test_invalid_record_limit_is_refused(kind: str, seconds: object) -> None:
    """The limit must be a positive number, and the error shows a valid one."""
    arguments = [] if "Fifo" in kind else [SQS.type]

    with pytest.raises(ConfigurationError, match=r"^record_time_limit=.*; for example 5\.0"):
        getattr(batch, kind)(*arguments, record_time_limit=seconds)
