"""Calls of procedures, telemetry, and sockets."""

from __future__ import annotations

import socket
from typing import Any

from . import At, case


def _grpc(at: At) -> Any:
    import grpc

    return grpc.insecure_channel(f"127.0.0.1:{at.port('grpc')}")


@case("grpcio", "grpc")
def _(at: At) -> Any:
    call = _grpc(at).unary_unary("/it/echo")
    return lambda n: int(call(str(n).encode()))


@case("grpcio, a server that is not there", "grpc")
def _(at: At) -> Any:
    import grpc

    call = _grpc(at).unary_unary("/it/echo")
    nowhere = grpc.insecure_channel("127.0.0.1:9").unary_unary("/it/echo")
    return lambda n: int(call(str(n).encode())), lambda: nowhere(b"", wait_for_ready=True)


@case("grpcio, a stream", "grpc")
def _(at: At) -> Any:
    call = _grpc(at).unary_stream("/it/stream")
    return lambda n: int(next(call(str(n).encode()))), lambda: list(call(b"0"))


@case("grpcio, a future", "grpc")
def _(at: At) -> Any:
    call = _grpc(at).unary_unary("/it/echo")
    return lambda n: int(call.future(str(n).encode()).result())


@case("grpc.aio", "grpc")
async def _(at: At) -> Any:
    import grpc

    channel = grpc.aio.insecure_channel(f"127.0.0.1:{at.port('grpc')}")
    call = channel.unary_unary("/it/echo")

    async def ask(n: int) -> int:
        return int(await call(str(n).encode()))

    return ask


def _export(exporter: Any) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("stacks")

    def ask(n: int) -> int:
        with tracer.start_as_current_span(f"n-{n}"):
            return n

    return ask


@case("OpenTelemetry over gRPC", "grpc")
def _(at: At) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return _export(OTLPSpanExporter(at.url("grpc"), insecure=True, timeout=60))


@case("OpenTelemetry over HTTP", "http")
def _(at: At) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return _export(OTLPSpanExporter(at.url(path="/v1/traces"), timeout=60))


@case("websockets", "websocket")
def _(at: At) -> Any:
    from websockets.sync.client import connect

    def ask(n: int) -> int:
        with connect(at.url("websocket", "ws"), close_timeout=1.0) as client:
            client.send(str(n))
            return int(client.recv())

    return ask


@case("a socket", "smtp")
def _(at: At) -> Any:
    def ask(n: int) -> int:
        with socket.create_connection(("127.0.0.1", at.port("smtp"))) as client:
            client.recv(1000)
            client.sendall(f"vrfy {n}\r\n".encode())
            return int(client.recv(1000)[4:])

    return ask


@case("a socket, connecting")
def _(_at: At) -> Any:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(listening.getsockname())
    return lambda n: n, lambda: socket.create_connection(listening.getsockname())
