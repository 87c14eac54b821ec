"""The columns of the built-in kinds, as kubectl users know them. Workloads are in workload_printers.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.printer import NONE, Printer, columns, label_text, name_and_age
from mlserve_local.apiserver.workload_printers import WORKLOAD_PRINTERS


def _metric(spec: Obj, current: Obj | None) -> str:
    kind = spec["type"]
    source = spec.get(kind[0].lower() + kind[1:], {})
    target = source.get("target", {})
    now = ((current or {}).get(kind[0].lower() + kind[1:]) or {}).get("current", {})
    name = source.get("name") or source.get("metric", {}).get("name", "")
    if target.get("averageUtilization") is not None:
        seen = f"{now['averageUtilization']}%" if now.get("averageUtilization") is not None else "<unknown>"
        return f"{name}: {seen}/{target['averageUtilization']}%"
    goal = target.get("averageValue") or target.get("value") or ""
    seen = now.get("averageValue") or now.get("value") or "<unknown>"
    suffix = " (avg)" if target.get("averageValue") and kind in ("External", "Object") else ""
    return f"{name + ': ' if kind in ('Resource', 'ContainerResource') else ''}{seen}/{goal}{suffix}"


def _autoscaler(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec, status = obj["spec"], obj.get("status", {})
    reference = spec.get("scaleTargetRef", {})
    current = status.get("currentMetrics") or []
    shown = [_metric(m, current[i] if i < len(current) else None) for i, m in enumerate(spec.get("metrics") or ())]
    text = ", ".join(shown[:2]) + (f" + {len(shown) - 2} more..." if len(shown) > 2 else "") or NONE
    low = spec.get("minReplicas")
    return [
        name,
        f"{reference.get('kind')}/{reference.get('name')}",
        text,
        str(low) if low is not None else "<unset>",
        spec.get("maxReplicas"),
        status.get("currentReplicas", 0),
        age,
    ]


def _event(obj: Obj) -> list[Any]:
    involved, source = obj.get("involvedObject", {}), obj.get("source", {})
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    component = source.get("component") or obj.get("reportingComponent", "")
    shown = ", ".join(filter(None, (component, source.get("host", ""))))
    count = series.get("count") or obj.get("count") or 1
    target = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    return [
        times.age(last),
        obj.get("type", ""),
        obj.get("reason", ""),
        target,
        involved.get("fieldPath", ""),
        shown,
        obj.get("message", "").strip(),
        times.age(first),
        count,
        obj["metadata"]["name"],
    ]


def _claim(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec, status = obj["spec"], obj.get("status", {})
    size = (status.get("capacity") or {}).get("storage", "") if spec.get("volumeName") else ""
    phase = "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase")
    return [
        name,
        phase,
        spec.get("volumeName", ""),
        size,
        _modes(status) if spec.get("volumeName") else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        age,
        spec.get("volumeMode", "<unset>"),
    ]


def _slice(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    ports = [str(p.get("port", "*")) for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [name, obj.get("addressType"), _some(ports), _some(addresses), age]


def _some(texts: list[str]) -> str:
    """The first three, and how many there are besides."""
    more = f" + {len(texts) - 3} more..." if len(texts) > 3 else ""
    return ",".join(texts[:3]) + more or "<unset>"


def _endpoints(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    found = [
        f"{a['ip']}:{p['port']}"
        for s in obj.get("subsets") or ()
        for p in s.get("ports") or ()
        for a in s.get("addresses") or ()
    ]
    more = f" + {len(found) - 3} more..." if len(found) > 3 else ""
    return [name, ",".join(found[:3]) + more or NONE, age]


def _volume(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec, status = obj["spec"], obj.get("status", {})
    claim = spec.get("claimRef")
    return [
        name,
        (spec.get("capacity") or {}).get("storage", ""),
        _modes(spec),
        spec.get("persistentVolumeReclaimPolicy", ""),
        "Terminating" if obj["metadata"].get("deletionTimestamp") else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        spec.get("storageClassName", ""),
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason", ""),
        age,
        spec.get("volumeMode", "<unset>"),
    ]


def _modes(holder: Obj) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    present = holder.get("accessModes") or ()
    return ",".join(text for mode, text in short.items() if mode in present)


def _ingress(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec = obj.get("spec", {})
    rules = spec.get("rules") or []
    hosts = [r["host"] for r in rules[:3] if r.get("host")]
    shown = ",".join(hosts) or "*"
    if hosts and len(rules) > 3:
        shown += f" + {len(rules) - 3} more..."
    ingress = (obj.get("status", {}).get("loadBalancer") or {}).get("ingress") or []
    addresses = ",".join(sorted({i.get("ip") or i.get("hostname", "") for i in ingress}))
    return [name, spec.get("ingressClassName", NONE), shown, addresses, "80, 443" if spec.get("tls") else "80", age]


def _ingress_class(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec = obj.get("spec", {})
    parameters, text = spec.get("parameters"), NONE
    if parameters:
        group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
        text = f"{parameters.get('kind', '')}{group}/{parameters.get('name', '')}"
    return [name, spec.get("controller", ""), text, age]


def _storage_class(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    if (obj["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class") == "true":
        name += " (default)"
    return [
        name,
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        bool(obj.get("allowVolumeExpansion")),
        age,
    ]


def _quota(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    limits = sorted(k for k in hard if k.startswith("limits."))
    requests = sorted(k for k in hard if not k.startswith("limits."))
    texts = [", ".join(f"{k}: {used.get(k, '0')}/{hard[k]}" for k in keys) for keys in (requests, limits)]
    return [name, *texts, age]


def _role(obj: Obj) -> list[Any]:
    return [obj["metadata"]["name"], obj["metadata"].get("creationTimestamp")]


def _simple(*paths: str) -> Callable[[Obj], list[Any]]:
    """Name, plain fields by path, age."""

    def cells(obj: Obj) -> list[Any]:
        name, age = name_and_age(obj)
        shown = []
        for path in paths:
            value: Any = obj
            for key in path.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            shown.append(len(value) if isinstance(value, dict | list) else "" if value is None else value)
        return [name, *shown, age]

    return cells


def _budget(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec = obj["spec"]
    low, high = (str(spec[k]) if spec.get(k) is not None else "N/A" for k in ("minAvailable", "maxUnavailable"))
    return [name, low, high, obj.get("status", {}).get("disruptionsAllowed", 0), age]


def _config_map(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    return [name, len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age]


def _binding(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    subjects = obj.get("subjects") or []
    users, groups = (", ".join(s["name"] for s in subjects if s["kind"] == k) for k in ("User", "Group"))
    accounts = ", ".join(f"{s.get('namespace')}/{s['name']}" for s in subjects if s["kind"] == "ServiceAccount")
    return [name, f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}", age, users, groups, accounts]


PRINTERS: Final[dict[str, Printer]] = {
    **WORKLOAD_PRINTERS,
    "apps/controllerrevisions": Printer(
        columns("Name", "Controller", "Revision:integer", "Age"),
        lambda o: [
            o["metadata"]["name"],
            next(
                (
                    f"{r['kind'].lower()}.{r['apiVersion'].partition('/')[0]}/{r['name']}"
                    for r in o["metadata"].get("ownerReferences") or ()
                    if r.get("controller")
                ),
                NONE,
            ),
            o.get("revision"),
            times.age(o["metadata"].get("creationTimestamp")),
        ],
    ),
    "/namespaces": Printer(columns("Name", "Status", "Age"), _simple("status.phase")),
    "/secrets": Printer(
        columns("Name", "Type", "Data", "Age"),
        lambda o: [
            o["metadata"]["name"],
            o.get("type", ""),
            len(o.get("data") or ()),
            times.age(o["metadata"].get("creationTimestamp")),
        ],
    ),
    "/configmaps": Printer(columns("Name", "Data", "Age"), _config_map),
    "/serviceaccounts": Printer(columns("Name", "Age"), _simple()),
    "/endpoints": Printer(columns("Name", "Endpoints", "Age"), _endpoints),
    "/events": Printer(
        columns(
            "Last Seen",
            "Type",
            "Reason",
            "Object",
            "Subobject*",
            "Source*",
            "Message",
            "First Seen*",
            "Count*",
            "Name*",
        ),
        _event,
    ),
    "/persistentvolumeclaims": Printer(
        columns(
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            "VolumeMode*",
        ),
        _claim,
    ),
    "coordination.k8s.io/leases": Printer(columns("Name", "Holder", "Age"), _simple("spec.holderIdentity")),
    "autoscaling/horizontalpodautoscalers": Printer(
        columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"), _autoscaler
    ),
    "policy/poddisruptionbudgets": Printer(
        columns("Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"), _budget
    ),
    "discovery.k8s.io/endpointslices": Printer(columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _slice),
    "rbac.authorization.k8s.io/roles": Printer(columns("Name", "Created At:date"), _role),
    "rbac.authorization.k8s.io/clusterroles": Printer(columns("Name", "Created At:date"), _role),
    "rbac.authorization.k8s.io/rolebindings": Printer(
        columns("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"), _binding
    ),
    "rbac.authorization.k8s.io/clusterrolebindings": Printer(
        columns("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"), _binding
    ),
    "scheduling.k8s.io/priorityclasses": Printer(
        columns("Name", "Value:integer", "Global-Default:boolean", "Age", "PreemptionPolicy"),
        lambda o: [
            o["metadata"]["name"],
            o.get("value", 0),
            bool(o.get("globalDefault")),
            times.age(o["metadata"].get("creationTimestamp")),
            o.get("preemptionPolicy", ""),
        ],
    ),
    "networking.k8s.io/networkpolicies": Printer(
        columns("Name", "Pod-Selector", "Age"),
        lambda o: [
            o["metadata"]["name"],
            label_text(o["spec"].get("podSelector")),
            times.age(o["metadata"].get("creationTimestamp")),
        ],
    ),
    "storage.k8s.io/storageclasses": Printer(
        columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
        _storage_class,
    ),
    "/persistentvolumes": Printer(
        columns(
            "Name",
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
            "VolumeMode*",
        ),
        _volume,
    ),
    "networking.k8s.io/ingresses": Printer(columns("Name", "Class", "Hosts", "Address", "Ports", "Age"), _ingress),
    "networking.k8s.io/ingressclasses": Printer(columns("Name", "Controller", "Parameters", "Age"), _ingress_class),
    "/resourcequotas": Printer(columns("Name", "Request", "Limit", "Age"), _quota),
    "node.k8s.io/runtimeclasses": Printer(columns("Name", "Handler", "Age"), _simple("handler")),
    "admissionregistration.k8s.io/validatingwebhookconfigurations": Printer(
        columns("Name", "Webhooks:integer", "Age"), _simple("webhooks")
    ),
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": Printer(
        columns("Name", "Webhooks:integer", "Age"), _simple("webhooks")
    ),
}
