"""A fleet as large as its router has places: settled it costs no write, and a model too many disturbs nobody."""

from __future__ import annotations

import time

import httpx

from mlserve_operator.traffic.envoy import MODELS_PER_ROUTER

from ..world import World, model  # noqa: TID252 - tests are no installed package

FLEET = MODELS_PER_ROUTER
WATCHED_SECONDS = 15
"""Longer than every timer of a settled resource that could write; a fleet without pods has no windows to close."""


def writes(url: str) -> float:
    """Writes of the operator to the API server so far."""
    lines = httpx.get(f"{url}/metrics", timeout=5).text.splitlines()
    return sum(
        float(line.rpartition(" ")[2]) for line in lines if line.startswith("mlserve_operator_api_writes_total{")
    )


def test_settled_models_cost_no_write(world: World) -> None:
    url = world.cluster.operator_url
    world.apply(*(model(f"fleet-{number:02}", replicas=0) for number in range(FLEET)))

    def settled() -> bool:
        items = world.get("mdep")["items"]
        phases = [item.get("status", {}).get("phase") for item in items]
        ready = [
            condition["status"]
            for item in items
            for condition in item.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready"
        ]
        return phases == ["Healthy"] * FLEET and ready == ["True"] * FLEET

    world.cluster.wait(settled, seconds=120, what="a settled fleet")
    seen = [-1.0]

    def quiet() -> bool:
        seen.append(writes(url))
        return seen[-1] == seen[-2]

    world.cluster.wait(quiet, what="no write between two looks")
    before, started = writes(url), time.monotonic()
    versions = world.versions()
    world.cluster.wait(lambda: time.monotonic() - started > WATCHED_SECONDS or None, seconds=WATCHED_SECONDS + 5)
    assert writes(url) == before
    assert world.versions() == versions
    assert httpx.get(f"{url}/livez", timeout=5).text == "ok"
    ports = {
        port["targetPort"]
        for service in world.get("services")["items"]
        for port in service["spec"]["ports"]
        if service["metadata"]["name"].count("-") == 1
    }
    assert len(ports) == FLEET, "every front door has a listener of its own"
    _one_too_many(world)
    world.kubectl("delete", "mdep", "--all", timeout=120)
    world.cluster.wait(lambda: not world.everything() or None, seconds=60, what="nothing left")


def _one_too_many(world: World) -> None:
    """It is told so, and gets the place of a model that goes."""
    router = world.get("configmap", "mlserve-router")
    world.apply(model("late", replicas=0))
    full = world.until("Ready", "False", "RouterFull", name="late")
    assert f"serves {FLEET} models" in full["message"]
    assert world.condition("Stalled", "late")["status"] == "True"
    (event,) = world.get("events", "--field-selector", "reason=RouterFull")["items"]
    assert event["type"] == "Warning"
    assert world.get("configmap", "mlserve-router")["data"] == router["data"]
    world.kubectl("delete", "mdep", "fleet-07", "--wait=false")
    world.until("Ready", "True", name="late")
