"""Which pods stand behind a Service, from the pods themselves.

A kube-apiserver refuses EndpointSlices with loopback addresses, which is all that pods have here. So for a Service
with a selector the endpoints are computed from Services and pods, by the very rules of the EndpointSlice controller;
EndpointSlices are read for Services without one, where somebody else writes them.
"""

from __future__ import annotations

from typing import Final

from mlserve_local.client import ApiClient
from mlserve_local.controllers.endpoints import slices
from mlserve_local.informer import Informer
from mlserve_local.objects import ENDPOINT_SLICES, PODS, SERVICES, Obj, labels_of, namespace_of

NAMESPACE: Final = "namespace"
SERVICE: Final = "service"


class Backends:
    """Local copies of Services, pods and EndpointSlices, and the endpoints that follow from them."""

    def __init__(self, client: ApiClient) -> None:
        self.services = Informer(client, SERVICES)
        self._pods = Informer(client, PODS, indexers={NAMESPACE: lambda pod: [namespace_of(pod)]})
        self._slices = Informer(client, ENDPOINT_SLICES, indexers={SERVICE: _service_key})
        self._known: dict[str, list[Obj]] = {}
        for informer in self.informers:
            informer.on_change(lambda old, new: self._known.clear())

    @property
    def informers(self) -> list[Informer]:
        """All that has to be followed."""
        return [self.services, self._pods, self._slices]

    def of(self, key: str) -> list[Obj]:
        """`endpoints` and `ports`, as in EndpointSlices, of the Service `namespace/name`."""
        if key not in self._known:
            self._known[key] = self._compute(key)
        return self._known[key]

    def _compute(self, key: str) -> list[Obj]:
        service = self.services.get(key)
        if service is None:
            return []
        if not service["spec"].get("selector"):
            return self._slices.by_index(SERVICE, key)
        pods = self._pods.by_index(NAMESPACE, namespace_of(service))
        return [{"endpoints": endpoints, "ports": ports} for endpoints, ports in slices(service, pods)]


def _service_key(endpoint_slice: Obj) -> list[str]:
    name = labels_of(endpoint_slice).get("kubernetes.io/service-name")
    return [f"{namespace_of(endpoint_slice)}/{name}"] if name else []
