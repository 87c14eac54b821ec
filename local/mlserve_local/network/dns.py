"""The DNS server: cluster names from the local copies of Services and EndpointSlices, others from the host's resolvers.

It listens on UDP and TCP at one loopback address and a port above 1024, for Envoy's resolver and for `dig`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dnslib import CNAME, QTYPE, RCODE, RR, SRV, A, DNSRecord

from mlserve_local.network.names import Answer, is_cluster_name

log = logging.getLogger(__name__)
TTL_SECONDS: Final = 5
_UDP_BYTES: Final = 512
_UPSTREAM_SECONDS: Final = 2.0

Resolver = Callable[[str], Answer]


def answer(query: DNSRecord, resolve: Resolver) -> DNSRecord:
    """The reply to a question about a cluster name."""
    question = query.q
    name = str(question.qname)
    found = resolve(name)
    reply = query.reply(ra=1, aa=1)
    if not found.known:
        reply.header.rcode = RCODE.NXDOMAIN
        return reply
    kind = QTYPE[question.qtype]
    if found.alias:
        reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(found.alias), ttl=TTL_SECONDS))
    if kind in ("A", "ANY"):
        for address in found.addresses:
            reply.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=TTL_SECONDS))
    if kind in ("SRV", "ANY"):
        for server in found.servers:
            record = SRV(priority=0, weight=1, port=server.port, target=server.target)
            reply.add_answer(RR(name, QTYPE.SRV, rdata=record, ttl=TTL_SECONDS))
    return reply


def host_resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The name servers of the host."""
    try:
        return re.findall(r"^\s*nameserver\s+([0-9.]+)", path.read_text(), re.MULTILINE)
    except OSError:
        return []


class DnsServer:
    """Serves UDP and TCP on one address; an async context manager."""

    def __init__(self, resolve: Resolver, host: str, port: int, upstream: list[str] | None = None) -> None:
        self._resolve, self._host, self.port = resolve, host, port
        self._upstream = host_resolvers() if upstream is None else upstream
        self._tcp: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._tcp = await asyncio.start_server(self._serve_tcp, self._host, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self._datagram), local_addr=(self._host, self.port)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tcp:
            self._tcp.close()
        if self._udp:
            self._udp.close()

    def _datagram(self, data: bytes, address: tuple[str, int]) -> None:
        task = asyncio.create_task(self._reply_by_datagram(data, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply_by_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        reply = await self.handle(data)
        if reply is not None and self._udp is not None:
            if len(reply) > _UDP_BYTES:
                short = DNSRecord.parse(reply).truncate()
                reply = short.pack()
            self._udp.sendto(reply, address)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                reply = await self.handle(await reader.readexactly(size))
                if reply is None:
                    break
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        writer.close()

    async def handle(self, data: bytes) -> bytes | None:
        """The reply to a packed query; None for what is no query."""
        try:
            query = DNSRecord.parse(data)
            name = str(query.q.qname)
        except Exception:  # noqa: BLE001 - dnslib raises whatever a hostile packet provokes
            return None
        if is_cluster_name(name):
            return bytes(answer(query, self._resolve).pack())
        for server in self._upstream:
            reply = await _ask(server, data)
            if reply is not None:
                return reply
        refusal = query.reply()
        refusal.header.rcode = RCODE.SERVFAIL if self._upstream else RCODE.REFUSED
        return bytes(refusal.pack())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._received(data, addr)


async def _ask(server: str, data: bytes) -> bytes | None:
    """Relay a query to one of the host's resolvers."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[bytes] = loop.create_future()

    def received(answer_: bytes, _: tuple[str, int]) -> None:
        if not reply.done():
            reply.set_result(answer_)

    transport = None
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(received), remote_addr=(server, 53))
        transport.sendto(data)
        async with asyncio.timeout(_UPSTREAM_SECONDS):
            return await reply
    except (OSError, TimeoutError):
        return None
    finally:
        if transport is not None:
            transport.close()
