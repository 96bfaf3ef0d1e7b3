"""Powertools' batch processors, which answer a timeout with the right ``batchItemFailures``.

Use this module instead of ``aws_lambda_powertools.utilities.batch``. It has the same names and
arguments, and one more argument: ``record_time_limit``, the seconds that one record may take. Under
the watchdog a timeout then ends the batch, not the invocation. Finished records stay finished. The
interrupted record and those not begun are reported, as Lambda expects from a handler with
``ReportBatchItemFailures``. Outside a watched invocation the processors behave like Powertools' own
(``record_time_limit`` still applies).

Powertools treats the interrupt as the failure of one record and continues with the next. Therefore
interrupts land in record handlers only, never in Powertools' bookkeeping. Once the grace period has
begun, no further record is begun, and the handler is not interrupted until last call: the shield
around the bookkeeping stays up.

Importing this module imports Powertools' batch utility. No other module of this package does.
"""

# Powertools' batch utility is only partly typed: its records are bare dicts.
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
        raise  # a dependency of Powertools is missing
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

    A timeout does not end the invocation. The interrupted record and those not begun are reported
    as failed, together with those that failed by themselves, and the handler continues until last
    call at the latest. A record whose handler caught the interrupt and returned counts as done. If
    no record is done, `raise_on_entire_batch_failure` decides, as for any other failure of the
    whole batch.

    With `record_time_limit=seconds`, a record that takes longer fails by itself:
    :class:`~watchdog_lambda.TimeLimitExceeded` leaves its handler, the record is reported, and the
    next one is processed. The limit also works outside an invocation and in any thread. Code that
    :class:`~watchdog_lambda.time_limit` cannot interrupt, this limit cannot interrupt either.

    Raises:
        ConfigurationError: `record_time_limit` is not a number of seconds above 0.

    Thread: the handler's. In any other it behaves like Powertools' own, with `record_time_limit`.
    """


class AsyncBatchProcessor(AsyncBatch, _AsyncBatchProcessor):
    """Powertools' ``AsyncBatchProcessor``; under the watchdog it ends in time, like the sync one.

    All records are begun at once. At a timeout, finished records stay done. The others are
    cancelled (``CancelledError``), awaited until they end, and reported; one that catches the
    cancellation and returns is done. No task is left pending, unless it resists until last call.

    With `record_time_limit=seconds`, each record has this many seconds from its begin, in real
    time: time in which other records run counts too. A record that takes longer is cancelled
    through its task and reported.

    Raises:
        ConfigurationError: `record_time_limit` is not a number of seconds above 0.

    Thread: the handler's. In any other it behaves like Powertools' own, with `record_time_limit`.
    """


class SqsFifoPartialProcessor(SyncBatch, _SqsFifoPartialProcessor):
    """Powertools' ``SqsFifoPartialProcessor``; ends in time, like :class:`BatchProcessor`.

    The order within every message group is kept: all messages after the interrupted one are
    reported, those of other groups included, because none of them has been begun.

    A record that takes longer than `record_time_limit` seconds counts as failed, as after any other
    error: the messages after it are reported too, or with `skip_group_on_error` those of its group.

    Raises:
        ConfigurationError: `record_time_limit` is not a number of seconds above 0.

    Thread: the handler's. In any other it behaves like Powertools' own, with `record_time_limit`.
    """
