"""A function under watchdog-lambda with alarms, a dashboard and queries, like ../template.yaml.

    npm install --global aws-cdk && pip install aws-cdk-lib
    cd deploy/cdk && cdk deploy --context alarm_email=ops@example.com

Without an address, subscribe to the topic yourself. The image goes to the ECR repository that
``cdk bootstrap`` has made.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_cdk import App, CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions

if TYPE_CHECKING:
    from constructs import Construct

CHECKOUT = Path(__file__).resolve().parents[2]
NAMESPACE = "watchdog-lambda"

FILTERS = {
    # One record for each timeout, however it ended.
    "Timeouts": (
        '{ $.event = "watchdog.timeout" }',
        "The watchdog has ended invocations that ran into their timeout.",
    ),
    # Invocations that could not be interrupted, so that Lambda killed them.
    "Kills": (
        '{ $.type = "platform.report" && $.record.status = "timeout" }',
        "Lambda has killed invocations that the watchdog could not end.",
    ),
    # A process that ended in an invocation. The watchdog's supervisor reports it, or else Lambda.
    "Crashes": (
        (
            '{ $.event = "watchdog.crash" || ($.type = "platform.report" && '
            '($.record.errorType = "Runtime.ExitError" || '
            '$.record.errorType = "Runtime.OutOfMemory")) }'
        ),
        "The function's process has ended in the middle of invocations.",
    ),
}

QUERIES = {
    "where timeouts happen": [
        'filter event = "watchdog.timeout"',
        "stats count(*) as timeouts, min(remaining_ms) as least_left_ms by location",
        "sort timeouts desc",
    ],
    "how timeouts end": [
        'filter event = "watchdog.timeout"',
        "stats count(*) as timeouts by outcome, bin(1h)",
    ],
    "where the time went": [
        'filter event = "watchdog.timeout" and ispresent(time_spent.lines.0.location)',
        (
            "stats count(*) as timeouts, avg(time_spent.lines.0.share) as share "
            "by time_spent.lines.0.location"
        ),
        "sort timeouts desc",
    ],
    "hooks that fail or take too long": [
        'filter event = "watchdog.timeout" and hooks.0.outcome != "ok"',
        (
            "fields @timestamp, request_id, hooks.0.name, hooks.0.outcome, hooks.0.duration_ms, "
            "hooks.0.error"
        ),
        "sort @timestamp desc",
    ],
    "killed and crashed invocations": [
        'filter type = "platform.report" and record.status != "success"',
        (
            "fields @timestamp, record.requestId, record.status, record.errorType, "
            "record.metrics.maxMemoryUsedMB"
        ),
        "sort @timestamp desc",
    ],
}


class Watched(Stack):
    """One function, and everything that monitors its timeouts."""

    def __init__(self, scope: Construct, name: str, **options: Any) -> None:
        super().__init__(scope, name, **options)
        log = logs.LogGroup(
            self,
            "Log",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log.grant_write(role)
        function = lambda_.DockerImageFunction(
            self,
            "Function",
            code=lambda_.DockerImageCode.from_image_asset(
                str(CHECKOUT),
                build_args={"APP": "examples/hooks_and_fallback"},
                exclude=[".git", ".venv*", ".nox", ".cache", "build", "dist", "cdk.out"],
            ),
            architecture=lambda_.Architecture.X86_64,
            memory_size=256,
            timeout=Duration.seconds(30),
            role=role,
            environment={"WATCHDOG_LAMBDA_GRACE_PERIOD": "3"},
            log_group=log,
            # The filters look for keys. With this format Lambda's own lines are JSON, too.
            logging_format=lambda_.LoggingFormat.JSON,
            application_log_level_v2=lambda_.ApplicationLogLevel.INFO,
            system_log_level_v2=lambda_.SystemLogLevel.INFO,
        )

        topic = sns.Topic(self, "Alarms")
        if email := self.node.try_get_context("alarm_email"):
            topic.add_subscription(subscriptions.EmailSubscription(email))
        metrics = []
        for title, (pattern, description) in FILTERS.items():
            metric = log.add_metric_filter(
                title,
                metric_namespace=NAMESPACE,
                metric_name=f"{name}-{title}",
                filter_pattern=logs.FilterPattern.literal(pattern),
                default_value=0,
            ).metric(statistic="Sum")
            self.alarm(title, metric, description, topic)
            metrics.append(metric)
        # A timeout counts here as well, unless the handler or a fallback has answered.
        errors = function.metric_errors()
        self.alarm("Errors", errors, "Invocations have failed, by a timeout or otherwise.", topic)
        # How much time was left when the handler ended. If it is close to 0, the grace period is
        # too short.
        left = log.add_metric_filter(
            "RemainingTime",
            metric_namespace=NAMESPACE,
            metric_name=f"{name}-RemainingTime",
            metric_value="$.remaining_ms",
            filter_pattern=logs.FilterPattern.literal(FILTERS["Timeouts"][0]),
            unit=cloudwatch.Unit.MILLISECONDS,
        ).metric(statistic="Minimum")

        for title, lines in QUERIES.items():
            logs.CfnQueryDefinition(
                self,
                title.title().replace(" ", ""),
                name=f"{name}/{title}",
                log_group_names=[log.log_group_name],
                query_string="\n| ".join(lines),
            )
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=f"{name}-timeouts")
        dashboard.add_widgets(
            cloudwatch.GraphWidget(
                title="Timeouts, kills, crashes", left=[*metrics, errors], width=12
            ),
            cloudwatch.GraphWidget(title="Time left after a timeout", left=[left], width=12),
        )
        dashboard.add_widgets(
            cloudwatch.LogQueryWidget(
                title="Where timeouts happen",
                log_group_names=[log.log_group_name],
                query_lines=QUERIES["where timeouts happen"],
                width=24,
            )
        )
        CfnOutput(self, "FunctionName", value=function.function_name)
        CfnOutput(self, "AlarmTopic", value=topic.topic_arn)

    def alarm(
        self, title: str, metric: cloudwatch.IMetric, description: str, topic: sns.ITopic
    ) -> None:
        """Send an alarm to the topic for each minute in which the metric is not 0."""
        cloudwatch.Alarm(
            self,
            f"{title}Alarm",
            alarm_description=description,
            metric=metric.with_(period=Duration.minutes(1)),  # type: ignore[attr-defined]
            threshold=1,
            evaluation_periods=1,
            comparison_operator=(cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD),
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        ).add_alarm_action(actions.SnsAction(topic))


if __name__ == "__main__":
    app = App()
    Watched(app, "orders")
    app.synth()
