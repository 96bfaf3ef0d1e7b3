"""Brokers, mail and shells."""

from __future__ import annotations

import ftplib
import os
import smtplib
from typing import Any

from . import At, case


def _connected(at: At) -> Any:
    import pika

    return pika.BlockingConnection(pika.ConnectionParameters(port=at.port("rabbitmq")))


def _declared(connection: Any) -> tuple[Any, str]:
    channel = connection.channel()
    return channel, channel.queue_declare("", exclusive=True).method.queue


@case("pika", "rabbitmq")
def _(at: At) -> Any:
    channel, queue = _declared(_connected(at))
    return lambda n: _round_trip(channel, queue, n)


@case("pika, consuming", "rabbitmq")
def _(at: At) -> Any:
    channel, queue = _declared(_connected(at))
    return lambda n: _round_trip(channel, queue, n), lambda: next(channel.consume(queue))


@case("pika, a connection for each call", "rabbitmq")
def _(at: At) -> Any:
    def ask(n: int) -> int:
        with _connected(at) as connection:
            return _round_trip(*_declared(connection), n)

    return ask


def _round_trip(channel: Any, queue: str, n: int) -> int:
    channel.basic_publish("", queue, str(n).encode())
    while True:
        body = channel.basic_get(queue, auto_ack=True)[2]
        if body is not None and int(body) == n:
            return n


@case("kombu", "rabbitmq")
def _(at: At) -> Any:
    import kombu

    connection = kombu.Connection(at.url("rabbitmq", "amqp").replace("//", "//guest:guest@"))
    queue = connection.SimpleBuffer("stacks")

    def ask(n: int) -> int:
        queue.put(n)
        while True:
            if queue.get(timeout=5.0).payload == n:
                return n

    return ask


@case("aio-pika", "rabbitmq")
async def _(at: At) -> Any:
    import aio_pika

    connection = await aio_pika.connect_robust(port=at.port("rabbitmq"))
    channel = await connection.channel()
    queue = await channel.declare_queue("", exclusive=True)

    async def ask(n: int) -> int:
        message = aio_pika.Message(str(n).encode())
        await channel.default_exchange.publish(message, queue.name)
        while True:
            found = await queue.get(no_ack=True, fail=False)
            if found is not None and int(found.body) == n:
                return n

    async def hang() -> None:
        async with queue.iterator() as messages:
            async for _ in messages:
                pass

    return ask, hang


@case("nats-py", "nats")
async def _(at: At) -> Any:
    import nats

    client = await nats.connect(at.url("nats", "nats"))

    async def answer(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe("echo", cb=answer)
    silent = await client.subscribe("silence")

    async def ask(n: int) -> int:
        return int((await client.request("echo", str(n).encode(), timeout=60)).data)

    return ask, lambda: silent.next_msg(timeout=60)


@case("confluent-kafka", "kafka")
def _(at: At) -> Any:
    import confluent_kafka

    servers = {"bootstrap.servers": f"127.0.0.1:{at.port('kafka')}"}
    producer = confluent_kafka.Producer(servers)

    def ask(n: int) -> int:
        delivered: list[Any] = []
        producer.produce("topic", str(n), on_delivery=lambda _error, told: delivered.append(told))
        while not delivered:
            producer.poll(0.1)
        return int(delivered[-1].value())

    return ask, lambda: confluent_kafka.Consumer({**servers, "group.id": "x"}).poll(60.0)


@case("confluent-kafka, flushing", "kafka")
def _(at: At) -> Any:
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": f"127.0.0.1:{at.port('kafka')}"})

    lost = confluent_kafka.Producer({"bootstrap.servers": "127.0.0.1:9"})

    def flush(producer: Any, n: int) -> int:
        producer.produce("topic", str(n))
        return n if producer.flush(60.0) == 0 else -1

    return lambda n: flush(producer, n), lambda: flush(lost, 0)


@case("smtplib", "smtp")
def _(at: At) -> Any:
    def ask(n: int) -> int:
        with smtplib.SMTP("127.0.0.1", at.port("smtp")) as client:
            return int(client.docmd("vrfy", str(n))[1])

    return ask


@case("ftplib", "smtp")
def _(at: At) -> Any:
    def ask(n: int) -> int:
        client = ftplib.FTP()
        client.connect("127.0.0.1", at.port("smtp"))
        return int(client.sendcmd(f"VRFY {n}")[4:])

    return ask


@case("paramiko", "ssh")
def _(at: At) -> Any:
    import paramiko

    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    key = os.environ["STACKS_SSH_KEY"]
    client.connect("127.0.0.1", at.port("ssh"), "root", key_filename=key, allow_agent=False)

    def run(command: str) -> bytes:
        said: bytes = client.exec_command(command)[1].read()
        return said

    return lambda n: int(run(f"echo {n}")), lambda: run("sleep 60")
