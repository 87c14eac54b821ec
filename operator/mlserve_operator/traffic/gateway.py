"""The split as a Gateway API route, where the cluster has a Gateway.

The route is the operator's own and attached to the Gateways the user names; a user's route is never touched. Group,
kind and weight are written out on every backend, because a default that an implementation fills in would look like
an edit. A weight counts as set only when every parent says that it accepted this very generation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_core import wire
from mlserve_operator.resources.metadata import child, model_labels

if TYPE_CHECKING:
    from mlserve_core.api.v1alpha1 import Gateway
    from mlserve_operator.rollout.state import Route

Object = dict[str, Any]

API_VERSION = "gateway.networking.k8s.io/v1"


_NOT_FOR_CLIENTS: Final[Object] = {
    "type": "RequestHeaderModifier",
    "requestHeaderModifier": {"remove": [wire.HEADER_MIRROR, wire.HEADER_UNIT]},
}
"""What only a router may say of a request."""
_IS_PREVIEW: Final[Object] = {"type": "Exact", "name": wire.HEADER_PREVIEW, "value": "canary"}


def build_http_route(owner: Object, gateway: Gateway, route: Route, *, timeout_seconds: int) -> Object:
    """The HTTPRoute of a ModelDeployment."""
    path = {"path": {"type": "PathPrefix", "value": "/"}}
    common: Object = {"filters": [_NOT_FOR_CLIENTS], "timeouts": {"request": f"{timeout_seconds}s"}}
    rules: list[Object] = []
    if route.preview:
        match = {**path, "headers": [_IS_PREVIEW]}
        rules.append({"matches": [match], "backendRefs": [_backend(route.preview, wire.HTTP_PORT, 1)], **common})
    rule: Object = {"matches": [path], "backendRefs": _split(route, wire.HTTP_PORT), **common}
    if route.mirror:
        mirror = {"backendRef": _reference(route.mirror, wire.HTTP_PORT), "percent": route.mirror_percent}
        rule["filters"] = [_NOT_FOR_CLIENTS, {"type": "RequestMirror", "requestMirror": mirror}]
    return _route(owner, "HTTPRoute", gateway, [*rules, rule])


def build_grpc_route(owner: Object, gateway: Gateway, route: Route) -> Object:
    """The GRPCRoute of a ModelDeployment: every method, the same split.

    Calls are not mirrored: a gateway marks its copies in the authority only, which gRPC servers in Python are not
    told, and a copy that is taken for an original would be evidence.
    """
    rules: list[Object] = []
    if route.preview:
        backends = [_backend(route.preview, wire.GRPC_PORT, 1)]
        match = {"headers": [_IS_PREVIEW]}
        rules.append({"matches": [match], "backendRefs": backends, "filters": [_NOT_FOR_CLIENTS]})
    rules.append({"backendRefs": _split(route, wire.GRPC_PORT), "filters": [_NOT_FOR_CLIENTS]})
    return _route(owner, "GRPCRoute", gateway, rules)


def is_confirmed(body: Object, route: Route) -> bool:
    """Whether every parent accepted the generation that carries this split."""
    backends = body["spec"]["rules"][-1].get("backendRefs", ())
    if {item["name"]: item["weight"] for item in backends} != route.weights:
        return False
    parents = (body.get("status") or {}).get("parents") or ()
    wanted = len(body["spec"].get("parentRefs", ()))
    return len(parents) >= wanted > 0 and all(_accepted(parent, body["metadata"]["generation"]) for parent in parents)


def _accepted(parent: Object, generation: int) -> bool:
    said = {
        condition["type"]
        for condition in parent.get("conditions", ())
        if condition["status"] == "True" and condition.get("observedGeneration") == generation
    }
    return {"Accepted", "ResolvedRefs"} <= said


def _route(owner: Object, kind: str, gateway: Gateway, rules: list[Object]) -> Object:
    name = owner["metadata"]["name"]
    parents = [{"group": "gateway.networking.k8s.io", "kind": "Gateway", **ref} for ref in gateway.parent_refs]
    spec: Object = {"parentRefs": parents, "rules": rules}
    if gateway.hostnames:
        spec["hostnames"] = list(gateway.hostnames)
    return child(API_VERSION, kind, name, owner, model_labels(name), spec=spec)


def _split(route: Route, port: int) -> list[Object]:
    return [_backend(revision, port, weight) for revision, weight in sorted(route.weights.items())]


def _backend(revision: str, port: int, weight: int) -> Object:
    return {**_reference(revision, port), "weight": weight}


def _reference(revision: str, port: int) -> Object:
    return {"group": "", "kind": "Service", "name": revision, "port": port}
