"""Rules between the fields of the smaller built-in kinds. Pods and what contains them are in pod_rules.py."""

# The functions are named after the kinds they judge.
# ruff: noqa: D103

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from mlserve_local.apiserver import quantity
from mlserve_local.apiserver.errors import FieldError, Obj, forbidden_field, invalid_value, not_supported, required

_KEY: Final = r"[-._a-zA-Z0-9]+"
_KEY_TEXT: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_KEY}')"
)
_PORT_TEXT: Final = "must be between 1 and 65535, inclusive"
IMMUTABLE: Final = "field is immutable"
_PERCENT_TEXT: Final = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
MAX_SECRET: Final = 1024 * 1024


ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def non_negative(value: Any, field: str) -> list[FieldError]:
    if isinstance(value, int) and value < 0:
        return [invalid_value(field, value, "must be greater than or equal to 0")]
    return []


def port(value: Any, field: str) -> list[FieldError]:
    return [] if isinstance(value, int) and 1 <= value <= 65535 else [invalid_value(field, value, _PORT_TEXT)]


def port_name_or_number(value: Any, field: str) -> list[FieldError]:
    if isinstance(value, int):
        return port(value, field)
    if len(str(value)) > 15:
        return [invalid_value(field, value, "must be no more than 15 characters")]
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", str(value)):
        return [invalid_value(field, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")]
    return []


def int_or_percent(value: Any, field: str) -> list[FieldError]:
    """A count that is not negative, or a percentage."""
    if isinstance(value, str):
        return [] if re.fullmatch(r"[0-9]+%", value) else [invalid_value(field, value, _PERCENT_TEXT)]
    return non_negative(value, field)


def _data_keys(data: Obj, field: str) -> list[FieldError]:
    return [invalid_value(f"{field}[{k}]", k, _KEY_TEXT) for k in sorted(data) if not re.fullmatch(_KEY, k)]


def config_map(obj: Obj) -> list[FieldError]:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    found = [e for k in sorted(data) for e in _data_keys({k: 0}, "data")]
    found += [
        invalid_value(f"data[{k}]", k, "duplicate of key present in binaryData") for k in sorted(data) if k in binary
    ]
    found += _data_keys(binary, "binaryData")
    if sum(len(v) for v in data.values()) + sum(len(v) * 3 // 4 for v in binary.values()) > MAX_SECRET:
        found.append(FieldError("TooLong", "", detail=f"may not be more than {MAX_SECRET} bytes"))
    return found


def _immutable(new: Obj, old: Obj, fields: tuple[str, ...]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    why = "field is immutable when `immutable` is set"
    found = [] if new.get("immutable") else [forbidden_field("immutable", why)]
    return found + [forbidden_field(f, why) for f in fields if new.get(f) != old.get(f)]


def config_map_update(new: Obj, old: Obj) -> list[FieldError]:
    return _immutable(new, old, ("data", "binaryData"))


_SECRET_KEYS: Final = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def secret(obj: Obj) -> list[FieldError]:
    data = obj.get("data") or {}
    found = _data_keys(data, "data")
    if sum(len(v) * 3 // 4 for v in data.values()) > MAX_SECRET:
        found.append(FieldError("TooLong", "data", detail=f"may not be more than {MAX_SECRET} bytes"))
    found += [required(f"data[{k}]") for k in _SECRET_KEYS.get(obj.get("type", ""), ()) if k not in data]
    account = (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name")
    if obj.get("type") == "kubernetes.io/service-account-token" and not account:
        found.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    return found


def secret_update(new: Obj, old: Obj) -> list[FieldError]:
    found = [] if new.get("type") == old.get("type") else [invalid_value("type", new.get("type"), IMMUTABLE)]
    return found + _immutable(new, old, ("data",))


def endpoints_warning(obj: Obj) -> list[str]:
    return ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]


def event(obj: Obj) -> list[FieldError]:
    """Only Events of the new API are judged strictly; it marks them by ``eventTime``."""
    found: list[FieldError] = []
    involved = obj.get("involvedObject") or {}
    space, here = involved.get("namespace", ""), obj["metadata"].get("namespace", "")
    if (space and space != here) or (not space and here != "default"):
        found.append(invalid_value("involvedObject.namespace", space, "does not match event.namespace"))
    if obj.get("eventTime") is None:
        return found
    for key, field in (
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ):
        if not obj.get(key):
            found.append(required(field))
    if obj.get("type") not in ("Normal", "Warning"):
        found.append(invalid_value("type", "", f"has invalid value: {obj.get('type', '')}"))
    if len(obj.get("message", "")) > 1024:
        found.append(invalid_value("message", "", "can have at most 1024 characters"))
    return found


def new_event(obj: Obj) -> list[FieldError]:
    """An Event of the events group must say when it happened."""
    return [required("eventTime")] if obj.get("eventTime") is None else event(obj)


_EVENT_FIXED: Final = (
    "involvedObject",
    "reason",
    "message",
    "type",
    "eventTime",
    "action",
    "reportingComponent",
    "reportingInstance",
    "related",
)


def event_update(new: Obj, old: Obj) -> list[FieldError]:
    """An Event of the new API may only grow its series."""
    if old.get("eventTime") is None:
        return []
    return [invalid_value(k, new.get(k), IMMUTABLE) for k in _EVENT_FIXED if new.get(k) != old.get(k)]


def node(obj: Obj) -> list[FieldError]:
    found: list[FieldError] = []
    for index, cidr in enumerate(obj["spec"].get("podCIDRs") or ()):
        try:
            ipaddress.ip_network(cidr, strict=True)
        except ValueError:
            text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            found.append(invalid_value(f"spec.podCIDRs[{index}]", cidr, text))
    return found


def lease(obj: Obj) -> list[FieldError]:
    spec = obj.get("spec") or {}
    found: list[FieldError] = []
    seconds = spec.get("leaseDurationSeconds")
    if isinstance(seconds, int) and seconds <= 0:
        found.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    return found + non_negative(spec.get("leaseTransitions"), "spec.leaseTransitions")


def autoscaler(obj: Obj) -> list[FieldError]:
    spec = obj["spec"]
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    found: list[FieldError] = []
    if low is not None and low < 1:
        found.append(invalid_value("spec.minReplicas", low, "must be greater than or equal to 1"))
    if high < 1:
        found.append(invalid_value("spec.maxReplicas", high, "must be greater than 0"))
    if low is not None and high < low:
        found.append(invalid_value("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`"))
    reference = spec.get("scaleTargetRef") or {}
    found += [required(f"spec.scaleTargetRef.{k}") for k in ("kind", "name") if not reference.get(k)]
    if not reference.get("apiVersion"):
        found.append(invalid_value("spec.scaleTargetRef.apiVersion", "", "apiVersion must specify API group"))
    for index, metric in enumerate(spec.get("metrics") or ()):
        kind = metric.get("type", "")
        if kind not in ("ContainerResource", "External", "Object", "Pods", "Resource"):
            choices = ["ContainerResource", "External", "Object", "Pods", "Resource"]
            found.append(not_supported(f"spec.metrics[{index}].type", kind, choices))
        elif kind[0].lower() + kind[1:] not in metric:
            field = f"spec.metrics[{index}].{kind[0].lower() + kind[1:]}"
            found.append(required(field, "must populate information for the given metric source"))
    return found


def disruption_budget(obj: Obj) -> list[FieldError]:
    spec = obj.get("spec") or {}
    low, high = spec.get("minAvailable"), spec.get("maxUnavailable")
    if low is not None and high is not None:
        shown = {
            "MinAvailable": low,
            "Selector": spec.get("selector"),
            "MaxUnavailable": high,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        return [invalid_value("spec", shown, "minAvailable and maxUnavailable cannot be both set")]
    found = [] if low is None else int_or_percent(low, "spec.minAvailable")
    found += [] if high is None else int_or_percent(high, "spec.maxUnavailable")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy not in (None, "AlwaysAllow", "IfHealthyBudget"):
        found.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, ["AlwaysAllow", "IfHealthyBudget"]))
    return found


def role_binding(obj: Obj) -> list[FieldError]:
    reference = obj["roleRef"]
    kinds = ["ClusterRole", "Role"] if obj["metadata"].get("namespace") else ["ClusterRole"]
    found: list[FieldError] = []
    if reference.get("kind") not in kinds:
        found.append(not_supported("roleRef.kind", reference.get("kind", ""), kinds))
    if not reference.get("name"):
        found.append(required("roleRef.name"))
    for index, subject in enumerate(obj.get("subjects") or ()):
        field = f"subjects[{index}]"
        if not subject.get("name"):
            found.append(required(f"{field}.name"))
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            found.append(not_supported(f"{field}.kind", subject.get("kind", ""), ["ServiceAccount", "User", "Group"]))
        elif subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            found.append(required(f"{field}.namespace"))
    return found


def role_binding_update(new: Obj, old: Obj) -> list[FieldError]:
    """The roleRef of a binding never changes."""
    if new.get("roleRef") == old.get("roleRef"):
        return []
    reference = new["roleRef"]
    shown = {"APIGroup": reference.get("apiGroup"), "Kind": reference.get("kind"), "Name": reference.get("name")}
    return [invalid_value("roleRef", shown, "cannot change roleRef")]


def endpoint_slice(obj: Obj) -> list[FieldError]:
    found: list[FieldError] = []
    if obj.get("addressType") not in ("FQDN", "IPv4", "IPv6"):
        if not obj.get("addressType"):
            return [required("addressType")]
        found.append(not_supported("addressType", obj.get("addressType"), ["FQDN", "IPv4", "IPv6"]))
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        if not endpoint.get("addresses"):
            found.append(required(f"endpoints[{index}].addresses", "must contain at least 1 address"))
    return found


def _access_modes(spec: Obj) -> list[FieldError]:
    modes = spec.get("accessModes") or []
    if not modes:
        return [required("spec.accessModes", "at least 1 access mode is required")]
    return [not_supported("spec.accessModes", mode, ACCESS_MODES) for mode in modes if mode not in ACCESS_MODES]


def volume_claim(obj: Obj) -> list[FieldError]:
    spec = obj["spec"]
    found = _access_modes(spec)
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        found.append(required("spec.resources[storage]"))
    elif quantity.parse(size) <= 0:
        found.append(invalid_value("spec.resources[storage]", size, "must be greater than zero"))
    return found


def volume_claim_update(new: Obj, old: Obj) -> list[FieldError]:
    """A bound claim may grow; its name and class of volume may be filled in; all else stays."""
    after, before = dict(new["spec"]), dict(old["spec"])
    for key in ("volumeName", "storageClassName"):
        if not before.get(key):
            after.pop(key, None)
            before.pop(key, None)
    if (old.get("status") or {}).get("phase") == "Bound":
        after.pop("resources", None)
        before.pop("resources", None)
    if after == before:
        return []
    why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
    return [forbidden_field("spec", why)]


_NO_SOURCE: Final = frozenset(
    (
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    )
)


def volume(obj: Obj) -> list[FieldError]:
    spec = obj["spec"]
    found = _access_modes(spec)
    if not spec.get("capacity"):
        found.append(required("spec.capacity"))
    policy, policies = spec.get("persistentVolumeReclaimPolicy"), ["Delete", "Recycle", "Retain"]
    if policy not in policies:
        found.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, policies))
    if not spec.keys() - _NO_SOURCE:
        found.append(required("spec", "must specify a volume type"))
    return found


def storage_class(obj: Obj) -> list[FieldError]:
    found = [] if obj.get("provisioner") else [required("provisioner")]
    for key, choices in (("reclaimPolicy", ("Delete", "Retain")), ("volumeBindingMode", _BINDING_MODES)):
        if obj.get(key) not in choices:
            found.append(not_supported(key, obj.get(key), choices))
    return found


_BINDING_MODES: Final = ("Immediate", "WaitForFirstConsumer")


def storage_class_update(new: Obj, old: Obj) -> list[FieldError]:
    found = []
    for key in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if new.get(key) != old.get(key):
            why = "updates to parameters are forbidden." if key == "parameters" else f"updates to {key} are forbidden."
            found.append(forbidden_field(key, why))
    return found


def priority_class(obj: Obj) -> list[FieldError]:
    name = obj["metadata"].get("name", "")
    if name.startswith("system-"):
        text = "priority class names with 'system-' prefix are reserved for system use only"
        return [forbidden_field("metadata.name", text)]
    if obj.get("value", 0) > 1_000_000_000:
        return [forbidden_field("value", "maximum allowed value of a user defined priority is 1000000000")]
    return []


def priority_class_update(new: Obj, old: Obj) -> list[FieldError]:
    return [
        forbidden_field(key, f"may not be changed in an update{dot}")
        for key, dot in (("value", "."), ("preemptionPolicy", "."))
        if new.get(key) != old.get(key)
    ]
