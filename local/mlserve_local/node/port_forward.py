"""`kubectl port-forward`: connections to a port of a pod, multiplexed over one WebSocket.

The client opens two streams for each connection: one for errors, one for data. Both carry the port and a request id
in their headers.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from aiohttp import WSMsgType, web

from mlserve_local.node.spdy import PING, RST_STREAM, SYN_STREAM, Frame, Session, SpdyError, control, data_frame, reset

PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
RELAYED: Final = "portforward.k8s.io"
"""The same from the embedded API server: a slash is not allowed in the name of a WebSocket protocol."""
_CHUNK: Final = 32 * 1024


async def serve(request: web.Request, address: str) -> web.StreamResponse:
    """Answer one port-forward request; it lasts as long as the client stays."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise web.HTTPBadRequest(
            text=f"port-forward: this node speaks WebSocket ({PROTOCOL}); kubectl 1.31 and newer do"
        )
    socket = web.WebSocketResponse(protocols=(PROTOCOL, RELAYED), max_msg_size=1 << 26)
    await socket.prepare(request)
    tunnel = _Tunnel(socket, address)
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                for frame in tunnel.session.feed(message.data):
                    await tunnel.handle(frame)
    except SpdyError as error:
        await socket.close(code=1002, message=str(error).encode())
    finally:
        tunnel.close()
    return socket


class _Tunnel:
    """The streams of one client."""

    def __init__(self, socket: web.WebSocketResponse, address: str) -> None:
        self.session = Session()
        self._socket, self._address = socket, address
        self._errors: dict[str, int] = {}
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._early: dict[int, list[Frame]] = {}

    async def handle(self, frame: Frame) -> None:
        """React to one frame of the client."""
        if frame.kind == PING:
            await self._socket.send_bytes(control(PING, frame.data[:4]))
        elif frame.kind == SYN_STREAM:
            await self._open(frame)
        elif frame.kind == RST_STREAM:
            self._end(frame.stream)
        elif frame.kind == 0:
            await self._forward(frame)

    async def _open(self, frame: Frame) -> None:
        headers = frame.headers or {}
        await self._socket.send_bytes(self.session.syn_reply(frame.stream))
        request = headers.get("requestid", "")
        if headers.get("streamtype") == "error":
            self._errors[request] = frame.stream
        elif headers.get("streamtype") == "data" and headers.get("port", "").isdigit():
            self._early[frame.stream] = []
            task = asyncio.create_task(self._connect(frame.stream, int(headers["port"]), request))
            self._tasks[frame.stream] = task
        else:
            await self._socket.send_bytes(reset(frame.stream))

    async def _connect(self, stream: int, port: int, request: str) -> None:
        error_stream = self._errors.pop(request, None)
        try:
            reader, writer = await asyncio.open_connection(self._address, port)
        except OSError as error:
            text = f"failed to connect to {self._address}:{port} of the pod: {error}".encode()
            if error_stream is not None:
                await self._socket.send_bytes(data_frame(error_stream, text, fin=True))
            await self._socket.send_bytes(data_frame(stream, b"", fin=True))
            self._early.pop(stream, None)
            return
        self._writers[stream] = writer
        for frame in self._early.pop(stream, []):
            await self._forward(frame)
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_CHUNK):
                    await self._socket.send_bytes(data_frame(stream, data))
            await self._socket.send_bytes(data_frame(stream, b"", fin=True))
            if error_stream is not None:
                await self._socket.send_bytes(data_frame(error_stream, b"", fin=True))
        finally:
            writer.close()
            self._writers.pop(stream, None)

    async def _forward(self, frame: Frame) -> None:
        if frame.stream in self._early:
            self._early[frame.stream].append(frame)
            return
        writer = self._writers.get(frame.stream)
        if writer is None or writer.is_closing():
            return
        with contextlib.suppress(ConnectionError):
            writer.write(frame.data)
            await writer.drain()
            if frame.fin and writer.can_write_eof():
                writer.write_eof()

    def _end(self, stream: int) -> None:
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """The client is gone."""
        for task in self._tasks.values():
            task.cancel()
