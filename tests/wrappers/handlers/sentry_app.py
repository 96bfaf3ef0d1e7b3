"""A handler that enables Sentry at its import, as Sentry's documentation describes."""

from __future__ import annotations

import sentry_sdk
from app import handler
from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration

sentry_sdk.init(  # the DSN comes from SENTRY_DSN
    integrations=[AwsLambdaIntegration(timeout_warning=True)], traces_sample_rate=1.0
)

__all__ = ["handler"]
