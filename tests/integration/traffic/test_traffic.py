"""What users feel of a rollout: the right share, the same version every time, and no dropped request, whatever dies."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import time
from typing import Any

import aiohttp
import httpx
import psutil

from ..world import REVISION, ROUTER_PODS, Object, Stream, World, model, operator_pid  # noqa: TID252 - tests are no installed package

HELD = {"steps": [{"weight": 10, "holdSeconds": 3600}]}
INTERVAL_SECONDS = 2
QUICK = {
    "steps": [{"weight": 20, "holdSeconds": 2}, {"weight": 50, "holdSeconds": 2}],
    "analysis": {"intervalSeconds": INTERVAL_SECONDS, "minRequests": 100},
    "bakeSeconds": 3,
}
DRIFT = {"enabled": False}
LIGHT = {"image": "model-server:1", "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}}}
"""A model server that costs next to nothing, where only what lies in front of it matters."""


async def ask(url: str, headers: list[dict[str, str]], connections: int = 16) -> list[str]:
    """Who answers each request; requests go side by side on a few connections."""
    revisions = [""] * len(headers)
    numbers = iter(range(len(headers)))

    async def worker(session: aiohttp.ClientSession) -> None:
        for i in numbers:
            async with session.post(f"{url}/predict", data=b"{}", headers=headers[i]) as answer:
                assert answer.status == 200, await answer.text()
                revisions[i] = answer.headers[REVISION]

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker(session))
    return revisions


async def test_weights_are_exact_and_users_stay_with_their_version(world: World) -> None:
    names = {"share": {}, "sticky": {"stickyHeader": "x-user"}}

    def version(name: str, number: int) -> Object:
        return model(name, version=number, runtime=LIGHT, rollout=HELD, traffic=names[name], drift=DRIFT)

    world.apply(*(version(name, 1) for name in names))
    for name in names:
        world.until("Ready", "True", name=name)
    world.apply(*(version(name, 2) for name in names))
    canaries = {}
    for name in names:
        status = world.until_status(lambda status: (status.get("canary") or {}).get("stepStartedAt"), "10 %", name=name)
        assert status["canary"]["weight"] == 10
        canaries[name] = status["canary"]["revision"]

    revisions = await ask(world.url("share"), [{}] * 20_000)
    share = 100 * revisions.count(canaries["share"]) / len(revisions)
    assert abs(share - 10) <= 1, f"the canary got {share:.2f} % of 20,000 requests"

    users = [f"user-{i % 400}" for i in range(2000)]
    revisions = await ask(world.url("sticky"), [{"x-user": user} for user in users])
    seen = collections.defaultdict(set)
    for user, revision in zip(users, revisions, strict=True):
        seen[user].add(revision)
    assert [user for user, found in seen.items() if len(found) > 1] == [], "users who saw both versions"
    on_canary = sum(found == {canaries["sticky"]} for found in seen.values())
    assert 10 <= on_canary <= 80, f"{on_canary} of 400 users are on the canary at 10 %"


def test_no_request_is_dropped_whatever_happens(world: World) -> None:
    world.apply(model(version=1, replicas=2, rollout=QUICK, drift=DRIFT))
    world.until("Ready", "True")
    first = world.status()["stable"]["revision"]
    with Stream(world.url(), rate=200) as stream:
        stream.wait_for(200)
        assert stream.problems == []
        _scale_up_and_down(world)
        second = _promote_while_everything_dies(world, stream)
        assert stream.problems == []
        assert stream.answering() == {first, second}
        stream.dark = True  # from now on, what the third version cannot answer
        stream.wait_for(200)
        took, broken = _roll_back(world, stream)
        world.until_status(lambda status: status["phase"] == "RolledBack", "rolled back")
        stream.wait_for(200)
    assert 200 not in stream.of(broken), "it was broken altogether"
    assert {revision for revision, _ in stream.problems} == {broken}, "nobody else failed"
    limit = 2 * INTERVAL_SECONDS + 3
    print(f"{took:.1f} s from the first bad answer to a confirmed weight of 0")
    assert took <= limit, f"{took:.1f} s from the first bad answer to a confirmed weight of 0; limit {limit} s"


def _scale_up_and_down(world: World) -> None:
    for replicas in (3, 2):
        world.kubectl("scale", "mdep", "digits", "--replicas", str(replicas))
        world.until_status(lambda status: status["replicas"] == replicas, f"{replicas} pods")  # noqa: B023
        world.until("Ready", "True")


def _promote_while_everything_dies(world: World, stream: Stream) -> str:
    """A rollout of version 2 with one misfortune at each of its weights; returns its revision."""
    world.apply(model(version=2, replicas=2, rollout=QUICK, drift=DRIFT))

    def at(weight: int) -> Object:
        def probe(status: Object) -> bool:
            return bool((status.get("canary") or {}).get("weight") == weight)

        return world.until_status(probe, f"{weight} %")

    status = at(20)
    second: str = status["canary"]["revision"]
    kill_runtime(world, status["stable"]["revision"])
    kill_operator(world)
    at(50)
    world.kubectl("rollout", "restart", "deployment/mlserve-router")
    world.kubectl("rollout", "status", "deployment/mlserve-router", "--timeout=60s", timeout=70)
    world.until_status(lambda status: status["stable"]["revision"] == second, "promoted", seconds=90)
    world.until_status(lambda status: status["phase"] == "Healthy", "baked")
    stream.wait_for(200)
    return second


def test_a_canary_that_dies_costs_no_request(world: World) -> None:
    """Its only pod, at a weight, by kill -9: stable answers until the router or the operator sends nobody there."""
    world.apply(model(version=1, rollout=HELD, drift=DRIFT))
    world.until("Ready", "True")
    world.apply(model(version=2, rollout=HELD, drift=DRIFT))
    status = world.until_status(lambda status: (status.get("canary") or {}).get("stepStartedAt"), "10 %")
    canary = status["canary"]["revision"]
    (pod,) = world.pods(f"mlserve.io/revision={canary}")
    with Stream(world.url(), rate=200) as stream:
        stream.wait_for(200)
        assert canary in stream.answering()
        kill_runtime(world, canary)
        world.cluster.wait(
            lambda: world.get("pod", pod["metadata"]["name"])["status"]["containerStatuses"][0]["restartCount"] == 1,
            what="the canary was restarted",
        )
        stream.wait_for(200)
    assert stream.problems == []


def kill_runtime(world: World, revision: str) -> None:
    """kill -9 of one of the model servers of a revision."""
    uid = world.pods(f"mlserve.io/revision={revision}")[0]["metadata"]["uid"]
    for process in psutil.process_iter(["cmdline"]):
        if "serve" in (process.info["cmdline"] or ()) and process.environ().get("MLSERVE_POD_UID") == uid:
            process.kill()
            return
    raise AssertionError(f"no process of pod {uid}")


def kill_operator(world: World) -> None:
    """kill -9; the supervisor starts another."""
    os.kill(operator_pid(world.cluster), signal.SIGKILL)


def _roll_back(world: World, stream: Stream) -> tuple[float, str]:
    """Apply a version that fails on everything sent. Returns seconds to weight 0 at every router, and its revision."""
    world.apply(model(version=4, replicas=2, rollout=QUICK, drift=DRIFT))
    addresses = [pod["status"]["podIP"] for pod in world.pods(ROUTER_PODS)]
    assert len(addresses) == 2
    deadline = time.monotonic() + 90
    while stream.first_problem is None:
        assert time.monotonic() < deadline, f"the broken version never got a request: {world.status('digits')}"
        time.sleep(0.02)
    broken = stream.problems[0][0]
    while any(_weight(address, broken) for address in addresses):
        assert time.monotonic() < deadline, "the broken version kept its weight"
        time.sleep(0.02)
    return time.monotonic() - stream.first_problem, broken


def test_a_killed_router_is_felt_on_its_own_connections_only(world: World) -> None:
    """kill -9 of one of two, so nothing is drained: what was open there is lost, and nothing else."""
    world.apply(model(runtime=LIGHT, drift=DRIFT))
    world.until("Ready", "True")
    (port,) = {item["targetPort"] for item in world.get("service", "digits")["spec"]["ports"] if item["name"] == "http"}
    pods = {pod["metadata"]["name"]: f"http://{pod['status']['podIP']}:{port}" for pod in world.pods(ROUTER_PODS)}
    assert len(pods) == 2
    victim, survivor = pods
    front_door, fresh = world.url(), 0
    with Stream(pods[victim], rate=100) as doomed, Stream(pods[survivor], rate=100) as spared:
        doomed.wait_for(200)
        spared.wait_for(200)
        assert doomed.problems == spared.problems == []
        kill_router(victim)

        def recovered() -> bool:
            nonlocal fresh
            assert httpx.post(f"{front_door}/predict", content=b"{}", timeout=10).status_code == 200
            fresh += 1
            (status,) = world.get("pod", victim)["status"]["containerStatuses"]
            return status["restartCount"] == 1 and status["ready"]

        world.cluster.wait(recovered, what="the router is back")
        lost = len(doomed.problems)
        doomed.wait_for(200)
        spared.wait_for(200)
        assert len(doomed.problems) == lost, "once ready it serves again"
    assert spared.problems == []
    assert fresh > 1, "new connections find the other router at once"
    assert lost, "the killed one was in use"


def kill_router(pod: str) -> None:
    """kill -9 of the Envoy of a pod."""
    (process,) = (found for found in psutil.process_iter(["cmdline"]) if pod in (found.info["cmdline"] or ()))
    process.kill()


def _weight(address: str, revision: str) -> Any:
    """What a router says it gives to a revision."""
    routes = httpx.get(f"http://{address}:9090/config-hash", timeout=5).json()["routes"]
    return routes["digits"]["weights"].get(revision, 0)


def test_a_router_that_cannot_be_made_is_said_of_its_models(world: World) -> None:
    wrong = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    world.apply(model(runtime=LIGHT, traffic={"router": {"resources": wrong}}))
    found = world.until("Ready", "False", "ObjectRefused")
    assert "mlserve-router" in found["message"]
    assert "limit" in found["message"]
    world.apply(model(runtime=LIGHT))
    world.until("Ready", "True")
