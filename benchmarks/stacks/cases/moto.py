"""What AWS's clients have in common: how they are made, and what is there for them in moto."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from . import KEY, At, case

REGION = "eu-west-1"
_GIVEN = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": REGION}


def client(at: At, service: str, first: Callable[[Any], Any] = bool, server: str = "moto") -> Any:
    """One of boto3's, with its defaults; `first` makes what it works on."""
    import boto3

    os.environ |= _GIVEN
    it = boto3.client(service, endpoint_url=at.url(server))
    first(it)
    return it


def moto(
    name: str, service: str, first: Callable[[Any], Any] = bool, server: str = "moto"
) -> Callable[[Any], Any]:
    """Enter what asks a client of a service, and nothing else."""
    return case(
        name, server, "boto3", lambda _, at: client(at, service, first, server), family="aws"
    )


def table(it: Any) -> None:
    if not it.list_tables()["TableNames"]:
        it.create_table(
            TableName="table",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )


def bucket(it: Any) -> None:
    if not it.list_buckets()["Buckets"]:
        it.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": REGION})


def first_secret(it: Any) -> None:
    if not it.list_secrets(Filters=[{"Key": "name", "Values": [KEY]}])["SecretList"]:
        it.create_secret(Name=KEY, SecretString="0")


def alias(it: Any) -> None:
    if not any(alias["AliasName"] == "alias/key" for alias in it.list_aliases()["Aliases"]):
        key = it.create_key()["KeyMetadata"]["KeyId"]
        it.create_alias(AliasName="alias/key", TargetKeyId=key)
