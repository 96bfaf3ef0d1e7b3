"""Makes the answer from a handler's ``fallback``, as awslambdaric would send it."""

from __future__ import annotations

import json
import sys

from watchdog_lambda._engine.stage import call_bounded
from watchdog_lambda._plan import NO_FALLBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._engine.invocation import Firing

FALLBACK_SHARE = 1 / 3
"""The share of the time to the hard deadline that a fallback gets before the error is posted."""


def make_fallback(firing: Firing, left: float) -> tuple[tuple[bytes, str] | None, str]:
    """Return the fallback's body and content type, or None and a remark if it does not work.

    A callable is the user's code, so it runs on its own thread, for a limited time.
    """
    invocation = firing.invocation
    fallback = invocation.plan.fallback
    if fallback is NO_FALLBACK:
        return None, ""

    def make() -> tuple[bytes, str]:
        if callable(fallback):
            return encoded(invocation.plan.answer(firing.details, invocation.event))
        return encoded(fallback)

    try:
        call = call_bounded(make, left * FALLBACK_SHARE)
    except RuntimeError:
        return None, " (no thread could be started for the fallback)"
    if call.has_returned:
        return call.result, ""
    if call.error:
        return None, f" (the fallback raised {call.error})"
    return None, " (the fallback did not return in time)"


def encoded(value: object) -> tuple[bytes, str]:
    """Encode a handler's result as awslambdaric does. Return body and content type."""
    client = sys.modules.get("awslambdaric.lambda_runtime_client")
    if client is None:
        return json.dumps(value).encode(), "application/json"
    # Look it up now: users set their own marshallers there.
    body, kind = client.LambdaRuntimeClient.marshaller.marshal_response(value)
    return body if isinstance(body, bytes) else body.encode(), kind
