"""Calls of procedures, telemetry, and sockets."""

from __future__ import annotations

import socket
from typing import Any

from . import At, case, entering, making

add, add_http = entering("grpc"), entering("http")


def _channel(it: Any, at: At) -> Any:
    return it.insecure_channel(f"127.0.0.1:{at.port('grpc')}")


def _echo(it: Any, at: At) -> Any:
    call = _channel(it, at).unary_unary("/it/echo")
    return lambda n: int(call(str(n).encode()))


def _nowhere(it: Any, at: At) -> Any:
    nowhere = it.insecure_channel("127.0.0.1:9").unary_unary("/it/echo")
    return _echo(it, at), lambda: nowhere(b"", wait_for_ready=True)


def _stream(it: Any, at: At) -> Any:
    call = _channel(it, at).unary_stream("/it/stream")
    return lambda n: int(next(call(str(n).encode()))), lambda: list(call(b"0"))


def _future(it: Any, at: At) -> Any:
    call = _channel(it, at).unary_unary("/it/echo")
    return lambda n: int(call.future(str(n).encode()).result())


add("grpcio", "grpc", _echo)
add("grpcio, a server that is not there", "grpc", _nowhere)
add("grpcio, a stream", "grpc", _stream)
add("grpcio, a future", "grpc", _future)


@case("grpc.aio", "grpc", "grpc", lambda it, at: _channel(it.aio, at).unary_unary("/it/echo"))
async def _(call: Any, n: int) -> int:
    return int(await call(str(n).encode()))


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


def _by_grpc(it: Any, at: At) -> Any:
    return _export(it.OTLPSpanExporter(at.url("grpc"), insecure=True, timeout=60))


def _by_http(it: Any, at: At) -> Any:
    return _export(it.OTLPSpanExporter(at.url(path="/v1/traces"), timeout=60))


exporter = "opentelemetry.exporter.otlp.proto.{}.trace_exporter"
add("OpenTelemetry over gRPC", exporter.format("grpc"), _by_grpc)
add_http("OpenTelemetry over HTTP", exporter.format("http"), _by_http)


@case("websockets", "websocket", "websockets.sync.client")
def _(made: Any, n: int) -> int:
    it, at = made
    with it.connect(at.url("websocket", "ws"), close_timeout=1.0) as client:
        client.send(str(n))
        return int(client.recv())


@case("a socket", "smtp")
def _(at: Any, n: int) -> int:
    with socket.create_connection(("127.0.0.1", at.port("smtp"))) as client:
        client.recv(1000)
        client.sendall(f"vrfy {n}\r\n".encode())
        return int(client.recv(1000)[4:])


@making("a socket, connecting")
def _(_library: Any, _at: At) -> Any:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(listening.getsockname())
    return int, lambda: socket.create_connection(listening.getsockname())
