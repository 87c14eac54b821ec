"""A canary that dies costs no request: stable answers in its place, and what it could not do is still counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from mlserve_core import wire
from mlserve_operator.rollout.state import Route
from mlserve_operator.telemetry import Telemetry, router_counters
from mlserve_operator.traffic.entry import Entry

from .router import GRPC_METHOD, NAMESPACE, Pod, Router, router

STABLE, CANARY = "digits-a", "digits-b"
HALF = Entry(
    "digits", NAMESPACE, 10_000, Route(weights={STABLE: 50, CANARY: 50}, preview=CANARY, spare=STABLE), 2, "x-user"
)
NO_PROMISE = Entry("digits", NAMESPACE, 10_000, Route(weights={STABLE: 50, CANARY: 50}), 2, "x-user")

Answer = tuple[int, str]


async def ask(front: Router) -> list[Answer]:
    """Status and revision of 100 users' requests, a few at a time."""
    slots = asyncio.Semaphore(8)

    async def one(user: int) -> Answer:
        request = front.client.post(f"{front.url(HALF)}/predict", data=b"{}", headers={"x-user": f"user-{user}"})
        async with slots, request as answer:
            await answer.read()
            return answer.status, answer.headers[wire.HEADER_REVISION]

    return await asyncio.gather(*(one(user) for user in range(100)))


async def healthy(front: Router, revision: str, count: int) -> None:
    """Wait until the router knows so many healthy pods."""
    async with asyncio.timeout(20):
        while (await front.counters("membership_healthy"))[f"cluster.{revision}"] != count:
            await asyncio.sleep(0.05)


async def failures(front: Router) -> dict[str, int]:
    """What the operator counts against each revision."""
    pod: Any = {
        "metadata": {"name": "router", "uid": "router"},
        "status": {"podIP": front.address, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    answers = await Telemetry(front.client, time.monotonic).routers([pod])
    return {item.revision: item.failures for item in router_counters(answers, (STABLE, CANARY))}


async def test_users_of_a_canary_that_dies_are_served_by_stable_and_return_to_it(tmp_path: Path) -> None:
    stable, first, second = Pod(STABLE), Pod(CANARY), Pod(CANARY)
    async with router(tmp_path, stable, first, second) as front:
        await front.run(HALF)
        shares = await ask(front)
        users = Counter(shares)
        assert users[200, STABLE] + users[200, CANARY] == 100
        assert users[200, CANARY] > 30

        await first.stop()
        assert await ask(front) == shares, "nobody leaves the canary while it has a pod, known or not to be the last"
        await healthy(front, CANARY, 1)
        assert await ask(front) == shares
        before = await failures(front)
        assert before[CANARY] > 0

        await second.stop()
        everybody = [(200, STABLE)] * 100
        assert await ask(front) == everybody, "before the router knows that nobody is left"
        counted = await failures(front)
        assert counted[CANARY] - before[CANARY] >= users[200, CANARY], "each of them was tried on the canary"
        await healthy(front, CANARY, 0)
        assert await ask(front) == everybody, "and when it does"
        assert counted[STABLE] == 0

        await second.start()
        await healthy(front, CANARY, 1)
        assert await ask(front) == shares
        await stable.stop()
        await healthy(front, STABLE, 0)
        assert Counter(await ask(front)) == {(200, CANARY): users[200, CANARY], (503, STABLE): users[200, STABLE]}, (
            "a canary on trial does not answer for stable"
        )


async def test_without_a_spare_a_revision_answers_for_itself_alone(tmp_path: Path) -> None:
    stable, canary = Pod(STABLE), Pod(CANARY)
    async with router(tmp_path, stable, canary) as front:
        await front.run(NO_PROMISE)
        shares = await ask(front)
        await canary.stop()
        await healthy(front, CANARY, 0)
        status = {STABLE: 200, CANARY: 503}
        assert await ask(front) == [(status[revision], revision) for _, revision in shares]


async def test_calls_fall_back_too(tmp_path: Path) -> None:
    async def answer(request: bytes, _: Any) -> bytes:
        return request

    stable, canary = Pod(STABLE, calls=answer), Pod(CANARY, calls=answer)
    only = replace(HALF, route=Route(weights={STABLE: 0, CANARY: 100}, preview=CANARY, spare=STABLE))
    async with router(tmp_path, stable, canary) as front:
        await front.run(only)
        async with grpc.aio.insecure_channel(f"{front.address}:{only.port}") as channel:
            call = channel.unary_unary(GRPC_METHOD)
            assert await call(b"1", timeout=10) == b"1"
            await canary.stop()
            assert await call(b"2", timeout=10) == b"2"
            await healthy(front, CANARY, 0)
            assert await call(b"3", timeout=10) == b"3"


async def test_a_rollout_goes_through_all_its_routes_without_a_gap(tmp_path: Path) -> None:
    """Clusters come and go with revisions and never with weights: no route names one that is not there."""
    pods = Pod(STABLE), Pod(CANARY)
    routes = [
        Route(weights={STABLE: 100}),
        *(Route(weights={STABLE: 100 - w, CANARY: w}, preview=CANARY, spare=STABLE) for w in (0, 50, 100)),
        Route(weights={STABLE: 0, CANARY: 100}, spare=STABLE),
        Route(weights={CANARY: 100}),
    ]
    async with router(tmp_path, *pods) as front:
        await front.run(replace(HALF, route=routes[0]))
        found: Counter[int] = Counter()
        ended = asyncio.Event()

        async def stream() -> None:
            while not ended.is_set():
                found.update(status for status, _ in await ask(front))

        streaming = asyncio.ensure_future(stream())
        for route in routes[1:]:
            await front.run(replace(HALF, route=route))
        ended.set()
        await streaming
        assert found.keys() == {200}
