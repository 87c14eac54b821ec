"""Mode Gateway: routes of the operator's own, and a stand-in for the Gateway's controller that answers for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..world import Object, World, model  # noqa: TID252 - tests are no installed package

GATEWAY = {
    "traffic": {"mode": "Gateway", "gateway": {"parentRefs": [{"name": "edge"}]}},
    "rollout": {"strategy": "AllAtOnce", "bakeSeconds": 0},
}


def definition(kind: str, plural: str) -> Object:
    """The definition of a route, as far as an API server looks at it."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{**version, "subresources": {"status": {}}}],
        },
    }


@pytest.fixture
def gateway_api(world: World) -> None:
    world.apply(definition("HTTPRoute", "httproutes"), definition("GRPCRoute", "grpcroutes"))
    for plural in ("httproutes", "grpcroutes"):
        crd = f"crd/{plural}.gateway.networking.k8s.io"
        world.cluster.kubectl("wait", crd, "--for=condition=Established", "--timeout=20s")


def weights(world: World) -> dict[str, int]:
    rule = world.get("httproute", "digits")["spec"]["rules"][-1]
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


def accept(world: World) -> None:
    """Answer for the present generation, as a Gateway's controller does."""
    generation = world.get("httproute", "digits")["metadata"]["generation"]
    conditions: list[Any] = [
        {"type": kind, "status": "True", "observedGeneration": generation, "reason": kind,
         "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}
        for kind in ("Accepted", "ResolvedRefs")
    ]  # fmt: skip
    parents = [{"parentRef": {"name": "edge"}, "controllerName": "example.com/stand-in", "conditions": conditions}]
    patch = json.dumps({"status": {"parents": parents}})
    world.kubectl("patch", "httproute", "digits", "--subresource=status", "--type=merge", "-p", patch)


@pytest.mark.usefixtures("gateway_api")
def test_a_weight_counts_only_when_the_gateway_accepted_it(world: World) -> None:
    world.apply(model(version=1, **GATEWAY))
    world.cluster.wait(lambda: sum(weights(world).values()) == 100, what="a route to the first revision")
    assert world.condition("Ready")["status"] == "Unknown", "nobody answered for the route yet"
    accept(world)
    world.until("Ready", "True")
    (first,) = weights(world)

    world.apply(model(version=2, **GATEWAY))
    world.cluster.wait(lambda: len(weights(world)) == 2 or None, seconds=60, what="the new revision at weight 0")
    assert weights(world)[first] == 100
    revision = next(name for name in weights(world) if name != first)
    world.cluster.wait(
        lambda: "1" in world.kubectl("get", "deploy", revision, "-o", "jsonpath={.status.readyReplicas}")
    )
    assert weights(world)[first] == 100, "the step waits for the Gateway"
    accept(world)
    world.cluster.wait(lambda: weights(world).get(revision) == 100 or None, what="everything for the new revision")
    assert world.condition("Ready")["status"] != "True", "this split was not accepted yet"
    accept(world)
    world.cluster.wait(lambda: weights(world) == {revision: 100} or None, what="the old revision has left the route")
    accept(world)
    world.until("Ready", "True")
    assert world.get("mdep", "digits")["status"]["stable"]["revision"] == revision
    service = world.get("service", "digits")
    assert service["spec"]["selector"]["mlserve.io/revision"] == revision
    assert not world.kubectl("get", "deploy", "-l", "app.kubernetes.io/component=router", "-o", "name")
    world.kubectl("delete", "mdep", "digits", "--wait=false")
