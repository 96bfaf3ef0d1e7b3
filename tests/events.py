"""Events of the sources that send batches, in the forms that AWS documents."""

from __future__ import annotations

import base64
import json
from typing import Any


def _sqs(number: int, body: str, attributes: dict[str, str], queue: str) -> dict[str, Any]:
    return {
        "messageId": f"message-{number}",
        "receiptHandle": f"handle-{number}",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
            **attributes,
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-2:123456789012:{queue}",
        "awsRegion": "us-east-2",
    }


def sqs(*bodies: str) -> dict[str, Any]:
    """Return messages of a standard queue: ``message-0`` and so on."""
    return {"Records": [_sqs(n, body, {}, "my-queue") for n, body in enumerate(bodies)]}


def fifo(*bodies: str, groups: str = "") -> dict[str, Any]:
    """Return messages of a FIFO queue; `groups` has a letter for each, and is all A by default."""
    records = []
    for number, body in enumerate(bodies):
        attributes = {
            "SequenceNumber": f"1885363760{number:010}",
            "MessageGroupId": groups[number] if groups else "A",
            "MessageDeduplicationId": f"deduplication-{number}",
        }
        records.append(_sqs(number, body, attributes, "my-queue.fifo"))
    return {"Records": records}


def kinesis(*bodies: str) -> dict[str, Any]:
    """Return records of one shard, whose sequence numbers end in 0, 1 and so on."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "1",
                    "sequenceNumber": f"4959033827149025660855969253836157109592157598913665{n}",
                    "data": base64.b64encode(body.encode()).decode(),
                    "approximateArrivalTimestamp": 1545084650.987,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000006:{n}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
                "awsRegion": "us-east-2",
                "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream",
            }
            for n, body in enumerate(bodies)
        ]
    }


def dynamodb(*bodies: str) -> dict[str, Any]:
    """Return records of a table's stream, whose sequence numbers end in 0, 1 and so on."""
    return {
        "Records": [
            {
                "eventID": str(n),
                "eventVersion": "1.0",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1693997155.0,
                    "Keys": {"Id": {"N": str(n)}},
                    "NewImage": {"Message": {"S": body}, "Id": {"N": str(n)}},
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                    "SequenceNumber": f"1110000000000000000{n}",
                    "SizeBytes": 26,
                },
                "awsRegion": "us-west-2",
                "eventName": "INSERT",
                "eventSourceARN": "arn:aws:dynamodb:us-west-2:123456789012:table/t/stream/2023",
                "eventSource": "aws:dynamodb",
            }
            for n, body in enumerate(bodies)
        ]
    }


def kafka(*bodies: str) -> dict[str, Any]:
    """Return records of one partition, by offset."""
    records = [
        {
            "topic": "mytopic",
            "partition": 0,
            "offset": n,
            "timestamp": 1545084650987,
            "timestampType": "CREATE_TIME",
            "key": base64.b64encode(b"recordKey").decode(),
            "value": base64.b64encode(json.dumps({"body": body}).encode()).decode(),
            "headers": [],
        }
        for n, body in enumerate(bodies)
    ]
    return {
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:us-east-1:0123456789019:cluster/SalesCluster/abcd1234",
        "bootstrapServers": "b-2.demo.amazonaws.com:9092,b-1.demo.amazonaws.com:9092",
        "records": {"mytopic-0": records},
    }
