"""Services: the front door of a ModelDeployment, and a headless one per revision for the router's DNS."""

from __future__ import annotations

from typing import Any

from mlserve_core import wire
from mlserve_operator.resources.metadata import child, model_labels, router_selector, runtime_selector

Object = dict[str, Any]


def build_routed_front_door(owner: Object, *, router: str, listener_port: int) -> Object:
    """The front door in mode Envoy: it leads to the model's listener on every router pod."""
    return _front_door(owner, router_selector(router), http=listener_port, grpc=listener_port)


def build_direct_front_door(owner: Object, *, revision: str) -> Object:
    """The front door in modes Direct and Gateway: it leads to the pods of one revision."""
    selector = runtime_selector(owner["metadata"]["name"], revision)
    return _front_door(owner, selector, http=wire.HTTP_PORT, grpc=wire.GRPC_PORT)


def build_revision_service(owner: Object, revision: str) -> Object:
    """Headless Service of a revision: its DNS name has the addresses of the ready pods."""
    name = owner["metadata"]["name"]
    return child(
        "v1",
        "Service",
        revision,
        owner,
        model_labels(name, revision),
        spec={
            "clusterIP": "None",
            "selector": runtime_selector(name, revision),
            "ports": [
                _port("http", wire.HTTP_PORT, wire.HTTP_PORT, "http"),
                _port("grpc", wire.GRPC_PORT, wire.GRPC_PORT, "kubernetes.io/h2c"),
                _port("management", wire.MANAGEMENT_PORT, wire.MANAGEMENT_PORT, "http"),
            ],
        },
    )


def url(name: str, namespace: str) -> str:
    """Address of the front door inside the cluster."""
    return f"http://{name}.{namespace}.svc"


def _front_door(owner: Object, selector: dict[str, str], *, http: int, grpc: int) -> Object:
    name = owner["metadata"]["name"]
    return child(
        "v1",
        "Service",
        name,
        owner,
        model_labels(name),
        spec={
            "type": "ClusterIP",
            "selector": selector,
            "ports": [
                _port("http", wire.FRONT_DOOR_HTTP_PORT, http, "http"),
                _port("grpc", wire.FRONT_DOOR_GRPC_PORT, grpc, "kubernetes.io/h2c"),
            ],
        },
    )


def _port(name: str, port: int, target: int, protocol: str) -> Object:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP", "appProtocol": protocol}
