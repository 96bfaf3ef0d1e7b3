"""Brokers, mail and shells."""

from __future__ import annotations

import ftplib
import os
import smtplib
from typing import Any

from . import At, case


def _connected(it: Any, at: At) -> Any:
    return it.BlockingConnection(it.ConnectionParameters(port=at.port("rabbitmq")))


def _declared(connection: Any) -> tuple[Any, str]:
    channel = connection.channel()
    return channel, channel.queue_declare("", exclusive=True).method.queue


def _channel(it: Any, at: At) -> Any:
    return _declared(_connected(it, at))


def _consume(made: Any) -> Any:
    channel, queue = made
    return next(channel.consume(queue))


@case("pika, consuming", "rabbitmq", "pika", _channel, hang=_consume)
@case("pika", "rabbitmq", "pika", _channel)  # which is entered first
def _round_trip(made: Any, n: int) -> int:
    channel, queue = made
    channel.basic_publish("", queue, str(n).encode())
    while True:
        body = channel.basic_get(queue, auto_ack=True)[2]
        if body is not None and int(body) == n:
            return n


@case("pika, a connection for each call", "rabbitmq", "pika")
def _(made: Any, n: int) -> int:
    with _connected(*made) as connection:
        return _round_trip(_declared(connection), n)


def _buffer(it: Any, at: At) -> Any:
    connection = it.Connection(at.url("rabbitmq", "amqp").replace("//", "//guest:guest@"))
    return connection.SimpleBuffer("stacks")


@case("kombu", "rabbitmq", "kombu", _buffer)
def _(queue: Any, n: int) -> int:
    queue.put(n)
    while True:
        if queue.get(timeout=5.0).payload == n:
            return n


async def _async_queue(it: Any, at: At) -> Any:
    connection = await it.connect_robust(port=at.port("rabbitmq"))
    channel = await connection.channel()
    return channel, await channel.declare_queue("", exclusive=True), it.Message


async def _iterate(made: Any) -> None:
    async with made[1].iterator() as messages:
        async for _ in messages:
            pass


@case("aio-pika", "rabbitmq", "aio_pika", _async_queue, hang=_iterate)
async def _(made: Any, n: int) -> int:
    channel, queue, message = made
    await channel.default_exchange.publish(message(str(n).encode()), queue.name)
    while True:
        found = await queue.get(no_ack=True, fail=False)
        if found is not None and int(found.body) == n:
            return n


async def _subscribed(it: Any, at: At) -> Any:
    client = await it.connect(at.url("nats", "nats"))

    async def answer(message: Any) -> None:
        await message.respond(message.data)

    await client.subscribe("echo", cb=answer)
    return client, await client.subscribe("silence")


@case("nats-py", "nats", "nats", _subscribed, hang=lambda made: made[1].next_msg(timeout=60))
async def _(made: Any, n: int) -> int:
    return int((await made[0].request("echo", str(n).encode(), timeout=60)).data)


def _producer(it: Any, at: At) -> Any:
    servers = {"bootstrap.servers": f"127.0.0.1:{at.port('kafka')}"}
    return it.Producer(servers), lambda: it.Consumer({**servers, "group.id": "x"}).poll(60.0)


@case("confluent-kafka", "kafka", "confluent_kafka", _producer, hang=lambda made: made[1]())
def _(made: Any, n: int) -> int:
    delivered: list[Any] = []
    made[0].produce("topic", str(n), on_delivery=lambda _error, told: delivered.append(told))
    while not delivered:
        made[0].poll(0.1)
    return int(delivered[-1].value())


def _producers(it: Any, at: At) -> Any:
    addresses = f"127.0.0.1:{at.port('kafka')}", "127.0.0.1:9"
    return [it.Producer({"bootstrap.servers": address}) for address in addresses]


def _flush(producer: Any, n: int) -> int:
    producer.produce("topic", str(n))
    return n if producer.flush(60.0) == 0 else -1


case(
    "confluent-kafka, flushing",
    "kafka",
    "confluent_kafka",
    _producers,
    hang=lambda made: _flush(made[1], 0),
)(lambda made, n: _flush(made[0], n))


@case("smtplib", "smtp")
def _(at: Any, n: int) -> int:
    with smtplib.SMTP("127.0.0.1", at.port("smtp")) as client:
        return int(client.docmd("vrfy", str(n))[1])


@case("ftplib", "smtp")
def _(at: Any, n: int) -> int:
    client = ftplib.FTP()
    client.connect("127.0.0.1", at.port("smtp"))
    return int(client.sendcmd(f"VRFY {n}")[4:])


def _shell(it: Any, at: At) -> Any:
    client = it.SSHClient()
    client.set_missing_host_key_policy(it.AutoAddPolicy())
    key = os.environ["STACKS_SSH_KEY"]
    client.connect("127.0.0.1", at.port("ssh"), "root", key_filename=key, allow_agent=False)
    return lambda command: client.exec_command(command)[1].read()


@case("paramiko", "ssh", "paramiko", _shell, hang=lambda run: run("sleep 60"))
def _(run: Any, n: int) -> int:
    return int(run(f"echo {n}"))
