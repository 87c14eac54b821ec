"""Strategy Shadow: a new version answers copies of real requests, and nobody hears it until it is good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from ..world import ROUTER_PODS, Object, Stream, World, model  # noqa: TID252 - tests are no installed package


def shadow(version: int, steps: list[Object]) -> Object:
    """A version of the digits model that is to be tried on copies first."""
    rollout: Object = {
        "strategy": "Shadow",
        "steps": steps,
        "analysis": {"intervalSeconds": 2, "minRequests": 100},
        "bakeSeconds": 1,
    }
    return model(version=version, rollout=rollout, drift={"enabled": False})


def test_a_copy_is_judged_before_anybody_hears_it(world: World, stream: Callable[..., Stream]) -> None:
    """A good version climbs its steps after the copies, a bad one is stopped, a good one without steps is promoted."""
    step = {"weight": 50, "holdSeconds": 2}
    world.apply(shadow(1, [step]))
    world.until("Ready", "True")
    first = world.status()["stable"]["revision"]
    with stream(rate=100) as requests:
        world.apply(shadow(2, [step]))
        second = mirrored(world, requests, {first})
        world.until_status(weight_of(second, 50), "half of the requests after the copies", seconds=90)
        world.until_status(stable_is(second), "promoted", seconds=90)
        assert requests.answering() == {first, second}

        world.apply(shadow(3, [step]))
        third = mirrored(world, requests, {first, second})
        stopped = world.until_status(lambda status: status["phase"] == "RolledBack", "stopped", seconds=90)
        assert [item["reason"] for item in stopped["rejected"] if item["revision"] == third] == ["DriftRollback"]
        assert (stopped["stable"]["revision"], stopped["stable"]["weight"]) == (second, 100)

        world.apply(shadow(1, []))
        assert mirrored(world, requests, {first, second}) == first
        world.until_status(stable_is(first), "promoted without steps", seconds=90)
        requests.wait_for(100)
    assert requests.problems == []
    assert requests.answering() == {first, second}, "the bad version was never heard"


def mirrored(world: World, requests: Stream, heard: set[str]) -> str:
    """Wait until copies reach the canary, see that they are copies only, and return its revision."""

    def probe() -> Object | None:
        status = world.status()
        canary = (status.get("canary") or {}).get("revision", "")
        counts = world.telemetry(canary) if canary else []
        return {"revision": canary, "counts": counts} if counts and counts[0]["mirror"]["requests"] > 20 else None

    found: Any = world.cluster.wait(probe, seconds=60, what="copies at the canary")
    (counts,) = found["counts"]
    assert counts["live"]["requests"] == 0, "copies are no live requests"
    assert requests.answering() <= heard
    for pod in world.pods(ROUTER_PODS):
        route = httpx.get(f"http://{pod['status']['podIP']}:9090/config-hash", timeout=5).json()["routes"]["digits"]
        assert route["weights"][found["revision"]] == 0
    return str(found["revision"])


def weight_of(revision: str, weight: int) -> Callable[[Object], bool]:
    def probe(status: Object) -> bool:
        canary = status.get("canary") or {}
        return (canary.get("revision"), canary.get("weight")) == (revision, weight)

    return probe


def stable_is(revision: str) -> Callable[[Object], bool]:
    return lambda status: bool(status["stable"]["revision"] == revision)
