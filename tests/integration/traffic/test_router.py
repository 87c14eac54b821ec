"""What the router does with single requests: what it retries, what it lets pass untouched, and what it never says."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from mlserve_core import wire
from mlserve_operator.rollout.state import Route
from mlserve_operator.traffic.entry import Entry

from .router import GRPC_METHOD, NAMESPACE, Handler, Pod, router

REVISION = "digits-a"
ENTRY = Entry("digits", NAMESPACE, 10_000, Route(weights={REVISION: 100}), timeout_seconds=2)
LARGE = 5 * 1024 * 1024


def answering(status: int, headers: dict[str, str] | None = None) -> Handler:
    """A pod that always answers the same."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({"error": "said by the pod"}, status=status, headers=headers)

    return handler


async def never(request: web.Request) -> web.StreamResponse:
    """A pod that takes a request and never answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def echo(request: web.Request) -> web.StreamResponse:
    """A pod that sends back what it got, byte by byte, and echoes WebSocket messages."""
    if request.headers.get("upgrade", "").lower() == "websocket":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket
    headers = {name: request.headers[name] for name in ("content-type", "content-encoding") if name in request.headers}
    return web.Response(body=await request.read(), headers=headers)


REFUSALS = {
    "overload": (429, {"retry-after": "3"}),
    "too-large": (413, {}),
    "bad-input": (400, {}),
    "failure": (500, {}),
    "unavailable": (503, {"retry-after": "1"}),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_a_pod_says_is_said_once_and_passed_on(tmp_path: Path, name: str) -> None:
    status, headers = REFUSALS[name]
    pods = [Pod(REVISION, answering(status, headers)) for _ in range(2)]
    async with router(tmp_path, *pods) as front:
        await front.run(ENTRY)
        async with front.client.post(f"{front.url(ENTRY)}/predict", data=b"{}") as answer:
            assert answer.status == status
            assert await answer.json() == {"error": "said by the pod"}
            assert {key: answer.headers[key] for key in headers} == headers
            assert answer.headers[wire.HEADER_REVISION] == REVISION
    assert sum(len(pod.seen) for pod in pods) == 1, "it may have been carried out, so nobody else is asked"


async def test_a_draining_pod_sends_its_requests_to_another_and_is_heard_when_there_is_none(tmp_path: Path) -> None:
    draining = answering(503, {wire.HEADER_DRAINING: "true", "retry-after": "1"})
    leaving, staying = Pod(REVISION, draining), Pod(REVISION)
    async with router(tmp_path, leaving, staying) as front:
        await front.run(ENTRY)
        for path in ("predict", "feedback"):
            for number in range(60):
                body = json.dumps({"id": f"prediction-{number}"})
                async with front.client.post(f"{front.url(ENTRY)}/{path}", data=body) as answer:
                    assert answer.status == 200
            assert f"/{path}" in {request.path for request in leaving.seen}, "the test wants both to be asked"
        staying.handler = draining
        async with front.client.post(f"{front.url(ENTRY)}/predict", data=b"{}") as answer:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_draining_pod_says_so_over_grpc_too(tmp_path: Path) -> None:
    """In a trailer: with a refusal before the first message that is the only kind of header there is."""
    refused = 0

    async def refuse(_: bytes, context: Any) -> bytes:
        nonlocal refused
        refused += 1
        drains = ((wire.HEADER_DRAINING, "true"),)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "draining", trailing_metadata=drains)
        raise AssertionError

    async def answer(request: bytes, _: Any) -> bytes:
        return request

    async with router(tmp_path, Pod(REVISION, calls=refuse), Pod(REVISION, calls=answer)) as front:
        await front.run(ENTRY)
        async with grpc.aio.insecure_channel(front.url(ENTRY).removeprefix("http://")) as channel:
            infer = channel.unary_unary(GRPC_METHOD)
            assert [await infer(b"tensor", timeout=5) for _ in range(60)] == [b"tensor"] * 60
    assert refused, "the test wants both to be asked"


async def test_a_pod_that_never_answers_is_given_the_timeout_once(tmp_path: Path) -> None:
    pods = [Pod(REVISION, never) for _ in range(2)]
    async with router(tmp_path, *pods) as front:
        await front.run(ENTRY)
        started = asyncio.get_running_loop().time()
        async with front.client.post(f"{front.url(ENTRY)}/predict", data=b"{}") as answer:
            took = asyncio.get_running_loop().time() - started
            assert answer.status == 504
            assert "timeout" in (await answer.json())["error"], "errors of the router look like those of the runtime"
            assert answer.headers[wire.HEADER_REVISION] == REVISION
    assert ENTRY.timeout_seconds - 0.1 < took < ENTRY.timeout_seconds + 1.5
    assert sum(len(pod.seen) for pod in pods) == 1


async def test_a_client_that_falls_silent_is_not_waited_for(tmp_path: Path) -> None:
    """The timeout of a request begins when it is complete, and this one never is."""
    entry = Entry("digits", NAMESPACE, 10_000, Route(weights={REVISION: 100}), timeout_seconds=1)

    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with router(tmp_path, Pod(REVISION)) as front:
        await front.run(entry)
        async with asyncio.timeout(10), front.client.post(f"{front.url(entry)}/predict", data=stalls()) as answer:
            assert answer.status == 408
            assert "timeout" in (await answer.json())["error"]


async def test_a_call_that_is_never_answered_has_exceeded_its_deadline(tmp_path: Path) -> None:
    calls = 0

    async def never_answer(_: bytes, __: Any) -> bytes:
        nonlocal calls
        calls += 1
        await asyncio.Event().wait()
        raise AssertionError

    async with router(tmp_path, *(Pod(REVISION, calls=never_answer) for _ in range(2))) as front:
        await front.run(ENTRY)
        async with grpc.aio.insecure_channel(front.url(ENTRY).removeprefix("http://")) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await channel.unary_unary(GRPC_METHOD)(b"tensor", timeout=10)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert failed.value.details() == "upstream request timeout"
    assert calls == 1


async def test_bodies_pass_untouched(tmp_path: Path) -> None:
    """Larger than every buffer on the way, in chunks, compressed, over HTTP/2, and mirrored all the while."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * (LARGE // 80)

    mirror = "digits-b"
    route = Route(weights={REVISION: 100, mirror: 0}, mirror=mirror, mirror_percent=100)
    mirrored = Entry("digits", NAMESPACE, 10_000, route)
    copied: asyncio.Queue[int] = asyncio.Queue()

    async def measure(request: web.Request) -> web.StreamResponse:
        await copied.put(len(await request.read()))
        return web.Response()

    pods = [Pod(REVISION, echo), Pod(mirror, measure)]
    async with router(tmp_path, *pods) as front:
        await front.run(mirrored)
        url = f"{front.url(mirrored)}/predict"
        async with front.client.post(url, data=chunks()) as answer:
            assert (answer.status, len(await answer.read())) == (200, LARGE)
        assert pods[0].seen[-1].headers["transfer-encoding"] == "chunked"
        async with asyncio.timeout(10):
            assert await copied.get() == LARGE
        packed = gzip.compress(b'{"features": [1]}')
        sent = {"content-encoding": "gzip", "content-type": "application/json"}
        async with front.client.post(url, data=packed, headers=sent) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert await answer.json() == {"features": [1]}
        curl = await asyncio.create_subprocess_exec(
            *("curl", "--silent", "--show-error", "--http2-prior-knowledge", "--data", "over HTTP/2", url),
            *("--output", "-", "--write-out", " %{http_version}"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await curl.communicate()
        assert said == b"over HTTP/2 2"
        async with front.client.ws_connect(f"{front.url(mirrored)}/live") as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
    assert {request.headers.get(wire.HEADER_MIRROR) for request in pods[1].seen} == {"true"}
    assert {request.headers.get(wire.HEADER_MIRROR) for request in pods[0].seen} == {"false"}


@pytest.mark.parametrize("trouble", [never, answering(500), None], ids=["never-answers", "fails", "is-not-there"])
async def test_nobody_waits_for_a_copy(tmp_path: Path, trouble: Handler | None) -> None:
    shadow = "digits-b"
    route = Route(weights={REVISION: 100, shadow: 0}, mirror=shadow, mirror_percent=100)
    entry = Entry("digits", NAMESPACE, 10_000, route, timeout_seconds=20)
    copies = [Pod(shadow, trouble)] if trouble else []
    async with router(tmp_path, Pod(REVISION), *copies) as front:
        await front.run(entry)
        started = asyncio.get_running_loop().time()
        for _ in range(100):
            async with front.client.post(f"{front.url(entry)}/predict", data=b"{}") as answer:
                assert (answer.status, answer.headers[wire.HEADER_REVISION]) == (200, REVISION)
        took = asyncio.get_running_loop().time() - started
    assert took < entry.timeout_seconds / 2
    assert all(len(pod.seen) >= 99 for pod in copies), "the last may be under way"


async def test_nothing_is_logged_about_requests(tmp_path: Path) -> None:
    async with router(tmp_path, Pod(REVISION)) as front:
        await front.run(ENTRY)
        async with front.client.post(f"{front.url(ENTRY)}/predict?who=alice", data=b"{}") as answer:
            assert answer.status == 200
        assert front.log.read_bytes(), "it does log what concerns itself"
        assert b"alice" not in front.log.read_bytes()


async def test_a_neighbour_that_comes_and_goes_is_not_felt(tmp_path: Path) -> None:
    """No cross-talk, and no connection closed: each of the first model's clients keeps the one it has."""
    mine, neighbour = Pod(REVISION, echo), Pod("second-a", answering(200))
    second = Entry("second", NAMESPACE, 10_001, Route(weights={"second-a": 100}))
    async with router(tmp_path, mine, neighbour) as front:
        await front.run(ENTRY)
        done = asyncio.Event()

        async def client() -> int:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
                count = 0
                while not done.is_set():
                    async with session.post(f"{front.url(ENTRY)}/predict", data=b"mine") as answer:
                        assert (answer.status, await answer.read()) == (200, b"mine")
                    count += 1
                return count

        async with asyncio.TaskGroup() as group:
            clients = [group.create_task(client()) for _ in range(4)]
            for entries in ((ENTRY, second), (ENTRY,), (second, ENTRY)):
                await front.run(*entries)
            async with front.client.post(f"{front.url(second)}/predict", data=b"{}") as answer:
                assert await answer.json() == {"error": "said by the pod"}
            done.set()
        connections = await front.counters("downstream_cx_total")
        assert connections["http.digits"] == len(clients), "one each, from the beginning to the end"
        assert sum(task.result() for task in clients) > 100
    assert len(neighbour.seen) == 1


@pytest.mark.parametrize("by", ["application/json", "application/json; charset=utf-8", "text/plain", "header"])
async def test_feedback_on_a_prediction_always_meets_the_same_pod(tmp_path: Path, by: str) -> None:
    pods = [Pod(REVISION, echo) for _ in range(3)]
    met: dict[str, set[str]] = {f"prediction-{number}": set() for number in range(40)}
    async with router(tmp_path, *pods) as front:
        await front.run(ENTRY)
        for _ in range(3):
            for name, seen in met.items():
                body, headers = {"label": "7", "id": name}, {"content-type": by}
                if by == "header":
                    body, headers = {}, {wire.HEADER_PREDICTION_ID: name}
                before = [len(pod.seen) for pod in pods]
                async with front.client.post(
                    f"{front.url(ENTRY)}/feedback", data=json.dumps(body), headers=headers
                ) as answer:
                    assert (answer.status, json.loads(await answer.read())) == (200, body)
                seen |= {pod.address for pod, count in zip(pods, before, strict=True) if len(pod.seen) > count}
    assert {len(seen) for seen in met.values()} == {1}
    assert len(set.union(*met.values())) == 3, "and all pods have their share"


async def test_what_is_under_way_is_finished_whatever_changes(tmp_path: Path) -> None:
    """A new weight, the end of a revision, the end of the model: each begins while a request is being answered."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        arrived.set()
        await go.wait()
        return web.Response(text="done")

    canary = "digits-b"
    second = Entry("second", NAMESPACE, 10_001, Route(weights={"second-a": 100}))

    def split(weights: dict[str, int]) -> Entry:
        return Entry("digits", NAMESPACE, 10_000, Route(weights=weights), timeout_seconds=20)

    ways = {
        "a new weight": (split({REVISION: 0, canary: 100}), [split({REVISION: 100, canary: 0}), second]),
        "a revision that leaves": (split({REVISION: 0, canary: 100}), [split({REVISION: 100}), second]),
        "a model that leaves": (split({REVISION: 0, canary: 100}), [second]),
    }
    async with router(tmp_path, Pod(REVISION), Pod(canary, slow), Pod("second-a")) as front:
        for name, (before, after) in ways.items():
            arrived.clear()
            go.clear()
            await front.run(before, second)
            request = asyncio.create_task(front.client.post(f"{front.url(before)}/predict", data=b"{}"))
            await arrived.wait()
            await front.run(*after)
            go.set()
            async with await request as answer:
                assert (answer.status, await answer.text()) == (200, "done"), name


async def test_a_request_keeps_the_id_its_client_gave_it_and_gets_one_otherwise(tmp_path: Path) -> None:
    pod = Pod(REVISION)
    given = "3b241101-e2bb-4255-8caf-4136c566a962"
    async with router(tmp_path, pod) as front:
        await front.run(ENTRY)
        for headers in ({"x-request-id": given}, {}):
            async with front.client.post(f"{front.url(ENTRY)}/predict", data=b"{}", headers=headers) as answer:
                assert answer.headers["x-request-id"] == pod.seen[-1].headers["x-request-id"]
        assert pod.seen[0].headers["x-request-id"] == given
        assert pod.seen[1].headers["x-request-id"] != given
