"""Servers that are not to be had as a package, or that must do what no real one does.

    python -m benchmarks.stacks.standins NAME PORT

Each runs in the environment that has the libraries. Kafka's brokers are librdkafka's own mock.
"""

from __future__ import annotations

import json
import re
import socketserver
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final


class _Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


class Http(BaseHTTPRequestHandler):
    """Answers every request in the way of several APIs, with the number in it: ``n-7``."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do(self) -> None:
        """Any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.search(rb"n-(\d+)", self.path.encode() + body)
        n = int(found.group(1)) if found else 0
        model = {"id": str(n), "object": "model", "created": 0, "owned_by": "x", "type": "model"}
        model |= {"display_name": "x", "created_at": "2025-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": str(n)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        document = {"_index": "index", "_id": str(n), "found": True, "_source": {"n": n}}
        answer = json.dumps({"n": n, **model, "choices": [choice], "model": "x", **document})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    do_GET = do_POST = do_PUT = do_HEAD = do  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def http(port: int) -> None:
    """Serve HTTP."""
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", port), Http).serve_forever()


def grpc(port: int) -> None:
    """Serve an echo, a stream of one that goes on for a minute, and OTLP's export."""
    import concurrent.futures

    import grpc as library

    def echo(request: bytes, _context: Any) -> bytes:
        return request

    def stream(request: bytes, context: Any) -> Any:
        yield request
        while request == b"0" and context.is_active():
            time.sleep(0.1)

    def export(_request: bytes, _context: Any) -> bytes:
        return b""

    handlers = {
        "echo": library.unary_unary_rpc_method_handler(echo),
        "stream": library.unary_stream_rpc_method_handler(stream),
    }
    traces = {"Export": library.unary_unary_rpc_method_handler(export)}
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = library.server(concurrent.futures.ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers(
        (
            library.method_handlers_generic_handler("it", handlers),
            library.method_handlers_generic_handler(service, traces),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def websocket(port: int) -> None:
    """Serve an echo of messages."""
    from websockets.sync.server import serve

    def echo(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", port) as server:
        server.serve_forever()


def smtp(port: int) -> None:
    """Serve lines as mail and file servers do: a greeting, and what VRFY is given."""

    class Lines(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 hello\r\n")
            for line in self.rfile:
                said = line.split() or [b""]
                code = b"221 " if said[0].lower() == b"quit" else b"250 "
                self.wfile.write(code + said[-1] + b"\r\n")

    with _Threads(("127.0.0.1", port), Lines) as server:
        server.serve_forever()


_IS_MASTER: Final = {
    "ok": 1,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxWireVersion": 25,
    "minWireVersion": 0,
    "maxBsonObjectSize": 2**24,
    "maxMessageSizeBytes": 48_000_000,
}


def mongo(port: int) -> None:
    """Serve the handshake of MongoDB's protocol, a find that finds its filter, and an echo."""
    import bson

    class Messages(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(16):
                length, request, _, code = struct.unpack("<iiii", head)
                body = self.rfile.read(length - 16)
                is_query = code == 2004
                start = body.index(b"\0", 4) + 9 if is_query else 5
                size = struct.unpack_from("<i", body, start)[0]
                answer = _mongo_answer(bson.decode(body[start : start + size]))
                front = struct.pack("<iqii", 8, 0, 0, 1) if is_query else b"\0\0\0\0\0"
                said = front + bson.encode(answer)
                kind = 1 if is_query else 2013
                self.wfile.write(struct.pack("<iiii", 16 + len(said), 0, request, kind) + said)

    with _Threads(("127.0.0.1", port), Messages) as server:
        server.serve_forever()


def _mongo_answer(asked: dict[str, Any]) -> dict[str, Any]:
    if "find" in asked:
        return {
            "ok": 1,
            "cursor": {"id": 0, "ns": "db.collection", "firstBatch": [asked["filter"]]},
        }
    if "echo" in asked:
        return {"ok": 1, "n": asked["echo"]}
    return _IS_MASTER


def kafka(port: int) -> None:
    """Say on a port where librdkafka's mock brokers are: they choose their own."""
    import confluent_kafka

    mock = confluent_kafka.Producer({"test.mock.num.brokers": 1})
    [broker] = mock.list_topics("topic", timeout=20).brokers.values()

    class Told(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(str(broker.port).encode())

    with _Threads(("127.0.0.1", port), Told) as server:
        server.serve_forever()


SERVERS: Final = {each.__name__: each for each in (http, grpc, websocket, smtp, mongo, kafka)}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](int(sys.argv[2]))
