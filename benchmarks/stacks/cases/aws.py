"""Clients of AWS; the server is moto's."""

from __future__ import annotations

import io
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from . import At, case

if TYPE_CHECKING:
    from collections.abc import Callable

REGION = "eu-west-1"
_GIVEN = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": REGION}
KEY = f"key-{os.getpid()}"
"""For this function alone."""

_ROLE = "arn:aws:iam::123456789012:role/role"


def client(at: At, service: str, server: str = "moto") -> Any:
    """One of boto3's, with its defaults."""
    import boto3

    os.environ |= _GIVEN
    return boto3.client(service, endpoint_url=at.url(server))


def _plain(
    name: str, service: str, ask: Callable[[Any, int], int], first: Callable[[Any], Any] | None
) -> None:
    """Enter a case whose client is all that there is; `first` makes what it works on."""

    @case(f"boto3, {name}", "moto")
    def _(at: At) -> Any:
        it = client(at, service)
        if first is not None:
            first(it)
        return lambda n: ask(it, n)


def _put_and_get(it: Any, n: int) -> int:
    it.put_object(Bucket="bucket", Key=KEY, Body=str(n).encode())
    return int(it.get_object(Bucket="bucket", Key=KEY)["Body"].read())


def _down(it: Any, n: int) -> int:
    it.put_object(Bucket="bucket", Key=KEY, Body=str(n).encode())
    there = io.BytesIO()
    it.download_fileobj("bucket", KEY, there)
    return int(there.getvalue())


def _up(it: Any, n: int) -> int:
    it.upload_fileobj(io.BytesIO(str(n).encode()), "bucket", KEY)
    return int(it.get_object(Bucket="bucket", Key=KEY)["Body"].read())


def _item(it: Any, n: int) -> int:
    it.put_item(TableName="table", Item={"id": {"S": KEY}, "n": {"N": str(n)}})
    return int(it.get_item(TableName="table", Key={"id": {"S": KEY}})["Item"]["n"]["N"])


def _message(it: Any, n: int) -> int:
    url = it.get_queue_url(QueueName=KEY)["QueueUrl"]
    it.send_message(QueueUrl=url, MessageBody=str(n))
    # Those of a call that was interrupted are there, too.
    while True:
        for message in it.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            it.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            if int(message["Body"]) == n:
                return n


def _table(it: Any) -> None:
    if not it.list_tables()["TableNames"]:
        it.create_table(
            TableName="table",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )


def _bucket(it: Any) -> None:
    if not it.list_buckets()["Buckets"]:
        it.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})


def _secret(it: Any, n: int) -> int:
    it.put_secret_value(SecretId=KEY, SecretString=str(n))
    return int(it.get_secret_value(SecretId=KEY)["SecretString"])


def _parameter(it: Any, n: int) -> int:
    it.put_parameter(Name=KEY, Value=str(n), Type="String", Overwrite=True)
    return int(it.get_parameter(Name=KEY)["Parameter"]["Value"])


def _session(it: Any, n: int) -> int:
    user = it.assume_role(RoleArn=_ROLE, RoleSessionName=f"session-{n}")["AssumedRoleUser"]
    return int(user["Arn"].rpartition("-")[2])


def _log(it: Any, n: int) -> int:
    names = {"logGroupName": "group", "logStreamName": f"stream-{n}"}
    if not it.describe_log_groups()["logGroups"]:
        it.create_log_group(logGroupName="group")
    found = it.describe_log_streams(
        logGroupName="group", logStreamNamePrefix=names["logStreamName"]
    )
    if not found["logStreams"]:
        it.create_log_stream(**names)
    it.put_log_events(**names, logEvents=[{"timestamp": 1, "message": str(n)}])
    return n


def _topic(it: Any, n: int) -> int:
    return int(it.create_topic(Name=f"{KEY}-n-{n}")["TopicArn"].rpartition("-")[2])


def _key(it: Any, n: int) -> int:
    sealed = it.encrypt(KeyId="alias/key", Plaintext=str(n).encode())["CiphertextBlob"]
    return int(it.decrypt(CiphertextBlob=sealed)["Plaintext"])


def _first_secret(it: Any) -> None:
    if not it.list_secrets(Filters=[{"Key": "name", "Values": [KEY]}])["SecretList"]:
        it.create_secret(Name=KEY, SecretString="0")


def _alias(it: Any) -> None:
    if not any(alias["AliasName"] == "alias/key" for alias in it.list_aliases()["Aliases"]):
        key = it.create_key()["KeyMetadata"]["KeyId"]
        it.create_alias(AliasName="alias/key", TargetKeyId=key)


_plain("DynamoDB", "dynamodb", _item, _table)
_plain("S3", "s3", _put_and_get, _bucket)
_plain("an S3 download", "s3", _down, _bucket)
_plain("an S3 upload", "s3", _up, _bucket)
_plain("SQS", "sqs", _message, lambda it: it.create_queue(QueueName=KEY))
_plain("SNS", "sns", _topic, None)
_plain("SSM", "ssm", _parameter, None)
_plain("Secrets Manager", "secretsmanager", _secret, _first_secret)
_plain("STS", "sts", _session, None)
_plain("KMS", "kms", _key, _alias)
_plain("CloudWatch Logs", "logs", _log, None)


@case("boto3, Lambda", "http")
def _(at: At) -> Any:
    it = client(at, "lambda", "http")
    return lambda n: json.load(it.invoke(FunctionName=f"n-{n}")["Payload"])["n"]


@case("boto3, a resource", "moto")
def _(at: At) -> Any:
    import boto3

    _table(client(at, "dynamodb"))
    table = boto3.resource("dynamodb", endpoint_url=at.url("moto")).Table("table")

    def ask(n: int) -> int:
        table.put_item(Item={"id": KEY, "n": n})
        return int(table.get_item(Key={"id": KEY})["Item"]["n"])

    return ask


@case("PynamoDB", "moto")
def _(at: At) -> Any:
    from pynamodb import attributes, models

    _table(client(at, "dynamodb"))

    class Row(models.Model):
        class Meta:
            table_name, region, host = "table", REGION, at.url("moto", path="")

        id = attributes.UnicodeAttribute(hash_key=True)
        n = attributes.NumberAttribute()

    def ask(n: int) -> int:
        Row(KEY, n=n).save()
        return int(Row.get(KEY).n)

    return ask


@case("smart_open, S3", "moto")
def _(at: At) -> Any:
    import smart_open

    it = client(at, "s3")
    _bucket(it)

    def ask(n: int) -> int:
        with smart_open.open(f"s3://bucket/{KEY}", "w", transport_params={"client": it}) as file:
            file.write(str(n))
        with smart_open.open(f"s3://bucket/{KEY}", transport_params={"client": it}) as file:
            return int(file.read())

    return ask


@case("s3fs", "moto")
def _(at: At) -> Any:
    import s3fs

    _bucket(client(at, "s3"))
    files = s3fs.S3FileSystem(endpoint_url=at.url("moto"), use_listings_cache=False)

    def ask(n: int) -> int:
        files.pipe_file(f"bucket/{KEY}", str(n).encode())
        return int(files.cat_file(f"bucket/{KEY}"))

    return ask


@case("aiobotocore, DynamoDB", "moto")
async def _(at: At) -> Any:
    from aiobotocore.session import get_session

    _table(client(at, "dynamodb"))
    it = await get_session().create_client("dynamodb", endpoint_url=at.url("moto")).__aenter__()

    async def ask(n: int) -> int:
        await it.put_item(TableName="table", Item={"id": {"S": KEY}, "n": {"N": str(n)}})
        found = await it.get_item(TableName="table", Key={"id": {"S": KEY}})
        return int(found["Item"]["n"]["N"])

    return ask


@case("Powertools, parameters", "moto")
def _(at: At) -> Any:
    from aws_lambda_powertools.utilities.parameters import SSMProvider

    it = client(at, "ssm")
    provider = SSMProvider(boto3_client=it)

    def ask(n: int) -> int:
        it.put_parameter(Name=KEY, Value=str(n), Type="String", Overwrite=True)
        return int(provider.get(KEY, force_fetch=True) or -1)

    return ask


@case("Powertools, idempotency", "moto")
def _(at: At) -> Any:
    from aws_lambda_powertools.utilities.idempotency import (
        DynamoDBPersistenceLayer,
        idempotent_function,
    )

    it = client(at, "dynamodb")
    _table(it)
    layer = DynamoDBPersistenceLayer(table_name="table", boto3_client=it)

    @idempotent_function(data_keyword_argument="n", persistence_store=layer)
    def once(*, n: int) -> int:
        return n

    return lambda n: once(n=n)


@case("X-Ray's SDK around boto3", "moto")
def _(at: At) -> Any:
    from aws_xray_sdk import global_sdk_config
    from aws_xray_sdk.core import patch

    global_sdk_config.set_sdk_enabled(False)
    patch(("boto3",))
    it = client(at, "ssm")
    return lambda n: _parameter(it, n)


@case("watchtower", "moto")
def _(at: At) -> Any:
    import watchtower

    handler = watchtower.CloudWatchLogHandler(boto3_client=client(at, "logs"), use_queues=False)
    logger = logging.getLogger("watchtower")
    logger.addHandler(handler)

    def ask(n: int) -> int:
        logger.warning("%d", n)
        return n

    return ask
