"""What a Service is given on creation, and keeps: cluster addresses, IP families, node ports."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from mlserve_local.apiserver.addresses import NODE_PORTS, AddressPool
from mlserve_local.apiserver.errors import FieldError, Obj, invalid, invalid_value

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster
    from mlserve_local.apiserver.request import User


def admit(cluster: Cluster, obj: Obj, old: Obj | None, user: User) -> None:
    """Give a Service what it lacks: cluster address, IP families, node ports. An update keeps what it had."""
    spec = obj["spec"]
    before: Obj = (old or {}).get("spec", {})
    _drop_unfit(spec, before)
    if spec["type"] == "ExternalName":
        return
    had_address = before.get("type") not in (None, "ExternalName")
    if had_address:
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if key in before and not spec.get(key):
                spec[key] = before[key]
        if spec["clusterIP"] != before.get("clusterIP") and spec["clusterIPs"] == before.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
    _address(cluster.addresses, obj, before)
    _families(obj)
    if spec["type"] in ("NodePort", "LoadBalancer") and spec.get("allocateLoadBalancerNodePorts", True):
        _check_ports(cluster.addresses, obj, before)
        _node_ports(cluster.addresses, spec, before)
    elif before.get("type") in ("NodePort", "LoadBalancer"):
        same = {p.get("nodePort") for p in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") in same:
                port.pop("nodePort", None)


def _drop_unfit(spec: Obj, before: Obj) -> None:
    """Fields that the former type needed, the new one has not, and the client did not touch."""
    kinds = {
        "ExternalName": ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "externalTrafficPolicy"),
        "ClusterIP": ("externalTrafficPolicy",),
    }
    unfit = list(kinds.get(spec["type"], ()))
    if spec["type"] != "LoadBalancer":
        unfit += ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"]
    for key in unfit:
        if before.get("type") != spec["type"] and key in spec and spec[key] == before.get(key):
            del spec[key]
    if spec["type"] == "ExternalName" and not spec.get("clusterIP"):
        spec.pop("clusterIP", None)


def _families(obj: Obj) -> None:
    """The network has IPv4 only; a headless Service without selector may point anywhere and gets both families."""
    spec = obj["spec"]
    anywhere = spec["clusterIP"] == "None" and not spec.get("selector")
    policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack" if anywhere else "SingleStack")
    families = spec.setdefault("ipFamilies", ["IPv4"])
    if anywhere:
        if policy != "SingleStack" and len(families) == 1:
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        return
    found: list[FieldError] = []
    if policy == "RequireDualStack":
        text = "this cluster is not configured for dual-stack services"
        found.append(invalid_value("spec.ipFamilyPolicy", policy, text))
    found += [
        invalid_value(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(families)
        if family == "IPv6"
    ]
    if found:
        raise invalid("Service", "", obj["metadata"].get("name", ""), found)


def _address(pool: AddressPool, obj: Obj, before: Obj) -> None:
    spec = obj["spec"]
    if spec.get("clusterIPs") and not spec.get("clusterIP"):
        spec["clusterIP"] = spec["clusterIPs"][0]
    if not spec.get("clusterIP"):
        spec["clusterIP"] = pool.next_address()
    elif not before.get("clusterIP") and spec["clusterIP"] != "None":
        _check_address(pool, obj)
    spec.setdefault("clusterIPs", [spec["clusterIP"]])


def _check_address(pool: AddressPool, obj: Obj) -> None:
    address = obj["spec"]["clusterIP"]
    field, problem = "spec.clusterIPs", ""
    try:
        if ipaddress.ip_address(address) not in pool.network:
            problem = f"failed to allocate IP {address}: the provided network does not match the current range"
    except ValueError:
        return  # validation says so
    if not problem and pool.is_taken(address):
        problem = f"failed to allocate IP {address}: provided IP is already allocated"
    if problem:
        errors: list[FieldError] = [invalid_value(field, [address], problem)]
        raise invalid("Service", "", obj["metadata"].get("name", ""), errors)


def _check_ports(pool: AddressPool, obj: Obj, before: Obj) -> None:
    mine = {p.get("nodePort") for p in before.get("ports") or ()}
    for index, port in enumerate(obj["spec"].get("ports") or ()):
        wanted = port.get("nodePort")
        if not wanted or wanted in mine:
            continue
        problem = ""
        if wanted not in NODE_PORTS:
            span = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"
            problem = f"provided port is not in the valid range. The range of valid ports is {span}"
        elif pool.has_port(wanted):
            problem = "provided port is already allocated"
        if problem:
            error = invalid_value(f"spec.ports[{index}].nodePort", wanted, problem)
            raise invalid("Service", "", obj["metadata"].get("name", ""), [error])


def _node_ports(pool: AddressPool, spec: Obj, before: Any) -> None:
    known = {(p.get("name"), p.get("port"), p.get("protocol")): p.get("nodePort") for p in before.get("ports") or ()}
    chosen: set[int] = {p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")}
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            continue
        port["nodePort"] = known.get((port.get("name"), port.get("port"), port.get("protocol"))) or pool.next_port(
            chosen
        )
        chosen.add(port["nodePort"])
