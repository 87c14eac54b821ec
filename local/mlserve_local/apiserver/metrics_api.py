"""`metrics.k8s.io`: what `kubectl top` and autoscalers ask for, answered by the kubelets at the moment of the question.

On a cluster a metrics server stands behind this group. Nothing is stored here: each request asks every ready node
for its statistics.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import Obj, not_found
from mlserve_local.apiserver.registry import Registry, Resource
from mlserve_local.apiserver.request import Reply, Request, Target
from mlserve_local.apiserver.schema import Schema
from mlserve_local.apiserver.selectors import parse_label_selector

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

GROUP: Final = "metrics.k8s.io"
VERSION: Final = "v1beta1"
_WINDOW: Final = "10s"
_KINDS: Final = (("NodeMetrics", "nodes", False), ("PodMetrics", "pods", True))


def register(registry: Registry) -> None:
    """Serve the group's two resources."""
    for kind, plural, namespaced in _KINDS:
        schema = Schema(name=kind, type="object", preserve_unknown=True)
        registry.add(
            Resource(
                group=GROUP,
                version=VERSION,
                kind=kind,
                plural=plural,
                singular="",
                namespaced=namespaced,
                schema=schema,
                key=f"{GROUP}/{plural}",
                verbs=("get", "list"),
            )
        )


class MetricsApi:
    """Answers the reads of the group."""

    def __init__(self, cluster: Cluster) -> None:
        self._registry = cluster.registry

    async def handle(self, request: Request, resource: Resource, target: Target) -> Reply:
        """One object by name, or a list narrowed by namespace and label selector."""
        found = await self._read(resource, target.namespace)
        if target.name:
            wanted = [item for item in found if item["metadata"]["name"] == target.name]
            if not wanted:
                raise not_found(resource.plural, GROUP, target.name)
            return Reply(200, orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version, **wanted[0]}))
        selector = parse_label_selector(request.param("labelSelector"))
        items = [item for item in found if selector.matches(item["metadata"].get("labels"))]
        kind = {"kind": resource.list_kind, "apiVersion": resource.api_version}
        return Reply(200, orjson.dumps({**kind, "metadata": {}, "items": items}))

    async def _read(self, resource: Resource, namespace: str) -> list[Obj]:
        nodes = list(self._registry.collection(self._registry.builtin("nodes")))
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            summaries = await asyncio.gather(*(_summary(client, node.data) for node in nodes))
        if resource.plural == "nodes":
            pairs = zip(nodes, summaries, strict=True)
            return [_metrics(node.data, usage=_usage(s["node"])) for node, s in pairs if s is not None]
        pods = self._registry.collection(self._registry.builtin("pods"))
        found: list[Obj] = []
        for entry in (pod for summary in summaries if summary is not None for pod in summary["pods"]):
            reference = entry["podRef"]
            stored = pods.get(reference["namespace"], reference["name"])
            if stored is None or not entry["containers"] or namespace not in ("", reference["namespace"]):
                continue
            containers = [{"name": c["name"], "usage": _usage(c)} for c in entry["containers"]]
            found.append(_metrics(stored.data, containers=containers))
        return sorted(found, key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))


async def _summary(client: httpx.AsyncClient, node: Obj) -> Obj | None:
    """A kubelet's statistics; None from one that does not answer, whose pods then have no metrics."""
    status = node.get("status", {})
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or ()}
    port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)
    if "InternalIP" not in addresses or not port:
        return None
    try:
        answer = await client.get(f"http://{addresses['InternalIP']}:{port}/stats/summary")
        answer.raise_for_status()
        return dict(answer.json())
    except (httpx.HTTPError, ValueError):
        return None


def _usage(entry: Obj) -> Obj:
    nano_cores, kibibytes = entry["cpu"]["usageNanoCores"], entry["memory"]["workingSetBytes"] // 1024
    return {"cpu": f"{nano_cores}n", "memory": f"{kibibytes}Ki"}


def _metrics(of: Obj, **measured: Any) -> Obj:
    kept = {key: of["metadata"][key] for key in ("name", "namespace", "labels") if key in of["metadata"]}
    now = times.now()
    return {"metadata": {**kept, "creationTimestamp": now}, "timestamp": now, "window": _WINDOW, **measured}
