"""The environment of a container, as a kubelet builds it: sources, downward API, `$(VAR)` expansion.

Pure: ConfigMaps and Secrets are looked up through a function that is handed in. What cannot be resolved raises
ConfigError, which the node shows as `CreateContainerConfigError` and tries again.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from mlserve_local.apiserver import quantity
from mlserve_local.objects import Obj, annotations_of, labels_of, name_of

Lookup = Callable[[str, str], Obj | None]
"""(kind, name) -> the ConfigMap or Secret of the pod's namespace."""

_REFERENCE: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")
_SUBSCRIPT: Final = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")
_NAME: Final = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")


class ConfigError(Exception):
    """A container cannot be configured; the message is for its waiting state."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; an unknown name stays as it is, and `$$` is a dollar sign.

    >>> expand("$(A)-$(B)-$$(A)", {"A": "1"})
    '1-$(B)-$(A)'
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return variables.get(name, match.group())

    return _REFERENCE.sub(value, text)


def expand_all(texts: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Expand every word of a command line."""
    return [expand(text, variables) for text in texts]


def environment(container: Obj, pod: Obj, lookup: Lookup, base: Mapping[str, str], allocatable: Obj) -> dict[str, str]:
    """All variables: `base`, then envFrom, then env in order. Raises ConfigError for what is missing."""
    variables = dict(base)
    for source in container.get("envFrom") or ():
        variables |= _all_of(source, lookup)
    for entry in container.get("env") or ():
        if "valueFrom" in entry:
            value = _value_from(entry["valueFrom"], container, pod, lookup, allocatable)
            if value is None:
                continue
        else:
            value = expand(entry.get("value") or "", variables)
        variables[entry["name"]] = value
    return variables


def _all_of(source: Obj, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for kind, reference in (("ConfigMap", source.get("configMapRef")), ("Secret", source.get("secretRef"))):
        if reference is None:
            continue
        found = lookup(kind, reference["name"])
        if found is None and not reference.get("optional"):
            raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
        return {prefix + key: value for key, value in data_of(found).items() if _NAME.match(prefix + key)}
    return {}


def data_of(obj: Obj | None) -> dict[str, str]:
    """The text values of a ConfigMap or Secret."""
    if obj is None:
        return {}
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in (obj.get("data") or {}).items()}
    return dict(obj.get("data") or {})


def _value_from(source: Obj, container: Obj, pod: Obj, lookup: Lookup, allocatable: Obj) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_value(container, pod, source["resourceFieldRef"], allocatable)
    for kind, reference in (("ConfigMap", source.get("configMapKeyRef")), ("Secret", source.get("secretKeyRef"))):
        if reference is None:
            continue
        found = lookup(kind, reference["name"])
        if found is None:
            if reference.get("optional"):
                return None
            raise ConfigError(f'{kind.lower()} "{reference["name"]}" not found')
        data = data_of(found)
        if reference["key"] not in data:
            if reference.get("optional"):
                return None
            namespace = pod["metadata"].get("namespace", "")
            raise ConfigError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference['name']}")
        return data[reference["key"]]
    raise ConfigError(f"unsupported source of an environment variable: {', '.join(source)}")


def service_links(services: Iterable[Obj]) -> dict[str, str]:
    """`<NAME>_SERVICE_HOST` and `<NAME>_SERVICE_PORT` of Services, as a kubelet tells the pods of their namespace."""
    links: dict[str, str] = {}
    for service in services:
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or ()
        if address and address != "None" and ports:
            prefix = name_of(service).upper().replace("-", "_")
            links[f"{prefix}_SERVICE_HOST"] = address
            links[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
    return links


def field_value(pod: Obj, path: str) -> str:
    """The downward API's fieldPath. Raises ConfigError for a path it does not have."""
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        kind, key = subscript.groups()
        return (labels_of(pod) if kind == "labels" else annotations_of(pod)).get(key, "")
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    fields: dict[str, Callable[[], Any]] = {
        "metadata.name": lambda: metadata["name"],
        "metadata.namespace": lambda: metadata["namespace"],
        "metadata.uid": lambda: metadata["uid"],
        "metadata.labels": lambda: _pairs(labels_of(pod)),
        "metadata.annotations": lambda: _pairs(annotations_of(pod)),
        "spec.nodeName": lambda: spec.get("nodeName", ""),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName", ""),
        "status.hostIP": lambda: status.get("hostIP", ""),
        "status.hostIPs": lambda: status.get("hostIP", ""),
        "status.podIP": lambda: status.get("podIP", ""),
        "status.podIPs": lambda: status.get("podIP", ""),
    }
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}; supported are {', '.join(fields)}")
    return str(fields[path]())


def _pairs(values: Mapping[str, str]) -> str:
    quoted = (
        (key, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, value in values.items()
    )
    return "\n".join(f'{key}="{value}"' for key, value in sorted(quoted))


def resource_value(container: Obj, pod: Obj, reference: Obj, allocatable: Obj) -> str:
    """`limits.cpu` and so on, divided by the divisor and rounded up; an absent limit is the node's allocatable."""
    name = reference.get("containerName")
    owners = [*pod["spec"].get("containers", ()), *(pod["spec"].get("initContainers") or ())]
    owner = next((c for c in owners if c["name"] == name), container) if name else container
    kind, _, resource = reference["resource"].partition(".")
    resources = owner.get("resources") or {}
    amount = (resources.get(kind) or {}).get(resource)
    if amount is None and kind == "limits":
        amount = allocatable.get(resource)
    divisor = quantity.parse(reference.get("divisor") or "1")
    return str(math.ceil(quantity.parse(amount or "0") / (divisor or 1)))
