from __future__ import annotations

import copy
from typing import Any

import pytest

from mlserve_core.api.v1alpha1 import Gateway
from mlserve_operator.rollout.state import Route
from mlserve_operator.traffic.gateway import build_grpc_route, build_http_route, is_confirmed

Object = dict[str, Any]
GATEWAY = Gateway.model_validate({"parentRefs": [{"name": "edge"}], "hostnames": ["digits.example.com"]})
CANARY = Route(weights={"digits-a": 95, "digits-b": 5}, preview="digits-b", mirror="digits-b", mirror_percent=10)


@pytest.fixture
def route(owner: Object) -> Object:
    return build_http_route(owner, GATEWAY, CANARY, timeout_seconds=30)


def test_every_backend_says_group_kind_port_and_weight(owner: Object, route: Object) -> None:
    backends = route["spec"]["rules"][-1]["backendRefs"]
    assert backends == [
        {"group": "", "kind": "Service", "name": "digits-a", "port": 8080, "weight": 95},
        {"group": "", "kind": "Service", "name": "digits-b", "port": 8080, "weight": 5},
    ]
    grpc = build_grpc_route(owner, GATEWAY, CANARY)["spec"]["rules"][-1]["backendRefs"]
    assert [(item["port"], item["weight"]) for item in grpc] == [(8081, 95), (8081, 5)]


def test_the_route_is_the_operators_own(route: Object) -> None:
    assert route["metadata"]["ownerReferences"][0]["uid"] == "uid-digits"
    assert route["spec"]["hostnames"] == ["digits.example.com"]
    assert route["spec"]["parentRefs"] == [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}]


def test_preview_and_mirror(owner: Object, route: Object) -> None:
    grpc_rules = build_grpc_route(owner, GATEWAY, CANARY)["spec"]["rules"]
    for preview, split in (route["spec"]["rules"], grpc_rules):
        assert preview["matches"][0]["headers"] == [{"type": "Exact", "name": "x-mlserve-preview", "value": "canary"}]
        assert [item["name"] for item in preview["backendRefs"]] == ["digits-b"]
        for rule in (preview, split):
            removed = rule["filters"][0]["requestHeaderModifier"]["remove"]
            assert removed == ["x-mlserve-mirror", "x-mlserve-unit"], "not for clients to say"
    assert "RequestMirror" not in str(grpc_rules), "a copy could not be told from an original"
    _, mirror = route["spec"]["rules"][-1]["filters"]
    assert mirror["requestMirror"]["backendRef"]["name"] == "digits-b"
    assert mirror["requestMirror"]["percent"] == 10


def parent(generation: int, *, accepted: str = "True", resolved: str = "True") -> Object:
    return {
        "conditions": [
            {"type": "Accepted", "status": accepted, "observedGeneration": generation},
            {"type": "ResolvedRefs", "status": resolved, "observedGeneration": generation},
        ]
    }


CASES = [
    pytest.param([parent(2)], CANARY, True, id="accepted"),
    pytest.param([], CANARY, False, id="nobody-answered"),
    pytest.param([parent(1)], CANARY, False, id="an-older-generation"),
    pytest.param([parent(2, resolved="False")], CANARY, False, id="unresolved"),
    pytest.param([parent(2), parent(2, accepted="False")], CANARY, False, id="one-of-two-refused"),
    pytest.param([parent(2)], Route(weights={"digits-a": 100, "digits-b": 0}), False, id="another-split"),
]


@pytest.mark.parametrize(("parents", "wanted", "expected"), CASES)
def test_a_weight_counts_when_every_parent_accepted_it(
    route: Object, parents: list[Object], wanted: Route, expected: bool
) -> None:
    live = copy.deepcopy(route)
    live["metadata"]["generation"] = 2
    live["status"] = {"parents": parents}
    assert is_confirmed(live, wanted) is expected
