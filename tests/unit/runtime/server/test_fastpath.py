"""The short cut for predictions: what it takes, what it leaves to uvicorn, and what it relies on in uvicorn."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mlserve_runtime.calls import Call, Reply
from mlserve_runtime.server.fastpath import Exchange, protocol_for


class Plane:
    """Answers with the body it was sent, when told to."""

    def __init__(self) -> None:
        self.settings = type("Settings", (), {"max_body_bytes": 1000})
        self.draining = False
        self.in_flight = 0
        self.calls: list[Call] = []
        self.abandoned: list[Call] = []
        self.hold = False
        self.answer = b"fast:"

    def handle(self, call: Call) -> None:
        self.calls.append(call)
        if not self.hold:
            call.reply(Reply(200, self.answer + call.body))

    def abandon(self, call: Call) -> None:
        self.abandoned.append(call)


class FrontDouble:
    """The parts of the front the protocol asks for; the generic path answers `slow:` and the body."""

    def __init__(self) -> None:
        self.plane = Plane()
        self.routes = self
        self.arriving = 0
        self.watch: Callable[[], None] = lambda: None
        self.connections: set[Any] = set()

    def find(self, path: bytes) -> object | None:
        return self if path == b"/predict" else None

    def expect_body(self) -> FrontDouble:
        self.arriving += 1
        return self

    def common_head(self, _headers: Any) -> bytes:
        return b"x-common: 1\r\n"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.watch()
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (5 + len(body)))]}
        )
        await send({"type": "http.response.body", "body": b"slow:" + body})


@pytest.fixture
async def served() -> AsyncIterator[tuple[FrontDouble, int]]:
    front = FrontDouble()
    config = uvicorn.Config(
        front,
        port=0,
        http=protocol_for(front),
        lifespan="off",
        log_level="critical",
        ws="none",  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    front.connections = server.server_state.connections
    yield front, server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


async def ask(port: int, *pieces: bytes, answers: int = 1) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    found = []
    for _ in range(answers):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    return found


def post(body: bytes, *headers: bytes, path: bytes = b"/predict") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (post(b"ab"), b"fast:ab"),
        (post(b""), b"fast:"),
        (post(b"ab", path=b"/other"), b"slow:ab"),
        (CHUNKED, b"slow:ab"),
        (post(b"ab", b"Expect: 200-maybe"), b"slow:ab"),
        (post(b"ab", b"Content-Encoding: gzip"), b"slow:ab"),
        (b"GET /predict HTTP/1.1\r\nHost: x\r\n\r\n", b"slow:"),
    ],
    ids=["prediction", "empty", "other-path", "chunked", "expect", "compressed", "get"],
)
async def test_which_requests_take_the_short_cut(served: Any, request_bytes: bytes, answer: bytes) -> None:
    assert await ask(served[1], request_bytes) == [answer]


async def test_a_body_in_pieces(served: Any) -> None:
    front, port = served
    whole = post(b"abcdefgh")
    assert await ask(port, *[whole[i : i + 1] for i in range(len(whole))]) == [b"fast:abcdefgh"]
    assert front.arriving == 0


async def test_one_connection_many_requests(served: Any) -> None:
    answers = await ask(served[1], post(b"1"), post(b"2", path=b"/other"), post(b"3"), answers=3)
    assert answers == [b"fast:1", b"slow:2", b"fast:3"]


async def test_pipelined_requests_are_answered_in_order(served: Any) -> None:
    front, port = served
    front.plane.hold = True
    asking = asyncio.ensure_future(ask(port, post(b"1") + post(b"2") + post(b"3", path=b"/other"), answers=3))
    while not front.plane.calls:
        await asyncio.sleep(0)
    front.plane.calls[0].reply(Reply(200, b"late:1"))
    assert await asking == [b"late:1", b"slow:2", b"slow:3"]


async def test_a_lost_connection_abandons_its_call(served: Any) -> None:
    front, port = served
    front.plane.hold = True
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b"1"))
    while not front.plane.calls:
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    while not front.plane.abandoned:
        await asyncio.sleep(0)
    assert front.plane.abandoned == front.plane.calls


async def test_a_connection_lost_within_a_body_is_no_longer_expected(served: Any) -> None:
    front, port = served
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b"12345")[:-3])
    while not front.arriving:
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()
    while front.arriving:
        await asyncio.sleep(0)


async def test_a_declared_length_over_the_limit_is_refused_before_the_body(served: Any) -> None:
    front, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    assert front.plane.calls == []
    writer.close()
    await writer.wait_closed()


UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize("size", [1, 7, 10_000], ids=["bytes", "pieces", "whole"])
async def test_an_upgrade_to_http_2_is_ignored_and_the_body_read(served: Any, size: int) -> None:
    """Java's HttpClient asks for it with its first request of a connection."""
    requests = post(b"ab", *UPGRADE) + post(b"cd") + post(b"ef", *UPGRADE) + post(b"gh", *UPGRADE, path=b"/other")
    pieces = [requests[i : i + size] for i in range(0, len(requests), size)]
    assert await ask(served[1], *pieces, answers=4) == [b"fast:ab", b"fast:cd", b"fast:ef", b"slow:gh"]


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT a:80 HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b"CONNECT /predict HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"PRI * HTTP/1.1",
    ],
    ids=lambda line: line.decode(),
)
async def test_what_is_no_request_of_this_protocol_is_refused(served: Any, line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served[1])
    writer.write(line + b"\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nSM\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("word", [b"100-continue", b"100-Continue"])
async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(served: Any, word: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served[1])
    head, _, body = post(b"ab", b"Expect: " + word).partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await reader.readuntil(b"slow:ab")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


ENDLESS = {
    "many-headers": (b"POST /predict HTTP/1.1\r\n", b"x-a: " + b"a" * 1000 + b"\r\n"),
    "one-header": (b"POST /predict HTTP/1.1\r\nx-a: ", b"a" * 1000),
    "address": (b"GET /", b"a" * 1000),
    "trailers": (CHUNKED.removesuffix(b"\r\n"), b"x-a: " + b"a" * 1000 + b"\r\n"),
    "one-trailer": (CHUNKED.removesuffix(b"\r\n") + b"x-a: ", b"a" * 1000),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_headers_without_end_are_refused(served: Any, kind: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served[1])
    begin, more = ENDLESS[kind]
    writer.write(begin)
    for _ in range(200):
        writer.write(more)
        await writer.drain()
    answer = await reader.read()
    assert b"HTTP/1.1 431 " in answer
    assert b"the headers are larger than 65536 bytes" in answer
    writer.close()
    await writer.wait_closed()


async def test_many_requests_in_few_pieces_are_no_large_head(served: Any) -> None:
    requests = post(b"ab", b"x-a: " + b"a" * 1000) * 200
    assert await ask(served[1], requests, answers=200) == [b"fast:ab"] * 200


async def test_trailers_are_no_headers(served: Any) -> None:
    trailing = CHUNKED.removesuffix(b"\r\n") + b"x-late: 1\r\n\r\n"
    assert await ask(served[1], trailing) == [b"slow:ab"]


async def test_a_client_that_reads_no_answers_is_not_answered_without_end(served: Any) -> None:
    front, port = served
    front.plane.answer = b"x" * 1_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(post(b"ab") * 100)
    await writer.drain()
    answers = b""
    while answers.count(b"HTTP/1.1") < 100:
        answers += (await reader.read(1 << 20)).replace(b"x", b"")
    assert b"slow:ab" in answers  # the generic path, which waits until there is room to write
    assert len(front.plane.calls) < 100
    writer.close()
    await writer.wait_closed()


async def test_a_pipeline_is_answered_before_more_of_it_is_read(served: Any) -> None:
    front, port = served
    front.plane.hold = True
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(b"first"))
    while not front.plane.calls:
        await asyncio.sleep(0)
    waiting: list[int] = []
    count = 20_000
    writer.write(post(b"ab", path=b"/other") * count)
    front.watch = lambda: waiting.append(max(len(one.pipeline) for one in front.connections))
    front.plane.calls[0].reply(Reply(200, b"late"))
    answers = 0
    while answers < count:
        answers += (await reader.readuntil(b"slow:ab")).count(b"slow:ab")
    assert max(waiting) < 8_000  # what one piece may hold
    writer.close()
    await writer.wait_closed()


async def test_who_still_sends_reads_why_it_was_refused(served: Any) -> None:
    """Closed at once, the connection would be reset, and the client's library would know of nothing but that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served[1])
    writer.write(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
    answer = await reader.readuntil(b'bytes"}')
    assert answer.startswith(b"HTTP/1.1 413")
    for _ in range(100):
        writer.write(b"x" * 100_000)
        await writer.drain()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlserve_runtime.server.connection._PATIENCE_SECONDS", 0.4)


async def trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.06)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", [b"/predict", b"/other"], ids=["prediction", "other"])
async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(served: Any, path: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served[1])
    trickling = asyncio.ensure_future(trickle(writer, post(b"ab", path=path)))
    assert (await reader.read()).startswith(b"HTTP/1.1 408")
    trickling.cancel()
    writer.close()
    await writer.wait_closed()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", [b"/predict", b"/other"], ids=["prediction", "other"])
async def test_a_body_is_waited_for_as_long_as_it_goes_on(served: Any, path: bytes) -> None:
    front, port = served
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = post(b"abcdefgh", path=path)
    writer.write(whole[:-8])
    await trickle(writer, whole[-8:])  # all its pieces together take longer than the patience with each
    assert b"abcdefgh" in await reader.readuntil(b"abcdefgh")
    writer.write(whole[:-3])
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()
    while front.arriving:
        await asyncio.sleep(0)


@pytest.mark.usefixtures("impatient")
async def test_who_waits_for_an_answer_may_take_time_with_the_next_request(served: Any) -> None:
    front, port = served
    front.plane.hold = True
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    following = post(b"2")
    writer.write(post(b"1") + following[:10])
    await asyncio.sleep(0.9)  # twice the patience
    front.plane.hold = False
    front.plane.calls[0].reply(Reply(200, b"late:1"))
    writer.write(following[10:])
    assert b"fast:2" in await reader.readuntil(b"fast:2")
    writer.close()
    await writer.wait_closed()


def test_uvicorn_has_what_the_short_cut_relies_on() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    for name in ("self.cycle", "self.pipeline", "self.server_state", "self.flow", "self.parser", "self.url"):
        assert name in source
    flow = inspect.getsource(FlowControl)
    assert "self.write_paused" in flow
    assert "self.read_paused" in flow
    used_of_a_cycle = {"response_complete", "disconnected", "message_event", "keep_alive"}
    assert used_of_a_cycle <= set(Exchange.__slots__)
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    assert all(f"self.{name}" in cycle for name in used_of_a_cycle)
