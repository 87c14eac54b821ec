"""What kube-proxy does with packet rules, done with sockets: a Service's address leads to one of its ready pods.

Each connection goes to the next ready endpoint; one that refuses is passed over, which is kinder than kube-proxy.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

log = logging.getLogger(__name__)
_CONNECT_SECONDS: Final = 3.0
_HIGH_WATER: Final = 1 << 18

Endpoint = tuple[str, int]


class _Pipe(asyncio.Protocol):
    """One end of a forwarded connection: what comes in here goes out there, at the speed of the slower side."""

    def __init__(self, connected: Callable[[_Pipe], None] | None = None) -> None:
        self._connected = connected
        self.transport: asyncio.Transport | None = None
        self.peer: _Pipe | None = None
        self._pending: list[bytes] = []
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - tells the type checker; asyncio promises it
        self.transport = transport
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._connected is not None:
            self._connected(self)

    def join(self, peer: _Pipe) -> None:
        """Connect both ends; what was received before goes out now."""
        self.peer, peer.peer = peer, self
        for data in self._pending:
            peer.write(data)
        self._pending.clear()
        if self._ended:
            peer.end()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        """The other side has finished sending."""
        if self.transport is not None and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._pending.append(data)
        else:
            self.peer.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self.peer is not None:
            self.peer.end()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self.peer = self.peer, None
        if peer is not None and peer.transport is not None:
            peer.peer = None
            if exc is not None:
                peer.transport.abort()
            else:
                peer.transport.close()


class Forwarder:
    """One listening address of one Service port."""

    def __init__(self, host: str, port: int, endpoints: Callable[[], Sequence[Endpoint]]) -> None:
        self.host, self.port = host, port
        self._endpoints = endpoints
        self._server: asyncio.Server | None = None
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError: PermissionError for a port below 1024 without the right to it."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pipe(self._accept), self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Take no new connections; the present ones go on, as with kube-proxy."""
        if self._server is not None:
            self._server.close()

    def _accept(self, pipe: _Pipe) -> None:
        task = asyncio.create_task(self._connect(pipe))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: _Pipe) -> None:
        endpoints = list(self._endpoints())
        loop = asyncio.get_running_loop()
        self._turn += 1
        for offset in range(len(endpoints)):
            host, port = endpoints[(self._turn + offset) % len(endpoints)]
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    _, server = await loop.create_connection(_Pipe, host, port)
            except (OSError, TimeoutError):
                continue
            if client.transport is None or client.transport.is_closing():
                if server.transport is not None:
                    server.transport.close()
                return
            server.join(client)
            client.join(server)
            return
        if client.transport is not None:
            _reset(client.transport)


def _reset(transport: asyncio.Transport) -> None:
    """Refuse as a missing backend does: by a reset, not by an orderly end."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
