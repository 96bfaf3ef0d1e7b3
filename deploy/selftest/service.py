"""The self-test's functions on AWS, in a stack made from template.yaml, through AWS's CLI."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.selftest.functions import Answer, NotSeenError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FUNCTION: Final = "AWS::Lambda::Function"
_ALIAS: Final = "live"
_DURATION: Final = re.compile(
    r'"durationMs": ?([\d.]+)|(?<!Billed )(?<!Init )(?<!Restore )Duration: ([\d.]+) ms'
)
"""The duration in Lambda's report, in both formats of the log."""

_LONGEST_DELAY: Final = 300.0
"""Seconds to wait for CloudWatch's metrics."""


class Aws:
    """AWS's command line, with the region and profile of its own settings."""

    def call(self, service: str, operation: str, *more: str, **options: object) -> Any:
        """Call an operation and return its answer.

        Raises:
            NotSeenError: The command is missing, or the operation failed; the message says how.
        """
        command = ["aws", service, operation, "--output", "json"]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        # A retry would invoke a function twice.
        environment = {**os.environ, "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": ""}
        try:
            done = subprocess.run(
                [*command, *more], capture_output=True, text=True, check=False, env=environment
            )
        except FileNotFoundError as error:
            raise NotSeenError("there is no aws on PATH; install AWS's command line") from error
        if done.returncode != 0:
            raise NotSeenError(f"{' '.join(command[:3])}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def invoke(
        self, name: str, qualifier: str, event: Mapping[str, object], *, tail: bool
    ) -> tuple[str, float]:
        """Invoke a function. Return its answer, and how many seconds it took.

        The seconds are Lambda's if the answer comes with the `tail` of the log, because AWS's
        command itself takes a second to start; otherwise they are measured on this machine.
        """
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch, "answer")
            start = time.monotonic()
            told = self.call(
                "lambda",
                "invoke",
                str(out),
                function_name=name,
                qualifier=qualifier,
                payload=json.dumps(event),
                log_type="Tail" if tail else "None",
                cli_binary_format="raw-in-base64-out",
                cli_read_timeout=0,
            )
            seconds = time.monotonic() - start
            log = base64.b64decode(told.get("LogResult", "")).decode(errors="replace")
            if reported := _DURATION.findall(log):
                seconds = float("".join(reported[-1])) / 1000
            return out.read_text(encoding="utf-8"), seconds


class ServiceFunction:
    """One function of the stack; see :class:`deploy.selftest.functions.Function`."""

    def __init__(self, aws: Aws, name: str, group: str, role: str) -> None:
        self._aws = aws
        self._name = name
        self._group = group
        # Snapshots and the workers of Managed Instances are of published versions.
        self._qualifier = _ALIAS if role in {"snapstart", "managed"} else "$LATEST"
        self._has_tail = role != "managed"  # Managed Instances refuse it

    def invoke(self, do: str, **event: object) -> Answer:
        since = time.time()
        text, seconds = self._aws.invoke(
            self._name, self._qualifier, {"do": do, **event}, tail=self._has_tail
        )
        return self._answer(text, seconds, since)

    def invoke_many(self, count: int, do: str, **event: object) -> list[Answer]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.invoke(do, **event), range(count)))

    def end(self) -> Answer:
        """Change the function's description, upon which Lambda ends its old sandboxes."""
        since = time.time()
        told = f"ended by the self-test at {since:.0f}"
        self._aws.call(
            "lambda",
            "update-function-configuration",
            function_name=self._name,
            description=told,
        )
        return self._answer("", 0.0, since)

    def _answer(self, text: str, seconds: float, since: float) -> Answer:
        def read() -> list[str]:
            found = self._aws.call(
                "logs",
                "filter-log-events",
                log_group_name=self._group,
                start_time=int(since * 1000) - 1000,
            )
            # All functions of the stack share the group; streams are named after functions.
            return [
                str(event["message"])
                for event in found["events"]
                if f"/{self._name}[" in event["logStreamName"]
            ]

        return Answer(text, seconds, read, pause=2.0)


class ServicePlatform:
    """The functions of one package type, in a stack that was deployed before.

    Args:
        stack: The stack's name.
        package: ``Image`` or ``Zip``, as the template's resources begin.
        timeout: The timeout of the stack's functions, in seconds.
        idle: Seconds of idling before a freeze is assumed.
        patience: Seconds to wait for a line of the log.
    """

    def __init__(
        self, stack: str, package: str, *, timeout: float, idle: float, patience: float
    ) -> None:
        self.name = f"Lambda, {package.lower()} functions of {stack}"
        self.timeout = timeout
        self.patience = patience
        self.lacks: Mapping[str, str] = {}
        if package == "Image":
            self.lacks = {
                "snapshot": "container images have no SnapStart; see the zip functions",
                "workers": "container images are not on Managed Instances; see the zip functions",
            }
        self._idle = idle
        self._stack = stack
        self._package = package
        self._aws = Aws()
        listed = self._aws.call("cloudformation", "describe-stack-resources", stack_name=stack)
        self._resources = {
            str(each["LogicalResourceId"]): str(each["PhysicalResourceId"])
            for each in listed["StackResources"]
            if each["ResourceType"] in {_FUNCTION, "AWS::Logs::LogGroup"}
        }

    def function(self, role: str) -> ServiceFunction:
        logical = f"{self._package}{role.capitalize()}"
        if logical not in self._resources:
            raise NotSeenError(f"{self._stack} has no {logical}; see the template's parameters")
        return ServiceFunction(self._aws, self._resources[logical], self._resources["Log"], role)

    def idle(self) -> None:
        time.sleep(self._idle)

    def counted(self, since: float, metrics: Sequence[str]) -> Mapping[str, float]:
        until = time.monotonic() + _LONGEST_DELAY
        counted = dict.fromkeys(metrics, 0.0)
        while time.monotonic() < until and not all(counted.values()):
            time.sleep(20)
            counted = {metric: self._sum(metric, since) for metric in metrics}
        return counted

    def _sum(self, metric: str, since: float) -> float:
        def moment(seconds: float) -> str:
            return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()

        found = self._aws.call(
            "cloudwatch",
            "get-metric-statistics",
            namespace="watchdog-lambda",
            metric_name=f"{self._stack}-{metric}",
            start_time=moment(since),
            end_time=moment(time.time() + 60),
            period=60,
            statistics="Sum",
        )
        return sum(float(point["Sum"]) for point in found["Datapoints"])
