"""Rules between the fields of Services and Ingresses."""

# The functions are named after the kinds they judge.
# ruff: noqa: D103

from __future__ import annotations

import ipaddress
from typing import Any, Final

from mlserve_local.apiserver.errors import FieldError, Obj, forbidden_field, invalid_value, not_supported, required
from mlserve_local.apiserver.kind_rules import port, port_name_or_number
from mlserve_local.apiserver.validation import dns_label, dns_subdomain, labels

_SERVICE_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


def service(obj: Obj) -> list[FieldError]:
    spec = obj["spec"]
    ports = spec.get("ports") or []
    found: list[FieldError] = []
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and spec.get("type") != "ExternalName":
        found.append(required("spec.ports"))
    names: set[str] = set()
    for index, entry in enumerate(ports):
        found += _service_port(entry, f"spec.ports[{index}]", len(ports) > 1, names)
    seen: set[tuple[Any, Any]] = set()
    for index, entry in enumerate(ports):
        key = (entry.get("protocol"), entry.get("port"))
        if key in seen:
            shown = {k: entry[k] for k in ("protocol", "port") if k in entry}
            found.append(FieldError("Duplicate", f"spec.ports[{index}]", shown))
        seen.add(key)
    if spec.get("sessionAffinity") not in ("ClientIP", "None"):
        found.append(not_supported("spec.sessionAffinity", spec.get("sessionAffinity"), ["ClientIP", "None"]))
    if spec.get("type") not in _SERVICE_TYPES:
        found.append(not_supported("spec.type", spec.get("type"), _SERVICE_TYPES))
    found += _type_dependent(spec)
    if spec.get("type") in ("LoadBalancer", "NodePort") and headless:
        found.append(
            invalid_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {spec['type']} services")
        )
    found += labels(spec.get("selector"), "spec.selector")
    for index, address in enumerate(spec.get("externalIPs") or ()):
        if not _is_address(address):
            found.append(invalid_value(f"spec.externalIPs[{index}]", address, _ADDRESS_TEXT))
    return found + _cluster_ip(spec)


def _type_dependent(spec: Obj) -> list[FieldError]:
    """Fields that only some types of Service have."""
    kind = spec.get("type")
    found: list[FieldError] = []
    if kind == "ExternalName":
        name = spec.get("externalName", "").rstrip(".")
        found += (
            [invalid_value("spec.externalName", name, t) for t in dns_subdomain(name)]
            if name
            else [required("spec.externalName")]
        )
        if spec.get("clusterIP"):
            found.append(forbidden_field("spec.clusterIPs[0]", "may not be set when `type` is 'ExternalName'"))
    if kind in ("ClusterIP", "ExternalName"):
        found += [
            forbidden_field(f"spec.ports[{i}].nodePort", f"may not be used when `type` is '{kind}'")
            for i, p in enumerate(spec.get("ports") or ())
            if p.get("nodePort") and kind == "ClusterIP"
        ]
    policy = spec.get("externalTrafficPolicy")
    if policy and kind in ("ClusterIP", "ExternalName") and not spec.get("externalIPs"):
        text = "may only be set for externally-accessible services"
        found.append(invalid_value("spec.externalTrafficPolicy", policy, text))
    elif policy and policy not in ("Cluster", "Local"):
        found.append(not_supported("spec.externalTrafficPolicy", policy, ["Cluster", "Local"]))
    inside = spec.get("internalTrafficPolicy")
    if inside and inside not in ("Cluster", "Local"):
        found.append(not_supported("spec.internalTrafficPolicy", inside, ["Cluster", "Local"]))
    for key in ("loadBalancerClass", "allocateLoadBalancerNodePorts"):
        if spec.get(key) is not None and kind != "LoadBalancer":
            found.append(forbidden_field(f"spec.{key}", "may only be used when `type` is 'LoadBalancer'"))
    return found


_ADDRESS_TEXT: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _cluster_ip(spec: Obj) -> list[FieldError]:
    address = spec.get("clusterIP")
    if address in (None, "None", ""):
        return []
    return [] if _is_address(address) else [invalid_value("spec.clusterIPs[0]", address, _ADDRESS_TEXT)]


def _service_port(entry: Obj, field: str, many: bool, names: set[str]) -> list[FieldError]:
    found: list[FieldError] = []
    name = entry.get("name", "")
    if not name and many:
        found.append(required(f"{field}.name"))
    elif name:
        found += [invalid_value(f"{field}.name", name, text) for text in dns_label(name)]
        if name in names:
            found.append(FieldError("Duplicate", f"{field}.name", name))
        names.add(name)
    found += port(entry.get("port"), f"{field}.port")
    if entry.get("protocol") not in ("SCTP", "TCP", "UDP"):
        found.append(not_supported(f"{field}.protocol", entry.get("protocol"), ["SCTP", "TCP", "UDP"]))
    return found + port_name_or_number(entry.get("targetPort"), f"{field}.targetPort")


def service_update(new: Obj, old: Obj) -> list[FieldError]:
    before, after = old["spec"], new["spec"]
    kept = before.get("type") != "ExternalName" and after.get("type") != "ExternalName"
    if kept and before.get("clusterIP") and before.get("clusterIPs") != after.get("clusterIPs"):
        return [invalid_value("spec.clusterIPs[0]", after.get("clusterIPs"), "may not change once set")]
    return []


def ingress(obj: Obj) -> list[FieldError]:
    spec = obj.get("spec") or {}
    rules, fallback = spec.get("rules"), spec.get("defaultBackend")
    found: list[FieldError] = []
    if not rules and fallback is None:
        found.append(invalid_value("spec", rules, "either `defaultBackend` or `rules` must be specified"))
    if fallback is not None:
        found += _backend(fallback, "spec.defaultBackend")
    for index, rule in enumerate(rules or ()):
        found += _ingress_rule(rule, f"spec.rules[{index}]")
    for index, entry in enumerate(spec.get("tls") or ()):
        for position, host in enumerate(entry.get("hosts") or ()):
            place = f"spec.tls[{index}].hosts[{position}]"
            found += [invalid_value(place, host, text) for text in dns_subdomain(host.removeprefix("*."))]
    name = spec.get("ingressClassName")
    if name is not None:
        found += [invalid_value("spec.ingressClassName", name, text) for text in dns_subdomain(name)]
    return found


_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")


def _ingress_rule(rule: Obj, field: str) -> list[FieldError]:
    found: list[FieldError] = []
    host = rule.get("host", "")
    if _is_address(host):
        found.append(invalid_value(f"{field}.host", host, "must be a DNS name, not an IP address"))
    elif host:
        found += [invalid_value(f"{field}.host", host, text) for text in dns_subdomain(host.removeprefix("*."))]
    if "http" not in rule:
        return found
    paths = rule["http"].get("paths") or []
    if not paths:
        found.append(required(f"{field}.http.paths"))
    for index, entry in enumerate(paths):
        place = f"{field}.http.paths[{index}]"
        path, kind = entry.get("path", ""), entry.get("pathType")
        if kind is None:
            found.append(required(f"{place}.pathType", "pathType must be specified"))
        elif kind not in _PATH_TYPES:
            found.append(not_supported(f"{place}.pathType", kind, _PATH_TYPES))
        if not path.startswith("/") and (path or kind in ("Exact", "Prefix")):
            found.append(invalid_value(f"{place}.path", path, "must be an absolute path"))
        found += _backend(entry.get("backend") or {}, f"{place}.backend")
    return found


def _backend(backend: Obj, field: str) -> list[FieldError]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        return [invalid_value(field, "", "cannot set both resource and service backends")]
    if resource is not None:
        return [required(f"{field}.resource.{k}") for k in ("kind", "name") if not resource.get(k)]
    if service is None:
        return [invalid_value(field, "", "resource or service backend is required")]
    name, target = service.get("name", ""), service.get("port") or {}
    found = (
        [invalid_value(f"{field}.service.name", name, text) for text in dns_label(name)]
        if name
        else [required(f"{field}.service.name")]
    )
    if target.get("name") and target.get("number"):
        found.append(invalid_value(field, "", "cannot set both port name & port number"))
    elif target.get("name"):
        found += port_name_or_number(target["name"], f"{field}.service.port.name")
    elif target.get("number"):
        found += port(target["number"], f"{field}.service.port.number")
    else:
        found.append(required(field, "port name or number is required"))
    return found
