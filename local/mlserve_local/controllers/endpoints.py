"""Tells where the pods of a Service are: EndpointSlices, and the older Endpoints for those who still read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlserve_local.client import ApiError
from mlserve_local.controllers.replicas import is_ready
from mlserve_local.controllers.shared import NAMESPACE, OWNER, Context, enqueue_all, own_key
from mlserve_local.objects import (
    ENDPOINT_SLICES,
    ENDPOINTS,
    SERVICES,
    Obj,
    is_deleting,
    key_of,
    labels_of,
    matches,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
    without_empty,
)
from mlserve_local.workqueue import WorkQueue

MANAGED_BY: Final = "endpointslice-controller.k8s.io"
SERVICE_NAME: Final = "kubernetes.io/service-name"
_HEADLESS: Final = {"service.kubernetes.io/headless": ""}
Ports = tuple[tuple[str, str, int], ...]
"""(name, protocol, number) of each port."""


def selected(service: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """Pods of the Service that have an address and have not finished."""
    selector = {"matchLabels": service["spec"].get("selector") or {}}
    return [
        pod
        for pod in pods
        if matches(selector, labels_of(pod))
        and (pod.get("status") or {}).get("podIP")
        and pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]


def target_ports(service: Obj, pod: Obj) -> Ports:
    """The Service's ports as numbers of this pod; a named port that the pod lacks is left out."""
    named = {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or ()
        if port.get("name")
    }
    found = []
    for port in service["spec"].get("ports") or ():
        target = port.get("targetPort") or port["port"]
        number = named.get(target) if isinstance(target, str) and not target.isdigit() else int(target)
        if number is not None:
            found.append((port.get("name") or "", port.get("protocol") or "TCP", int(number)))
    return tuple(found)


def endpoint(service: Obj, pod: Obj) -> Obj:
    """One entry of a slice."""
    serving, terminating = is_ready(pod), is_deleting(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        **without_empty([("nodeName", pod["spec"].get("nodeName"))]),
        "targetRef": _target(pod),
    }


def _target(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


def slices(service: Obj, pods: Sequence[Obj]) -> list[tuple[list[Obj], list[Obj]]]:
    """(endpoints, ports) of each slice that should be: one per set of port numbers, and an empty one without pods."""
    groups: dict[Ports, list[Obj]] = {}
    for pod in sorted(selected(service, pods), key=name_of):
        groups.setdefault(target_ports(service, pod), []).append(endpoint(service, pod))
    if not groups:
        return [([], [])]
    return [
        (entries, [{"name": name, "protocol": protocol, "port": number} for name, protocol, number in ports])
        for ports, entries in sorted(groups.items())
    ]


def subsets(service: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """The subsets of the Endpoints object; a pod that is being terminated is in none."""
    groups: dict[Ports, tuple[list[Obj], list[Obj]]] = {}
    for pod in sorted(selected(service, pods), key=name_of):
        if is_deleting(pod):
            continue
        address = {
            "ip": pod["status"]["podIP"],
            **without_empty([("nodeName", pod["spec"].get("nodeName"))]),
            "targetRef": _target(pod),
        }
        ready, unready = groups.setdefault(target_ports(service, pod), ([], []))
        usable = is_ready(pod) or service["spec"].get("publishNotReadyAddresses")
        (ready if usable else unready).append(address)
    return [
        {
            **without_empty([("addresses", ready), ("notReadyAddresses", unready)]),
            "ports": [
                {**without_empty([("name", name)]), "port": number, "protocol": protocol}
                for name, protocol, number in ports
            ],
        }
        for ports, (ready, unready) in sorted(groups.items())
    ]


class EndpointsController:
    """Follows Services with a selector; those without one are their owner's business."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        informers = context.informers
        self._services, self._pods = informers.services, informers.pods
        self._slices, self._endpoints = informers.endpoint_slices, informers.endpoints
        self._queue = WorkQueue("endpoints", self._reconcile)
        self._services.on_change(enqueue_all(self._queue, own_key))
        self._slices.on_change(enqueue_all(self._queue, _service_key))
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and _shown(old) == _shown(new):
            return
        for pod in (old, new):
            for service in self._services.by_index(NAMESPACE, namespace_of(pod)) if pod else ():
                selector = service["spec"].get("selector")
                if pod and selector and matches({"matchLabels": selector}, labels_of(pod)):
                    self._queue.add(key_of(service))

    async def _reconcile(self, key: str) -> None:
        service = self._services.get(key)
        if service is None:
            await self._forget(key)
            return
        if not service["spec"].get("selector") or is_deleting(service):
            return
        pods = self._pods.by_index(NAMESPACE, namespace_of(service))
        await self._write_slices(service, slices(service, pods))
        await self._write_endpoints(service, subsets(service, pods))

    async def _forget(self, key: str) -> None:
        """Slices are garbage collected by their owner; Endpoints have none and go here."""
        endpoints = self._endpoints.get(key)
        if endpoints is not None and "endpoints.kubernetes.io/managed-by" in labels_of(endpoints):
            await self._client.delete(ENDPOINTS, endpoints)

    async def _write_slices(self, service: Obj, wanted: Sequence[tuple[list[Obj], list[Obj]]]) -> None:
        present = [s for s in self._slices.by_index(OWNER, uid_of(service)) if _managed(s) and not is_deleting(s)]
        headless = service["spec"].get("clusterIP") == "None"
        labels = {
            "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
            SERVICE_NAME: name_of(service),
            **(_HEADLESS if headless else {}),
        }
        for entries, ports in wanted:
            same = next((s for s in present if _ports(s) == ports), present[0] if present else None)
            if same is None:
                await self._create_slice(service, labels, entries, ports)
                continue
            present.remove(same)
            if (same.get("endpoints") or []) != entries or _ports(same) != ports or labels_of(same) != labels:
                metadata = {**same["metadata"], "labels": labels}
                body = {**same, "metadata": metadata, "endpoints": entries or None, "ports": ports or None}
                self._slices.remember(await self._client.replace(ENDPOINT_SLICES, body))
        for surplus in present:
            await self._client.delete(ENDPOINT_SLICES, surplus)
            self._slices.forget(surplus)

    async def _create_slice(self, service: Obj, labels: Obj, entries: list[Obj], ports: list[Obj]) -> None:
        body = {
            "apiVersion": ENDPOINT_SLICES.group_version,
            "kind": ENDPOINT_SLICES.kind,
            "metadata": {
                "generateName": f"{name_of(service)}-",
                "namespace": namespace_of(service),
                "labels": labels,
                "ownerReferences": [owner_reference(service, SERVICES)],
            },
            "addressType": "IPv4",
            "endpoints": entries or None,
            "ports": ports or None,
        }
        self._slices.remember(await self._client.create(ENDPOINT_SLICES, body))

    async def _write_endpoints(self, service: Obj, wanted: list[Obj]) -> None:
        present = self._endpoints.get(key_of(service))
        headless = service["spec"].get("clusterIP") == "None"
        labels = {
            **labels_of(service),
            "endpoints.kubernetes.io/managed-by": "endpoint-controller",
            **(_HEADLESS if headless else {}),
        }
        if present is not None:
            if (present.get("subsets") or []) == wanted and labels_of(present) == labels:
                return
            body = {**present, "metadata": {**present["metadata"], "labels": labels}, "subsets": wanted or None}
            self._endpoints.remember(await self._client.replace(ENDPOINTS, body))
            return
        body = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": name_of(service), "namespace": namespace_of(service), "labels": labels},
            **without_empty([("subsets", wanted)]),
        }
        try:
            self._endpoints.remember(await self._client.create(ENDPOINTS, body))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            self._endpoints.remember(await self._client.get(ENDPOINTS, namespace_of(service), name_of(service)))
            self._queue.add(key_of(service))


def _shown(pod: Obj) -> tuple[object, ...]:
    """Everything of a pod that an endpoint shows."""
    status = pod.get("status") or {}
    return (status.get("podIP"), status.get("phase"), is_ready(pod), is_deleting(pod), labels_of(pod))


def _ports(endpoint_slice: Obj) -> list[Obj]:
    return [
        {"name": port.get("name") or "", "protocol": port.get("protocol") or "TCP", "port": port.get("port")}
        for port in endpoint_slice.get("ports") or ()
    ]


def _managed(endpoint_slice: Obj) -> bool:
    return labels_of(endpoint_slice).get("endpointslice.kubernetes.io/managed-by") == MANAGED_BY


def _service_key(endpoint_slice: Obj) -> list[str]:
    name = labels_of(endpoint_slice).get(SERVICE_NAME)
    return [f"{namespace_of(endpoint_slice)}/{name}"] if name and _managed(endpoint_slice) else []
