"""What the cluster's DNS answers. Pure: Services and endpoints in, addresses out.

The names are those of the Kubernetes DNS specification: `service.namespace.svc.cluster.local` (also without the
cluster domain), headless Services by their pods, `_port._proto.service...` as SRV, and `1-2-3-4.namespace.pod`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mlserve_local.objects import Obj, name_of, namespace_of

DOMAIN: Final = "cluster.local"


@dataclass(frozen=True, slots=True)
class Server:
    """Target of an SRV record."""

    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`known` tells an existing name without such a record (NOERROR) from one that does not exist (NXDOMAIN)."""

    known: bool
    addresses: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    alias: str = ""


UNKNOWN: Final = Answer(known=False)

ServiceLookup = Callable[[str, str], Obj | None]
"""(namespace, name) -> Service."""
SliceLookup = Callable[[str, str], Sequence[Obj]]
"""(namespace, name) -> EndpointSlices of the Service."""


def is_cluster_name(name: str) -> bool:
    """Does this server answer for the name itself?

    >>> [is_cluster_name(n) for n in ("a.b.svc", "a.b.svc.cluster.local.", "example.org", "svc")]
    [True, True, False, False]
    """
    labels = _labels(name)
    return (len(labels) >= 2 and labels[-1] in ("svc", "pod")) or name.rstrip(".").lower().endswith("." + DOMAIN)


def _labels(name: str) -> list[str]:
    text = name.rstrip(".").lower()
    return text.removesuffix("." + DOMAIN).split(".")


def resolve(name: str, services: ServiceLookup, slices: SliceLookup) -> Answer:
    """The records of a cluster name."""
    labels = _labels(name)
    if labels[-1] == "pod" and len(labels) == 3:
        return _pod_address(labels[0])
    if labels[-1] != "svc" or not 3 <= len(labels) <= 5:
        return UNKNOWN
    *prefix, service_name, namespace, _ = labels
    service = services(namespace, service_name)
    if service is None:
        return UNKNOWN
    if service["spec"].get("type") == "ExternalName":
        return Answer(known=not prefix, alias=service["spec"]["externalName"]) if not prefix else UNKNOWN
    if not prefix:
        return Answer(known=True, addresses=tuple(_addresses(service, slices)))
    if len(prefix) == 1:
        return _member(prefix[0], service, slices)
    return _servers(prefix[0], prefix[1], service, slices)


def _pod_address(label: str) -> Answer:
    try:
        return Answer(known=True, addresses=(str(ipaddress.IPv4Address(label.replace("-", "."))),))
    except ValueError:
        return UNKNOWN


def is_headless(service: Obj) -> bool:
    """Has the Service no address of its own?"""
    return service["spec"].get("clusterIP") in (None, "", "None")


def has_loopback_address(service: Obj) -> bool:
    """An address of a real cluster's range leads nowhere from here; its names stand for the pods instead."""
    return str(service["spec"].get("clusterIP")).startswith("127.")


def _addresses(service: Obj, slices: SliceLookup) -> list[str]:
    if has_loopback_address(service):
        return [service["spec"]["clusterIP"]]
    return sorted({address for address, _ in _ready(service, slices)})


def _ready(service: Obj, slices: SliceLookup) -> list[tuple[str, Obj]]:
    return [
        (endpoint["addresses"][0], endpoint)
        for found in slices(namespace_of(service), name_of(service))
        for endpoint in found.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]


def _member(label: str, service: Obj, slices: SliceLookup) -> Answer:
    """A pod of a headless Service by its hostname, or by its address with dashes."""
    if has_loopback_address(service):
        return UNKNOWN
    found = [
        address
        for address, endpoint in _ready(service, slices)
        if label in (endpoint.get("hostname"), address.replace(".", "-"))
    ]
    return Answer(known=True, addresses=tuple(found)) if found else UNKNOWN


def _servers(port_label: str, protocol_label: str, service: Obj, slices: SliceLookup) -> Answer:
    name, protocol = port_label.removeprefix("_"), protocol_label.removeprefix("_").upper()
    base = f"{name_of(service)}.{namespace_of(service)}.svc.{DOMAIN}"
    if has_loopback_address(service):
        found = [
            Server(int(port["port"]), base)
            for port in service["spec"].get("ports") or ()
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol
        ]
        return Answer(known=True, servers=tuple(found)) if found else UNKNOWN
    found = [
        Server(int(port["port"]), f"{endpoint['addresses'][0].replace('.', '-')}.{base}")
        for entry in slices(namespace_of(service), name_of(service))
        for port in entry.get("ports") or ()
        if port.get("name") == name and (port.get("protocol") or "TCP") == protocol
        for endpoint in entry.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    ]
    return Answer(known=True, servers=tuple(found)) if found else UNKNOWN
