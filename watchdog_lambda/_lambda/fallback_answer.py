"""What the caller gets of a handler's ``fallback``, as awslambdaric would send it."""

from __future__ import annotations

import json
import sys

from watchdog_lambda._engine.stage import call_bounded
from watchdog_lambda._plan import NO_FALLBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from watchdog_lambda._engine.invocation import Firing

FALLBACK_SHARE = 1 / 3
"""A fallback gets this share of the time to the hard deadline; the error is posted without it."""


def make_fallback(firing: Firing, left: float) -> tuple[tuple[bytes, str] | None, str]:
    """The fallback's body and content type, if there is one and it works; and a remark if not.

    A callable is the user's code: it runs on a thread of its own, for a bounded time.
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
        return None, " (no thread for the fallback)"
    if call.has_returned:
        return call.result, ""
    if call.error:
        return None, f" (the fallback raised {call.error})"
    return None, " (the fallback did not return in time)"


def encoded(value: object) -> tuple[bytes, str]:
    """A handler's result as awslambdaric sends it: body and content type."""
    client = sys.modules.get("awslambdaric.lambda_runtime_client")
    if client is None:
        return json.dumps(value).encode(), "application/json"
    # Looked up now: users put marshallers of their own there.
    body, kind = client.LambdaRuntimeClient.marshaller.marshal_response(value)
    return body if isinstance(body, bytes) else body.encode(), kind
