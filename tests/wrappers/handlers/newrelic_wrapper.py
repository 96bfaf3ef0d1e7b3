"""Calls the handler of NEW_RELIC_LAMBDA_HANDLER, as New Relic's layer does."""

from __future__ import annotations

import os
from importlib import import_module

import newrelic.agent
from newrelic_lambda.lambda_handler import lambda_handler

newrelic.agent.initialize()
newrelic.agent.register_application(timeout=5.0)

_module, _, _name = os.environ["NEW_RELIC_LAMBDA_HANDLER"].rpartition(".")
handler = lambda_handler()(getattr(import_module(_module), _name))
