"""The ASGI front: predictions go straight to the data plane, everything else to the FastAPI application.

No framework object is built for a prediction. Bodies are bounded while they arrive, chunked ones and those that are
no predictions too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from mlserve_runtime.batching.batcher import Batcher
from mlserve_runtime.calls import Call, Reply, Route, error_body
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.errors import ServingError
from mlserve_runtime.server.bodies import MAX_LENGTH_DIGITS, compress_for, decompress, too_large
from mlserve_runtime.server.routes import RouteTable

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


_CLOSE: Final = (b"connection", b"close")
_ALLOW: Final = (b"allow", b"POST")


class ClientGoneError(Exception):
    """The connection ended before the body did."""


class Front:
    """The ASGI application of the public port."""

    def __init__(self, plane: DataPlane, routes: RouteTable, application: Callable[[], Application]) -> None:
        self.plane = plane
        self.routes = routes
        self._application = application
        self._stamp: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def expect_body(self) -> Batcher | None:
        """A body is on its way: a batch may wait for it (see Batcher.arriving). Returns who counts it until it is here.

        Until then another model may have been opened, with a batcher of its own.
        """
        batcher = self.plane.batcher
        if batcher is not None:
            batcher.arriving += 1
        return batcher

    def common_head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The header lines every answer of this second shares, rendered once."""
        made_of, head = self._stamp
        if made_of is not default_headers:
            lines = [*default_headers, self.plane.revision_header]
            head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
            self._stamp = (default_headers, head)
        return head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._application()(scope, receive, send)
            return
        headers = dict(scope["headers"])
        route = self.routes.find(scope["raw_path"])
        if route is not None and scope["method"] != "POST":
            refused = Reply(405, error_body("predictions are asked for with POST"), headers=(_ALLOW,))
            await self._respond(refused, headers, send)
            return
        try:
            body = await self._read(headers, receive)
        except ServingError as error:
            refused = Reply(error.status, error_body(str(error)), headers=(_CLOSE,))
            await self._respond(refused, headers, send)
        except ClientGoneError:
            return
        else:
            if route is not None:
                await self._predict(route, headers, body, receive, send)
            else:
                await self._application()(scope, _replay(body, receive), self._stamped(send))

    async def _predict(
        self, route: Route, headers: dict[bytes, bytes], body: bytes, receive: Receive, send: Send
    ) -> None:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def reply(answer: Reply) -> None:
            if not answered.done():
                answered.set_result(answer)

        call = Call(route=route, headers=headers, body=body, reply=reply, received=time.perf_counter())
        gone: asyncio.Future[Any] = asyncio.ensure_future(_disconnected(receive))
        try:
            self.plane.handle(call)
            await asyncio.wait([answered, gone], return_when=asyncio.FIRST_COMPLETED)
            if answered.done():
                await self._respond(answered.result(), headers, send)
            else:
                self.plane.abandon(call)
        finally:
            gone.cancel()

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self.plane.settings.max_body_bytes
        declared = headers.get(b"content-length", b"0")
        if len(declared) > MAX_LENGTH_DIGITS or int(declared) > limit:
            raise too_large(limit)
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise too_large(limit)
            parts.append(part)
            more = message.get("more_body", False)
        return decompress(b"".join(parts), headers.get(b"content-encoding", b""), limit)

    async def _respond(self, reply: Reply, asked: dict[bytes, bytes], send: Send) -> None:
        body, encoding = compress_for(asked.get(b"accept-encoding", b""), reply.body)
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(body)),
            self.plane.revision_header,
            *reply.headers,
        ]
        if encoding:
            headers.append((b"content-encoding", encoding))
        if self.plane.draining:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _stamped(self, send: Send) -> Send:
        """Every answer names the revision that gave it."""

        async def stamped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                closing = (_CLOSE,) if self.plane.draining else ()
                message["headers"] = [*message.get("headers", ()), self.plane.revision_header, *closing]
            await send(message)

        return stamped


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already, then what comes after it."""
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await receive()

    return replayed


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
