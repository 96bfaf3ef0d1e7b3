"""Powertools' batch processors, which answer a timeout with the right ``batchItemFailures``.

Use this module in the place of ``aws_lambda_powertools.utilities.batch``: same names, same
arguments, and ``record_time_limit`` beside them, the seconds that one record may take. Under the
watchdog a timeout then ends the batch, not the invocation: records that are done stay done; the one
that was interrupted and those not begun are reported, as Lambda expects it of a handler with
``ReportBatchItemFailures``. Outside of a watched invocation the processors are Powertools' own, but
for that limit.

Powertools takes the interrupt for the failure of one record and goes on with the next. So here the
interrupt lands in record handlers only, never in Powertools' bookkeeping, and once the grace period
has come no further record is begun and the handler is left alone until last call: the shield that
is up around the bookkeeping stays up.

Importing this module imports Powertools' batch utility; nothing else of the package does.
"""

# Powertools' batch utility is typed by halves: its records are bare dicts.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportDeprecated=false

from __future__ import annotations

try:
    from aws_lambda_powertools.utilities.batch import (
        AsyncBatchProcessor as _AsyncBatchProcessor,
    )
    from aws_lambda_powertools.utilities.batch import (
        BasePartialBatchProcessor,
        BasePartialProcessor,
        BatchTypeModels,
        EventType,
        ExceptionInfo,
        FailureResponse,
        SuccessResponse,
        async_batch_processor,
        async_process_partial_response,
        batch_processor,
        process_partial_response,
    )
    from aws_lambda_powertools.utilities.batch import (
        BatchProcessor as _BatchProcessor,
    )
    from aws_lambda_powertools.utilities.batch import (
        SqsFifoPartialProcessor as _SqsFifoPartialProcessor,
    )
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "aws_lambda_powertools":
        raise  # one that Powertools itself needs
    from watchdog_lambda.errors import NO_POWERTOOLS

    raise ModuleNotFoundError(f"{__name__} {NO_POWERTOOLS}", name=error.name) from None

from ._async import AsyncBatch
from ._sync import SyncBatch

__all__ = [
    "AsyncBatchProcessor",
    "BasePartialBatchProcessor",
    "BasePartialProcessor",
    "BatchProcessor",
    "BatchTypeModels",
    "EventType",
    "ExceptionInfo",
    "FailureResponse",
    "SqsFifoPartialProcessor",
    "SuccessResponse",
    "async_batch_processor",
    "async_process_partial_response",
    "batch_processor",
    "process_partial_response",
]


class BatchProcessor(SyncBatch, _BatchProcessor):
    """Powertools' ``BatchProcessor``; under the watchdog it ends in time, with a partial response.

    A timeout does not end the invocation: the record that was interrupted and those not begun are
    reported as failed, with what failed by itself, and the handler goes on until last call at the
    most. A record whose handler caught the interrupt and returned is done. If no record was done,
    `raise_on_entire_batch_failure` decides, as for any other failure of the whole batch.

    With `record_time_limit=seconds`, a record that takes longer fails by itself: its handler is
    left with :class:`~watchdog_lambda.TimeLimitExceeded`, the record is reported, and the next one
    has its turn. This also holds outside of an invocation, and in any thread; what cannot be
    interrupted is that of :class:`~watchdog_lambda.time_limit`.

    Raises:
        ConfigurationError: `record_time_limit` is not a number of seconds above 0.

    Thread: the handler's; in any other it is Powertools' own, but for `record_time_limit`.
    """


class AsyncBatchProcessor(AsyncBatch, _AsyncBatchProcessor):
    """Powertools' ``AsyncBatchProcessor``; under the watchdog it ends in time, as the sync one.

    All records are begun at once. In a timeout, those that have ended stay done, the others are
    cancelled (``CancelledError``), run to their end and reported; one that catches that and returns
    is done. No task is left pending, unless it resists until last call.

    With `record_time_limit=seconds`, each record has so much from when it was begun, by the clock:
    the time in which others run counts. One that takes longer is cancelled through its task and
    reported.

    Raises:
        ConfigurationError: `record_time_limit` is not a number of seconds above 0.

    Thread: the handler's; in any other it is Powertools' own, but for `record_time_limit`.
    """


class SqsFifoPartialProcessor(SyncBatch, _SqsFifoPartialProcessor):
    """Powertools' ``SqsFifoPartialProcessor``; ends in time, as :class:`BatchProcessor`.

    The order of every message group is kept: all messages behind the one that was interrupted are
    reported, those of other groups too, for none of them has been begun.

    A record that takes longer than `record_time_limit` seconds has failed as by any error: the
    messages behind it are reported too, or with `skip_group_on_error` those of its group.

    Raises:
        ConfigurationError: `record_time_limit` is not a number of seconds above 0.

    Thread: the handler's; in any other it is Powertools' own, but for `record_time_limit`.
    """
