"""The columns of pods, of what makes pods, and of what they run on."""

from __future__ import annotations

from typing import Any, Final

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.printer import NONE, Printer, columns, containers, label_text, name_and_age


def _deployment(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    status, spec = obj.get("status", {}), obj["spec"]
    ready = f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}"
    counts = [status.get("updatedReplicas", 0), status.get("availableReplicas", 0)]
    return [name, ready, *counts, age, *containers(obj), label_text(spec.get("selector"))]


def _replica_set(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    status, spec = obj.get("status", {}), obj["spec"]
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    selector = spec.get("selector")
    return [name, *counts, age, *containers(obj), label_text(selector)]


def _controller(obj: Obj) -> list[Any]:
    chosen = {"matchLabels": obj["spec"].get("selector") or {}}
    return [*_replica_set(obj)[:-1], label_text(chosen)]


def _pod_template(obj: Obj) -> list[Any]:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [obj["metadata"]["name"], *containers({"spec": {"template": template}}), label_text({"matchLabels": labels})]


def _stateful_set(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    return [
        name,
        f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}",
        age,
        *containers(obj),
    ]


def _daemon_set(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    status = obj.get("status", {})
    keys = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    chosen = (
        ",".join(f"{k}={v}" for k, v in (obj["spec"]["template"]["spec"].get("nodeSelector") or {}).items()) or NONE
    )
    return [
        name,
        *(status.get(k, 0) for k in keys),
        chosen,
        age,
        *containers(obj),
        label_text(obj["spec"].get("selector")),
    ]


def _service(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
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
    selector = label_text({"matchLabels": spec.get("selector") or {}})
    return [name, spec.get("type"), address, external or NONE, ports or NONE, age, selector]


def _pod_reason(obj: Obj) -> str:  # noqa: C901 - the order of kubectl, case by case
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
            return "Init:" + (ended.get("reason") or _exit(ended))
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
            reason = ended.get("reason") or _exit(ended)
        elif entry.get("ready") and "running" in state:
            running = True
    if reason == "Completed" and running:
        reason = "Running" if _is_ready(status) else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _exit(ended: Obj) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _is_ready(status: Obj) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ())


def _pod(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec, status = obj["spec"], obj.get("status", {})
    entries = status.get("containerStatuses") or []
    ready = sum(bool(e.get("ready")) for e in entries)
    restarts = sum(e.get("restartCount", 0) for e in entries)
    last = [
        e["lastState"]["terminated"]["finishedAt"]
        for e in entries
        if "terminated" in e.get("lastState", {}) and e["lastState"]["terminated"].get("finishedAt")
    ]
    shown = f"{restarts} ({times.age(max(last))} ago)" if restarts and last else str(restarts)
    gates = spec.get("readinessGates") or []
    passed = sum(
        any(c["type"] == g.get("conditionType") and c["status"] == "True" for c in status.get("conditions") or ())
        for g in gates
    )
    return [
        name,
        f"{ready}/{len(spec.get('containers') or ())}",
        _pod_reason(obj),
        shown,
        age,
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{passed}/{len(gates)}" if gates else NONE,
    ]


def _node(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    status = obj.get("status", {})
    ready = next((c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"), "Unknown")
    state = {"True": "Ready", "False": "NotReady"}.get(ready, "NotReady" if ready else "Unknown")
    if obj["spec"].get("unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = sorted(k.removeprefix(prefix) for k in obj["metadata"].get("labels") or {} if k.startswith(prefix))
    info = status.get("nodeInfo", {})
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or ()}
    return [
        name,
        state,
        ",".join(roles) or NONE,
        age,
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _completions(spec: Obj) -> str:
    if spec.get("completions") is not None:
        return str(spec["completions"])
    return f"1 of {spec['parallelism']}" if spec.get("parallelism", 0) > 1 else "1"


def _job(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    status, spec = obj.get("status", {}), obj["spec"]
    done = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    state = (
        "Complete"
        if done.get("Complete") == "True"
        else "Failed"
        if done.get("Failed") == "True"
        else "Terminating"
        if obj["metadata"].get("deletionTimestamp")
        else "Suspended"
        if done.get("Suspended") == "True"
        else "FailureTarget"
        if done.get("FailureTarget") == "True"
        else "SuccessCriteriaMet"
        if done.get("SuccessCriteriaMet") == "True"
        else "Running"
    )
    end = status.get("completionTime")
    start = status.get("startTime")
    duration = ""
    if start:
        until = times.parse(end) if end else times.parse(times.now())
        duration = times.human_duration(int((until - times.parse(start)).total_seconds()))
    return [
        name,
        state,
        f"{status.get('succeeded', 0)}/{_completions(spec)}",
        duration,
        age,
        *containers(obj),
        label_text(spec.get("selector")),
    ]


def _cron_job(obj: Obj) -> list[Any]:
    name, age = name_and_age(obj)
    spec, status = obj["spec"], obj.get("status", {})
    inner = {"spec": spec["jobTemplate"]["spec"]}
    last = times.age(status["lastScheduleTime"]) if status.get("lastScheduleTime") else NONE
    return [
        name,
        spec.get("schedule"),
        spec.get("timeZone") or NONE,
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        last,
        age,
        *containers(inner),
        NONE,
    ]


_WORKLOAD: Final = ("Containers*", "Images*", "Selector*")

WORKLOAD_PRINTERS: Final[dict[str, Printer]] = {
    "apps/deployments": Printer(columns("Name", "Ready", "Up-to-date", "Available", "Age", *_WORKLOAD), _deployment),
    "/replicationcontrollers": Printer(
        columns("Name", "Desired:integer", "Current:integer", "Ready:integer", "Age", *_WORKLOAD), _controller
    ),
    "/podtemplates": Printer(columns("Name", "Containers", "Images", "Pod Labels"), _pod_template),
    "apps/replicasets": Printer(
        columns("Name", "Desired:integer", "Current:integer", "Ready:integer", "Age", *_WORKLOAD), _replica_set
    ),
    "apps/statefulsets": Printer(columns("Name", "Ready", "Age", "Containers*", "Images*"), _stateful_set),
    "apps/daemonsets": Printer(
        columns(
            "Name",
            "Desired:integer",
            "Current:integer",
            "Ready:integer",
            "Up-to-date:integer",
            "Available:integer",
            "Node Selector",
            "Age",
            *_WORKLOAD,
        ),
        _daemon_set,
    ),
    "/services": Printer(columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector*"), _service),
    "/pods": Printer(
        columns("Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"),
        _pod,
    ),
    "/nodes": Printer(
        columns(
            "Name",
            "Status",
            "Roles",
            "Age",
            "Version",
            "Internal-IP*",
            "External-IP*",
            "OS-Image*",
            "Kernel-Version*",
            "Container-Runtime*",
        ),
        _node,
    ),
    "batch/jobs": Printer(columns("Name", "Status", "Completions", "Duration", "Age", *_WORKLOAD), _job),
    "batch/cronjobs": Printer(
        columns(
            "Name", "Schedule", "Timezone", "Suspend:boolean", "Active:integer", "Last Schedule", "Age", *_WORKLOAD
        ),
        _cron_job,
    ),
}
