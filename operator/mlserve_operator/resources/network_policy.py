"""Who may reach a runtime pod: routers of its namespace for predictions, anybody for what is read-only.

Predictions that go past the router would be answered but not split, mirrored or counted; the policy keeps other
pods of the cluster to the front door.
"""

from __future__ import annotations

from typing import Any

from mlserve_core import wire
from mlserve_operator.resources.metadata import child, model_labels, runtime_selector

Object = dict[str, Any]


def build_network_policy(owner: Object) -> Object:
    """The policy of a ModelDeployment whose traffic goes through a router."""
    name = owner["metadata"]["name"]
    routers = {"podSelector": {"matchLabels": {wire.LABEL_COMPONENT: wire.COMPONENT_ROUTER}}}
    spec = {
        "podSelector": {"matchLabels": runtime_selector(name)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [routers], "ports": [_tcp(wire.HTTP_PORT), _tcp(wire.GRPC_PORT)]},
            # Probes, the operator and Prometheus: counters and health, nothing that changes anything.
            {"ports": [_tcp(wire.MANAGEMENT_PORT)]},
        ],
    }
    return child("networking.k8s.io/v1", "NetworkPolicy", name, owner, model_labels(name), spec=spec)


def _tcp(port: int) -> Object:
    return {"protocol": "TCP", "port": port}
