"""The columns of the built-in kinds, as kubectl users know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.selectors import format_label_selector

NONE: Final = "<none>"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; priority 1 is only shown by ``-o wide``."""

    name: str
    type: str = "string"
    priority: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Printer:
    columns: tuple[Column, ...]
    cells: Callable[[Obj], list[Any]]


def _columns(*names: str) -> tuple[Column, ...]:
    """``Ready`` is text, ``Data:integer`` has a type, ``IP*`` is wide only."""
    made = []
    for name in names:
        label, _, kind = name.partition(":")
        wide = label.endswith("*")
        made.append(Column(label.rstrip("*"), kind or "string", 1 if wide else 0))
    return tuple(made)


def _meta(obj: Obj) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata["name"], times.age(metadata.get("creationTimestamp"))


def _containers(obj: Obj) -> tuple[str, str]:
    spec = obj["spec"].get("template", {}).get("spec", {})
    found = spec.get("containers") or []
    return ",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)


def _labels(selector: Obj | None) -> str:
    return format_label_selector(selector) or NONE


def _deployment(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    status, spec = obj.get("status", {}), obj["spec"]
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [name, ready, *counts, age, *_containers(obj), _labels(spec.get("selector"))]


def _replica_set(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    status, spec = obj.get("status", {}), obj["spec"]
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    selector = spec.get("selector")
    return [name, *counts, age, *_containers(obj), _labels(selector)]


def _stateful_set(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    return [name, f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}", age, *_containers(obj)]


def _daemon_set(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    status = obj.get("status", {})
    keys = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
    chosen = ",".join(f"{k}={v}" for k, v in (obj["spec"]["template"]["spec"].get("nodeSelector") or {}).items()) or NONE
    return [name, *(status.get(k, 0) for k in keys), chosen, age, *_containers(obj), _labels(obj["spec"].get("selector"))]


def _service(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    spec = obj["spec"]
    ingress = obj.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    external = ",".join([i.get("ip") or i.get("hostname", "") for i in ingress] + list(spec.get("externalIPs") or ()))
    if spec.get("type") == "ExternalName":
        external = spec.get("externalName", "")
    elif spec.get("type") == "LoadBalancer" and not external:
        external = "<pending>"
    ports = ",".join(
        f"{p['port']}:{p['nodePort']}/{p.get('protocol')}" if p.get("nodePort") else f"{p['port']}/{p.get('protocol')}"
        for p in spec.get("ports") or ()
    )
    address = spec.get("clusterIP") or NONE
    selector = _labels({"matchLabels": spec.get("selector") or {}})
    return [name, spec.get("type"), address, external or NONE, ports or NONE, age, selector]


def _pod_reason(obj: Obj) -> str:
    """STATUS of a pod: the phase, unless a container or a deletion has more to say."""
    status = obj.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    init = obj["spec"].get("initContainers") or []
    for index, entry in enumerate(status.get("initContainerStatuses") or ()):
        state = entry.get("state", {})
        ended = state.get("terminated")
        if ended and ended.get("exitCode") == 0:
            continue
        if ended:
            return "Init:" + (ended.get("reason") or f"ExitCode:{ended.get('exitCode')}")
        waiting = state.get("waiting", {}).get("reason", "")
        if waiting and waiting != "PodInitializing":
            return f"Init:{waiting}"
        return f"Init:{index}/{len(init)}"
    running = False
    for entry in reversed(status.get("containerStatuses") or ()):
        state = entry.get("state", {})
        if state.get("waiting", {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif "terminated" in state:
            ended = state["terminated"]
            reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode', 0)}"
        elif entry.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        reason = "Running" if _is_ready(status) else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _is_ready(status: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def _pod(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    spec, status = obj["spec"], obj.get("status", {})
    entries = status.get("containerStatuses") or []
    ready = sum(bool(e.get("ready")) for e in entries)
    restarts = sum(e.get("restartCount", 0) for e in entries)
    last = [e["lastState"]["terminated"]["finishedAt"] for e in entries if "terminated" in e.get("lastState", {}) and e["lastState"]["terminated"].get("finishedAt")]
    shown = f"{restarts} ({times.age(max(last))} ago)" if restarts and last else str(restarts)
    gates = spec.get("readinessGates") or []
    passed = sum(any(c["type"] == g.get("conditionType") and c["status"] == "True" for c in status.get("conditions") or ()) for g in gates)
    return [
        name, f"{ready}/{len(spec.get('containers') or ())}", _pod_reason(obj), shown, age, status.get("podIP") or NONE,
        spec.get("nodeName") or NONE, status.get("nominatedNodeName") or NONE, f"{passed}/{len(gates)}" if gates else NONE,
    ]


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
    name, age = _meta(obj)
    spec, status = obj["spec"], obj.get("status", {})
    reference = spec.get("scaleTargetRef", {})
    current = status.get("currentMetrics") or []
    shown = [_metric(m, current[i] if i < len(current) else None) for i, m in enumerate(spec.get("metrics") or ())]
    text = ", ".join(shown[:2]) + (f" + {len(shown) - 2} more..." if len(shown) > 2 else "") or NONE
    low = spec.get("minReplicas")
    return [name, f"{reference.get('kind')}/{reference.get('name')}", text, str(low) if low is not None else "<unset>",
            spec.get("maxReplicas"), status.get("currentReplicas", 0), age]


def _event(obj: Obj) -> list[Any]:
    involved, source = obj.get("involvedObject", {}), obj.get("source", {})
    first = obj.get("firstTimestamp") or obj.get("eventTime")
    series = obj.get("series") or {}
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or first
    component = source.get("component") or obj.get("reportingComponent", "")
    shown = ", ".join(filter(None, (component, source.get("host", ""))))
    count = series.get("count") or obj.get("count") or 1
    target = f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"
    return [times.age(last), obj.get("type", ""), obj.get("reason", ""), target, involved.get("fieldPath", ""), shown,
            obj.get("message", "").strip(), times.age(first), count, obj["metadata"]["name"]]


def _node(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    status = obj.get("status", {})
    ready = next((c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"), "Unknown")
    state = {"True": "Ready", "False": "NotReady"}.get(ready, "NotReady" if ready else "Unknown")
    if obj["spec"].get("unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = sorted(k.removeprefix(prefix) for k in obj["metadata"].get("labels") or {} if k.startswith(prefix))
    info = status.get("nodeInfo", {})
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or ()}
    return [name, state, ",".join(roles) or NONE, age, info.get("kubeletVersion", ""), addresses.get("InternalIP", NONE),
            addresses.get("ExternalIP", NONE), info.get("osImage") or "<unknown>", info.get("kernelVersion") or "<unknown>",
            info.get("containerRuntimeVersion") or "<unknown>"]


def _job(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    status, spec = obj.get("status", {}), obj["spec"]
    done = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    state = "Complete" if done.get("Complete") == "True" else "Failed" if done.get("Failed") == "True" else "Suspended" if spec.get("suspend") else "Running"
    end = status.get("completionTime")
    start = status.get("startTime")
    duration = ""
    if start:
        until = times.parse(end) if end else times.parse(times.now())
        duration = times.human_duration(int((until - times.parse(start)).total_seconds()))
    return [name, state, f"{status.get('succeeded', 0)}/{spec.get('completions') or 1}", duration, age, *_containers(obj), _labels(spec.get("selector"))]


def _cron_job(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    spec, status = obj["spec"], obj.get("status", {})
    inner = {"spec": spec["jobTemplate"]["spec"]}
    last = times.age(status["lastScheduleTime"]) if status.get("lastScheduleTime") else NONE
    return [name, spec.get("schedule"), spec.get("timeZone") or NONE, "True" if spec.get("suspend") else "False",
            len(status.get("active") or ()), last, age, *_containers(inner), NONE]


def _claim(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    spec, status = obj["spec"], obj.get("status", {})
    size = (status.get("capacity") or {}).get("storage", "") if status.get("phase") == "Bound" else ""
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    modes = ",".join(short.get(m, m) for m in status.get("accessModes") or ())
    return [name, status.get("phase"), spec.get("volumeName", ""), size, modes, spec.get("storageClassName", ""), "<unset>", age, spec.get("volumeMode")]


def _slice(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    ports = ",".join(str(p.get("port")) for p in obj.get("ports") or ()) or "<unset>"
    addresses = ",".join(a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()) or "<unset>"
    return [name, obj.get("addressType"), ports, addresses, age]


def _endpoints(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    found = [f"{a['ip']}:{p['port']}" for s in obj.get("subsets") or () for p in s.get("ports") or () for a in s.get("addresses") or ()]
    return [name, ",".join(found) or NONE, age]


def _simple(*paths: str) -> Callable[[Obj], list[Any]]:
    """Name, plain fields by path, age."""

    def cells(obj: Obj) -> list[Any]:
        name, age = _meta(obj)
        shown = []
        for path in paths:
            value: Any = obj
            for key in path.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            shown.append(len(value) if isinstance(value, dict | list) else "" if value is None else value)
        return [name, *shown, age]

    return cells


def _budget(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    spec = obj["spec"]
    low, high = (str(spec[k]) if spec.get(k) is not None else "N/A" for k in ("minAvailable", "maxUnavailable"))
    return [name, low, high, obj.get("status", {}).get("disruptionsAllowed", 0), age]


def _config_map(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    return [name, len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age]


def _binding(obj: Obj) -> list[Any]:
    name, age = _meta(obj)
    subjects = obj.get("subjects") or []
    users, groups = (", ".join(s["name"] for s in subjects if s["kind"] == k) for k in ("User", "Group"))
    accounts = ", ".join(f"{s.get('namespace')}/{s['name']}" for s in subjects if s["kind"] == "ServiceAccount")
    return [name, f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}", age, users, groups, accounts]


_WORKLOAD: Final = ("Containers*", "Images*", "Selector*")

PRINTERS: Final[dict[str, Printer]] = {
    "apps/deployments": Printer(_columns("Name", "Ready", "Up-to-date", "Available", "Age", *_WORKLOAD), _deployment),
    "apps/replicasets": Printer(_columns("Name", "Desired:integer", "Current:integer", "Ready:integer", "Age", *_WORKLOAD), _replica_set),
    "apps/statefulsets": Printer(_columns("Name", "Ready", "Age", "Containers*", "Images*"), _stateful_set),
    "apps/daemonsets": Printer(
        _columns("Name", "Desired:integer", "Current:integer", "Ready:integer", "Up-to-date:integer", "Available:integer",
                 "Node Selector", "Age", *_WORKLOAD), _daemon_set),
    "apps/controllerrevisions": Printer(_columns("Name", "Controller", "Revision:integer", "Age"), lambda o: [
        o["metadata"]["name"],
        next((f"{r['kind'].lower()}.{r['apiVersion'].partition('/')[0]}/{r['name']}" for r in o["metadata"].get("ownerReferences") or () if r.get("controller")), NONE),
        o.get("revision"), times.age(o["metadata"].get("creationTimestamp"))]),
    "/services": Printer(_columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"), _service),
    "/pods": Printer(_columns("Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"), _pod),
    "/nodes": Printer(_columns("Name", "Status", "Roles", "Age", "Version", "Internal-IP*", "External-IP*", "OS-Image*",
                               "Kernel-Version*", "Container-Runtime*"), _node),
    "/namespaces": Printer(_columns("Name", "Status", "Age"), _simple("status.phase")),
    "/secrets": Printer(_columns("Name", "Type", "Data", "Age"), lambda o: [
        o["metadata"]["name"], o.get("type", ""), len(o.get("data") or ()), times.age(o["metadata"].get("creationTimestamp"))]),
    "/configmaps": Printer(_columns("Name", "Data", "Age"), _config_map),
    "/serviceaccounts": Printer(_columns("Name", "Age"), _simple()),
    "/endpoints": Printer(_columns("Name", "Endpoints", "Age"), _endpoints),
    "/events": Printer(_columns("Last Seen", "Type", "Reason", "Object", "Subobject*", "Source*", "Message", "First Seen*",
                                "Count*", "Name*"), _event),
    "/persistentvolumeclaims": Printer(_columns("Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass",
                                                "VolumeAttributesClass", "Age", "VolumeMode*"), _claim),
    "coordination.k8s.io/leases": Printer(_columns("Name", "Holder", "Age"), _simple("spec.holderIdentity")),
    "autoscaling/horizontalpodautoscalers": Printer(
        _columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"), _autoscaler),
    "policy/poddisruptionbudgets": Printer(
        _columns("Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"), _budget),
    "batch/jobs": Printer(_columns("Name", "Status", "Completions", "Duration", "Age", *_WORKLOAD), _job),
    "batch/cronjobs": Printer(_columns("Name", "Schedule", "Timezone", "Suspend", "Active:integer", "Last Schedule", "Age", *_WORKLOAD), _cron_job),
    "discovery.k8s.io/endpointslices": Printer(_columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _slice),
    "rbac.authorization.k8s.io/roles": Printer(_columns("Name", "Created At:date"), lambda o: [o["metadata"]["name"], o["metadata"].get("creationTimestamp")]),
    "rbac.authorization.k8s.io/clusterroles": Printer(_columns("Name", "Created At:date"), lambda o: [o["metadata"]["name"], o["metadata"].get("creationTimestamp")]),
    "rbac.authorization.k8s.io/rolebindings": Printer(_columns("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"), _binding),
    "rbac.authorization.k8s.io/clusterrolebindings": Printer(_columns("Name", "Role", "Age", "Users*", "Groups*", "ServiceAccounts*"), _binding),
    "scheduling.k8s.io/priorityclasses": Printer(_columns("Name", "Value", "Global-Default", "Age", "PreemptionPolicy"), lambda o: [
        o["metadata"]["name"], o.get("value", 0), bool(o.get("globalDefault")), times.age(o["metadata"].get("creationTimestamp")), o.get("preemptionPolicy", "")]),
    "networking.k8s.io/networkpolicies": Printer(_columns("Name", "Pod-Selector", "Age"), lambda o: [
        o["metadata"]["name"], _labels(o["spec"].get("podSelector")), times.age(o["metadata"].get("creationTimestamp"))]),
    "storage.k8s.io/storageclasses": Printer(_columns("Name", "Provisioner", "Age"), _simple("provisioner")),
}
