"""Clients of AWS; the server is moto's."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

from . import KEY, At, case
from .moto import REGION, alias, bucket, client, first_secret, moto, table

_ROLE = "arn:aws:iam::123456789012:role/role"


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


moto("boto3, DynamoDB", "dynamodb", table)(_item)
moto("boto3, S3", "s3", bucket)(_put_and_get)
moto("boto3, an S3 download", "s3", bucket)(_down)
moto("boto3, an S3 upload", "s3", bucket)(_up)
moto("boto3, SQS", "sqs", lambda it: it.create_queue(QueueName=KEY))(_message)
moto("boto3, SNS", "sns")(_topic)
moto("boto3, SSM", "ssm")(_parameter)
moto("boto3, Secrets Manager", "secretsmanager", first_secret)(_secret)
moto("boto3, STS", "sts")(_session)
moto("boto3, KMS", "kms", alias)(_key)
moto("boto3, CloudWatch Logs", "logs")(_log)


@moto("boto3, Lambda", "lambda", server="http")
def _(it: Any, n: int) -> int:
    return int(json.load(it.invoke(FunctionName=f"n-{n}")["Payload"])["n"])


def _resource(it: Any, at: At) -> Any:
    client(at, "dynamodb", table)
    return it.resource("dynamodb", endpoint_url=at.url("moto")).Table("table")


@case("boto3, a resource", "moto", "boto3", _resource)
def _(table: Any, n: int) -> int:
    table.put_item(Item={"id": KEY, "n": n})
    return int(table.get_item(Key={"id": KEY})["Item"]["n"])


def _row(models: Any, at: At) -> Any:
    from pynamodb import attributes

    client(at, "dynamodb", table)

    class Row(models.Model):
        class Meta:
            table_name, region, host = "table", REGION, at.url("moto", path="")

        id = attributes.UnicodeAttribute(hash_key=True)
        n = attributes.NumberAttribute()

    return Row


@case("PynamoDB", "moto", "pynamodb.models", _row)
def _(row: Any, n: int) -> int:
    row(KEY, n=n).save()
    return int(row.get(KEY).n)


@case("smart_open, S3", "moto", "smart_open", lambda it, at: (it.open, client(at, "s3", bucket)))
def _(made: Any, n: int) -> int:
    opened, it = made
    with opened(f"s3://bucket/{KEY}", "w", transport_params={"client": it}) as file:
        file.write(str(n))
    with opened(f"s3://bucket/{KEY}", transport_params={"client": it}) as file:
        return int(file.read())


def _files(it: Any, at: At) -> Any:
    client(at, "s3", bucket)
    return it.S3FileSystem(endpoint_url=at.url("moto"), use_listings_cache=False)


@case("s3fs", "moto", "s3fs", _files)
def _(files: Any, n: int) -> int:
    files.pipe_file(f"bucket/{KEY}", str(n).encode())
    return int(files.cat_file(f"bucket/{KEY}"))


def _opened(it: Any, at: At) -> Any:
    client(at, "dynamodb", table)
    return it.get_session().create_client("dynamodb", endpoint_url=at.url("moto")).__aenter__()


@case("aiobotocore, DynamoDB", "moto", "aiobotocore.session", _opened)
async def _(it: Any, n: int) -> int:
    await it.put_item(TableName="table", Item={"id": {"S": KEY}, "n": {"N": str(n)}})
    found = await it.get_item(TableName="table", Key={"id": {"S": KEY}})
    return int(found["Item"]["n"]["N"])


def _provider(it: Any, at: At) -> Any:
    ssm = client(at, "ssm")
    return ssm, it.SSMProvider(boto3_client=ssm)


powertools = "aws_lambda_powertools.utilities"


@case("Powertools, parameters", "moto", f"{powertools}.parameters", _provider)
def _(made: Any, n: int) -> int:
    it, provider = made
    it.put_parameter(Name=KEY, Value=str(n), Type="String", Overwrite=True)
    return int(provider.get(KEY, force_fetch=True) or -1)


def _once(it: Any, at: At) -> Any:
    persisted = client(at, "dynamodb", table)
    layer = it.DynamoDBPersistenceLayer(table_name="table", boto3_client=persisted)

    @it.idempotent_function(data_keyword_argument="n", persistence_store=layer)
    def once(*, n: int) -> int:
        return n

    return once


case("Powertools, idempotency", "moto", f"{powertools}.idempotency", _once)(
    lambda once, n: once(n=n)
)


def _patched(it: Any, at: At) -> Any:
    from aws_xray_sdk import global_sdk_config

    global_sdk_config.set_sdk_enabled(False)
    it.patch(("boto3",))
    return client(at, "ssm")


def _logger(it: Any, at: At) -> Any:
    logger = logging.getLogger("watchtower")
    logger.addHandler(it.CloudWatchLogHandler(boto3_client=client(at, "logs"), use_queues=False))
    return logger


case("X-Ray's SDK around boto3", "moto", "aws_xray_sdk.core", _patched)(_parameter)


@case("watchtower", "moto", "watchtower", _logger)
def _(logger: Any, n: int) -> int:
    logger.warning("%d", n)
    return n
