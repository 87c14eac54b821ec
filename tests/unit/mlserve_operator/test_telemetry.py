"""Measurements are asked over real HTTP from servers that answer, refuse, lie or hang."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mlserve_core import wire
from mlserve_core.api.v1alpha1 import PrometheusCheck
from mlserve_operator import telemetry as module
from mlserve_operator.rollout.state import Route
from mlserve_operator.telemetry import RouterAnswer, Telemetry, confirmed_route, unreached

Object = dict[str, Any]


class Server:
    """A pod's management port; counts what it is asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.pieces = False
        self.asked: list[str] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        answer = self.answers.get(request.path)
        if answer == "hang":
            await asyncio.sleep(60)
        if answer == "elsewhere":
            raise web.HTTPFound("/another")
        if answer is None:
            return web.Response(status=404)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return await self.in_pieces(request, text.encode()) if self.pieces else web.Response(text=text)

    async def in_pieces(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """As a network of ordinary packets delivers it: the reader has the first before the last is sent."""
        response = web.StreamResponse()
        await response.prepare(request)
        for begin in range(0, len(body), -(-len(body) // 3)):
            await response.write(body[begin : begin + -(-len(body) // 3)])
            await asyncio.sleep(0.02)
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def telemetry(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Telemetry]:
    monkeypatch.setattr(module, "MANAGEMENT_PORT", server.port)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)
    async with aiohttp.ClientSession() as session:
        yield Telemetry(session, asyncio.get_running_loop().time)


def pod(name: str = "p", *, ready: bool = True) -> Object:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {wire.LABEL_REVISION: "digits-1"}},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


SNAPSHOT = {"name": "digits", "revision": "digits-1", "bootId": "b", "ready": True, "live": {"requests": 7}}


async def test_a_pod_tells_its_counters(server: Server, telemetry: Telemetry) -> None:
    server.answers["/telemetry"] = SNAPSHOT
    (seen,) = await telemetry.pods([pod()])
    assert seen.telemetry is not None
    assert seen.telemetry.live.requests == 7


async def test_an_answer_is_read_to_its_end(server: Server, telemetry: Telemetry) -> None:
    server.pieces, server.answers["/telemetry"] = True, SNAPSHOT
    (seen,) = await telemetry.pods([pod()])
    assert seen.error == ""
    assert seen.telemetry is not None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("hang", id="slow"),
        pytest.param(None, id="refuses"),
        pytest.param("<html>", id="no-json"),
        pytest.param({**SNAPSHOT, "live": {"requests": -1}}, id="negative-counter"),
        pytest.param({"bootId": "b"}, id="half-an-answer"),
        pytest.param("elsewhere", id="speaks-for-another"),
        pytest.param("[" * 100_000, id="nested-without-end"),
        pytest.param(json.dumps(SNAPSHOT) + " " * module.LARGEST_ANSWER, id="too-large"),
        pytest.param({**SNAPSHOT, "live": {"requests": 10**400}}, id="more-than-can-be-counted"),
    ],
)
async def test_a_pod_that_cannot_be_believed_is_no_measurement(
    server: Server, telemetry: Telemetry, answer: Any
) -> None:
    server.answers |= {"/telemetry": answer, "/another": SNAPSHOT}
    (seen,) = await telemetry.pods([pod()])
    assert seen.telemetry is None
    assert seen.error


async def test_a_pod_that_is_not_ready_is_not_asked(server: Server, telemetry: Telemetry) -> None:
    (seen,) = await telemetry.pods([pod(ready=False)])
    assert (seen.ready, seen.telemetry, server.asked) == (False, None, [])


async def test_one_that_hangs_costs_the_others_nothing(server: Server, telemetry: Telemetry) -> None:
    server.answers["/telemetry"] = "hang"
    loop = asyncio.get_running_loop()
    started = loop.time()
    await telemetry.pods([pod(str(number)) for number in range(20)])
    assert loop.time() - started < 10 * module.TIMEOUT_SECONDS


async def test_a_router_tells_routes_health_and_failures(server: Server, telemetry: Telemetry) -> None:
    route = Route(weights={"digits-1": 100})
    server.answers["/config-hash"] = {"hash": "h", "routes": {"digits": route.model_dump(mode="json", by_alias=True)}}
    server.answers["/stats"] = {
        "stats": [
            {"name": "cluster.digits-1.membership_healthy", "value": 2},
            {"name": "cluster.digits-1.upstream_rq_timeout", "value": 3},
            {"name": "cluster.digits-1.upstream_cx_none_healthy", "value": 4},
            {"histograms": {}},
        ]
    }
    ((_, answer),) = await telemetry.routers([pod()])
    assert answer == RouterAnswer("h", {"digits": route}, {"digits-1": 2}, {"digits-1": 7})


R0, R20 = Route(weights={"a": 100, "b": 0}), Route(weights={"a": 80, "b": 20})
HEALTHY = {"a": 1, "b": 1}
CONFIRMED = [
    pytest.param([(R0, HEALTHY), (R0, HEALTHY)], R0, id="all-agree"),
    pytest.param([(R0, HEALTHY), (R20, HEALTHY)], None, id="one-is-behind"),
    pytest.param([(R0, HEALTHY), None], None, id="one-cannot-be-asked"),
    pytest.param([], None, id="no-router"),
    pytest.param([(None, HEALTHY)], None, id="not-known-there"),
    pytest.param([(R0, HEALTHY), (R0, {"a": 1, "b": 0})], None, id="the-canary-is-not-healthy-there-yet"),
    pytest.param([(R20, {"a": 1, "b": 0})], R20, id="a-canary-that-died-with-its-weight-does-not-hide-the-route"),
]


@pytest.mark.parametrize(("said", "expected"), CONFIRMED)
def test_a_route_is_confirmed_by_every_router(said: list[Any], expected: Route | None) -> None:
    answers = [
        (pod(), None if item is None else RouterAnswer("h", {"digits": item[0]} if item[0] else {}, item[1]))
        for item in said
    ]
    assert confirmed_route(answers, "digits", ["a", "b"]) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param([(R20, HEALTHY)], {}, id="all-reached"),
        pytest.param([(R20, {"a": 0, "b": 1}), (R20, HEALTHY)], {"a": 1}, id="one-router-is-cut-off"),
        pytest.param([(R20, {}), (R20, {})], {"a": 2, "b": 2}, id="all-are"),
        pytest.param([(R0, {"a": 1})], {}, id="no-share-nothing-missed"),
        pytest.param([None, (None, {})], {}, id="cannot-be-asked-or-does-not-know-it"),
    ],
)
def test_ready_pods_that_a_router_does_not_reach(said: list[Any], expected: dict[str, int]) -> None:
    answers = [
        (pod(), None if item is None else RouterAnswer("h", {"digits": item[0]} if item[0] else {}, item[1]))
        for item in said
    ]
    assert unreached(answers, "digits", ["a", "b"]) == expected


def prometheus(result: Any, kind: str = "vector") -> Object:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.mark.parametrize(
    ("answer", "value", "error"),
    [
        pytest.param(prometheus([{"value": [0, "0.5"]}]), 0.5, "", id="vector"),
        pytest.param(prometheus([0, "2"], "scalar"), 2.0, "", id="scalar"),
        pytest.param(prometheus([]), None, "0 results", id="empty"),
        pytest.param({"status": "error", "secret": "s3cr3t"}, None, "no reason given", id="no-prometheus"),
        pytest.param({"status": "error", "error": "parse error"}, None, "parse error", id="refused"),
        pytest.param("hang", None, "TimeoutError", id="down"),
    ],
)
async def test_prometheus(server: Server, telemetry: Telemetry, answer: Any, value: float | None, error: str) -> None:
    server.answers["/api/v1/query"] = answer
    check = PrometheusCheck(name="p", address=f"http://127.0.0.1:{server.port}", query='up{r="{{revision}}"}', max="1")
    (result,) = await telemetry.queries([check], {"revision": "digits-2"})
    assert result.value == value
    assert error in result.error
