"""Predictions without an ASGI task: the hot path of the public port.

Per request, the generic path builds a scope, an event, a task and two messages, which costs more than a small model.
So uvicorn's connection is extended: a plain prediction (POST to a prediction path, a declared body length, no
request still being answered on the connection) goes from the parser to the data plane and from there to the socket
in two function calls. Everything else - other paths, chunked or compressed bodies, `Expect`, pipelined requests - takes
uvicorn's own way through the same data plane, so nothing is answered by different rules.

Relies on attributes of uvicorn's HttpToolsProtocol; tests/unit/runtime/server/test_fastpath.py holds them in place.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from mlserve_runtime.calls import Call, Reply, Route, error_body
from mlserve_runtime.server.bodies import MAX_LENGTH_DIGITS, compress_for, too_large
from mlserve_runtime.server.connection import Connection

if TYPE_CHECKING:
    from mlserve_runtime.batching.batcher import Batcher
    from mlserve_runtime.server.asgi import Front

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS_LINES[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_GENERIC: Final = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})
"""Headers that make a request take the generic path."""


class Exchange:
    """One prediction on a connection; stands where uvicorn expects its RequestResponseCycle."""

    __slots__ = (
        "call",
        "disconnected",
        "expected_by",
        "headers",
        "keep_alive",
        "length",
        "message_event",
        "parts",
        "response_complete",
        "route",
        "size",
    )

    def __init__(self, route: Route, headers: dict[bytes, bytes], length: int, *, keep_alive: bool) -> None:
        self.route = route
        self.headers = headers
        self.length = length
        self.keep_alive = keep_alive
        self.parts: list[bytes] = []
        self.size = 0
        self.call: Call | None = None
        self.expected_by: Batcher | None = None
        """Who was told that its body is on the way."""
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NO_EVENT

    def arrived(self) -> None:
        """Its body is here, or will never be."""
        if self.expected_by is not None:
            self.expected_by.arriving -= 1
            self.expected_by = None


class _NoEvent:
    """uvicorn wakes the task of a cycle when its connection is lost; an exchange has no task."""

    @staticmethod
    def set() -> None:
        """Nobody waits."""


_NO_EVENT: Final = _NoEvent()


class PredictionProtocol(Connection):
    """uvicorn's HTTP/1.1 connection with a short cut for predictions."""

    front: Front
    """Set on the subclass that `protocol_for` makes."""

    def on_message_begin(self) -> None:
        """A scope is built only for requests that take the generic path."""
        self.url = b""
        self.headers = []
        self._in_head = self._incomplete = True

    def on_headers_complete(self) -> None:
        """Take the short cut if this request allows it."""
        if not self.head_ended():
            return
        exchange = self._begin()
        if exchange is None:
            url, headers = self.url, self.headers
            super().on_message_begin()
            self.url = url
            self.headers.extend(headers)
            super().on_headers_complete()
            return
        self.cycle = exchange  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Collect the body of a prediction."""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            super().on_body(body)
            return
        self._unseen = 0
        exchange.parts.append(body)
        exchange.size += len(body)

    def on_message_complete(self) -> None:
        """Hand a complete prediction to the data plane."""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
            return
        self.message_ended()
        if exchange.response_complete or self._upgrading:
            return
        parts = exchange.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        front = self.front
        exchange.arrived()

        def reply(answer: Reply) -> None:
            self._write(exchange, answer)

        call = exchange.call = Call(exchange.route, exchange.headers, body, reply, time.perf_counter())
        call.alone = front.plane.in_flight + 1 >= len(self.connections)
        front.plane.handle(call)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop working for a client that is gone."""
        exchange: Any = self.cycle
        if type(exchange) is Exchange and not exchange.response_complete:
            if exchange.call is not None:
                self.front.plane.abandon(exchange.call)
            else:
                exchange.arrived()
        super().connection_lost(exc)

    def _begin(self) -> Exchange | None:
        parser = self.parser
        if parser.get_method() != b"POST" or self.flow.write_paused:
            return None  # who does not read its answers waits for room on the generic path
        route = self.front.routes.find(self.url)
        if route is None:
            return None
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            return None
        headers = dict(self.headers)
        if not _GENERIC.isdisjoint(headers):
            return None
        declared = headers.get(b"content-length", b"")
        if not declared.isdigit() or len(declared) > MAX_LENGTH_DIGITS:
            return None
        keep_alive = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        exchange = Exchange(route, headers, int(declared), keep_alive=keep_alive)
        limit = self.front.plane.settings.max_body_bytes
        if exchange.length > limit:
            exchange.keep_alive = False
            error = too_large(limit)
            self._write(exchange, Reply(error.status, error_body(str(error))))
        else:
            exchange.expected_by = self.front.expect_body()
        return exchange

    def _write(self, exchange: Exchange, reply: Reply) -> None:
        transport = self.transport
        exchange.response_complete = True
        if transport.is_closing():
            return
        if self.front.plane.draining:
            # Whoever keeps the connection must look for another replica now, not when it breaks.
            exchange.keep_alive = False
        body = reply.body
        accept = exchange.headers.get(b"accept-encoding")
        encoding = b""
        if accept is not None:
            body, encoding = compress_for(accept, body)
        head: list[bytes] = [
            _STATUS_LINES[reply.status],
            self.front.common_head(self.server_state.default_headers),
            b"content-type: ",
            reply.content_type,
            b"\r\ncontent-length: %d\r\n" % len(body),
        ]
        for name, value in reply.headers:
            head += (name, b": ", value, b"\r\n")
        if encoding:
            head += (b"content-encoding: ", encoding, b"\r\n")
        if not exchange.keep_alive:
            head.append(b"connection: close\r\n")
        head += (b"\r\n", body)
        transport.write(b"".join(head))
        if exchange.keep_alive:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            if exchange.call is None:
                self.close_unread()
            else:
                transport.close()


def protocol_for(front: Front) -> type[PredictionProtocol]:
    """The protocol class of a server, bound to its front (uvicorn makes the instances)."""
    attributes: dict[str, Any] = {"front": front}
    return type("BoundPredictionProtocol", (PredictionProtocol,), attributes)
