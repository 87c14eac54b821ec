"""Server-side defaults of the built-in kinds, as tables of path -> value.

A path walks fields and lists (``containers[*].ports[*]``); the default is set in every object the path reaches that
lacks the last field. A ``?`` behind a field means that the object must be there already. What depends on other fields
is a function below.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterator
from typing import Any, Final

Obj = dict[str, Any]
Table = tuple[tuple[str, Any], ...]

_PROBE: Final[Table] = (
    ("timeoutSeconds", 1),
    ("periodSeconds", 10),
    ("successThreshold", 1),
    ("failureThreshold", 3),
)
CONTAINER: Final[Table] = (
    ("resources", {}),
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
    ("ports[*].protocol", "TCP"),
    *((f"{probe}?.{key}", value) for probe in ("livenessProbe", "readinessProbe", "startupProbe") for key, value in _PROBE),
    *((f"{probe}?.httpGet?.{key}", value) for probe in ("livenessProbe", "readinessProbe", "startupProbe")
      for key, value in (("path", "/"), ("scheme", "HTTP"))),
    *((f"{probe}?.grpc?.service", "") for probe in ("livenessProbe", "readinessProbe", "startupProbe")),
    *((f"lifecycle?.{hook}?.httpGet?.{key}", value) for hook in ("postStart", "preStop")
      for key, value in (("path", "/"), ("scheme", "HTTP"))),
    ("env[*].valueFrom?.fieldRef?.apiVersion", "v1"),
    ("env[*].valueFrom?.resourceFieldRef?.divisor", "0"),
)
POD_SPEC: Final[Table] = (
    ("restartPolicy", "Always"),
    ("terminationGracePeriodSeconds", 30),
    ("dnsPolicy", "ClusterFirst"),
    ("securityContext", {}),
    ("schedulerName", "default-scheduler"),
    ("volumes[*].configMap?.defaultMode", 420),
    ("volumes[*].secret?.defaultMode", 420),
    ("volumes[*].projected?.defaultMode", 420),
    ("volumes[*].downwardAPI?.defaultMode", 420),
    ("volumes[*].downwardAPI?.items[*].fieldRef?.apiVersion", "v1"),
    ("volumes[*].projected?.sources[*].downwardAPI?.items[*].fieldRef?.apiVersion", "v1"),
    ("volumes[*].projected?.sources[*].serviceAccountToken?.expirationSeconds", 3600),
    ("volumes[*].hostPath?.type", ""),
    ("volumes[*].ephemeral?.volumeClaimTemplate?.spec?.volumeMode", "Filesystem"),
)
DEPLOYMENT: Final[Table] = (
    ("spec.replicas", 1),
    ("spec.strategy.type", "RollingUpdate"),
    ("spec.revisionHistoryLimit", 10),
    ("spec.progressDeadlineSeconds", 600),
)
STATEFUL_SET: Final[Table] = (
    ("spec.replicas", 1),
    ("spec.podManagementPolicy", "OrderedReady"),
    ("spec.updateStrategy.type", "RollingUpdate"),
    ("spec.revisionHistoryLimit", 10),
    ("spec.persistentVolumeClaimRetentionPolicy.whenDeleted", "Retain"),
    ("spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Retain"),
    ("spec.volumeClaimTemplates[*].spec?.volumeMode", "Filesystem"),
)
DAEMON_SET: Final[Table] = (("spec.updateStrategy.type", "RollingUpdate"), ("spec.revisionHistoryLimit", 10))
JOB: Final[Table] = (
    ("backoffLimit", 6),
    ("completionMode", "NonIndexed"),
    ("suspend", False),
    ("podReplacementPolicy", "TerminatingOrFailed"),
)
CRON_JOB: Final[Table] = (
    ("spec.concurrencyPolicy", "Allow"),
    ("spec.suspend", False),
    ("spec.successfulJobsHistoryLimit", 3),
    ("spec.failedJobsHistoryLimit", 1),
)
SERVICE: Final[Table] = (
    ("spec.sessionAffinity", "None"),
    ("spec.type", "ClusterIP"),
    ("spec.ports[*].protocol", "TCP"),
    ("status.loadBalancer", {}),
)


def apply(obj: Any, table: Table) -> None:
    """Set every default of a table in place."""
    for path, value in table:
        *parents, last = path.split(".")
        for target in _reach(obj, parents):
            if target.get(last) is None:
                target[last] = copy.deepcopy(value)


def _reach(obj: Any, parents: list[str]) -> Iterator[Obj]:
    if not isinstance(obj, dict):
        return
    if not parents:
        yield obj
        return
    head, rest = parents[0], parents[1:]
    if head.endswith("[*]"):
        for item in obj.get(head[:-3]) or ():
            yield from _reach(item, rest)
    elif head.endswith("?"):
        if isinstance(obj.get(head[:-1]), dict):
            yield from _reach(obj[head[:-1]], rest)
    else:
        yield from _reach(obj.setdefault(head, {}), rest)


def containers(spec: Obj) -> Iterator[Obj]:
    """All containers of a pod spec, init containers first."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from (c for c in spec.get(key) or () if isinstance(c, dict))


def pod_spec(spec: Obj) -> None:
    """Defaults of a pod spec, also inside a template."""
    apply(spec, POD_SPEC)
    if "serviceAccountName" in spec:
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif "serviceAccount" in spec:
        spec["serviceAccountName"] = spec["serviceAccount"]
    for volume in spec.get("volumes") or ():
        if set(volume) == {"name"}:
            volume["emptyDir"] = {}
        if "iscsi" in volume:
            volume["iscsi"].setdefault("iscsiInterface", "default")
    for container in containers(spec):
        apply(container, CONTAINER)
        if "imagePullPolicy" not in container:
            image = str(container.get("image", ""))
            tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
            latest = ("@" not in image) and tag in ("", "latest")
            container["imagePullPolicy"] = "Always" if latest else "IfNotPresent"
        resources = container.get("resources", {})
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)
        for env in container.get("env") or ():
            if env.get("value") == "":
                del env["value"]
    if spec.get("hostNetwork"):
        for container in containers(spec):
            for port in container.get("ports") or ():
                port.setdefault("hostPort", port.get("containerPort"))


def template(holder: Obj) -> None:
    """Defaults of ``template`` inside a workload's spec."""
    made = holder.setdefault("template", {})
    made.setdefault("metadata", {})
    made["metadata"].pop("creationTimestamp", None)
    pod_spec(made.setdefault("spec", {}))


def pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    pod_status(obj)


def pod_status(obj: Obj) -> None:
    """Conditions of pods write their two times even when unset."""
    status = obj.setdefault("status", {})
    status.setdefault("phase", "Pending")
    _null_times(status, "lastProbeTime", "lastTransitionTime")
    for key in ("containerStatuses", "initContainerStatuses"):
        apply(status, ((f"{key}[*].state", {}), (f"{key}[*].lastState", {})))
        for entry in status.get(key) or ():
            for name, zero in (("ready", False), ("restartCount", 0), ("image", ""), ("imageID", "")):
                entry.setdefault(name, zero)


def _null_times(status: Obj, *names: str) -> None:
    for condition in status.get("conditions") or ():
        for name in names:
            condition.setdefault(name, None)


def deployment(obj: Obj) -> None:
    template(obj.setdefault("spec", {}))
    apply(obj, DEPLOYMENT)
    strategy = obj["spec"]["strategy"]
    if strategy["type"] == "RollingUpdate":
        apply(strategy, (("rollingUpdate.maxUnavailable", "25%"), ("rollingUpdate.maxSurge", "25%")))
    obj.setdefault("status", {})
    _null_times(obj["status"], "lastUpdateTime", "lastTransitionTime")


def replica_set(obj: Obj) -> None:
    template(obj.setdefault("spec", {}))
    apply(obj, (("spec.replicas", 1), ("status.replicas", 0)))
    _null_times(obj["status"], "lastTransitionTime")


def replication_controller(obj: Obj) -> None:
    replica_set(obj)
    labels = obj["spec"]["template"]["metadata"].get("labels")
    if labels and not obj["spec"].get("selector"):
        obj["spec"]["selector"] = dict(labels)


def stateful_set(obj: Obj) -> None:
    template(obj.setdefault("spec", {}))
    apply(obj, STATEFUL_SET)
    if obj["spec"]["updateStrategy"]["type"] == "RollingUpdate":
        apply(obj, (("spec.updateStrategy.rollingUpdate.partition", 0),))
    for claim in obj["spec"].get("volumeClaimTemplates") or ():
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("metadata", {}).pop("creationTimestamp", None)
        apply(claim, (("status.phase", "Pending"),))
    apply(obj, (("status.replicas", 0), ("status.availableReplicas", 0)))
    obj["spec"].setdefault("serviceName", "")


def daemon_set(obj: Obj) -> None:
    template(obj.setdefault("spec", {}))
    apply(obj, DAEMON_SET)
    if obj["spec"]["updateStrategy"]["type"] == "RollingUpdate":
        apply(obj, (("spec.updateStrategy.rollingUpdate.maxUnavailable", 1), ("spec.updateStrategy.rollingUpdate.maxSurge", 0)))
    zero = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    apply(obj, tuple((f"status.{name}", 0) for name in zero))


def job_spec(spec: Obj) -> None:
    template(spec)
    apply(spec, JOB)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1


def job(obj: Obj) -> None:
    job_spec(obj.setdefault("spec", {}))
    obj.setdefault("status", {})
    _null_times(obj["status"], "lastProbeTime", "lastTransitionTime")


def cron_job(obj: Obj) -> None:
    apply(obj, CRON_JOB)
    inner = obj["spec"].setdefault("jobTemplate", {})
    inner.setdefault("metadata", {}).pop("creationTimestamp", None)
    template(inner.setdefault("spec", {}))
    obj.setdefault("status", {})


def service(obj: Obj) -> None:
    obj.setdefault("spec", {})
    apply(obj, SERVICE)
    spec = obj["spec"]
    for port in spec.get("ports") or ():
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port", 0)
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["sessionAffinity"] == "ClientIP":
        apply(spec, (("sessionAffinityConfig.clientIP.timeoutSeconds", 10800),))


_SCALE_UP: Final[Obj] = {
    "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}],
}
_SCALE_DOWN: Final[Obj] = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def autoscaler(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        for name, rule in (("scaleUp", _SCALE_UP), ("scaleDown", _SCALE_DOWN)):
            made = behavior.setdefault(name, {})
            for key, value in rule.items():
                made.setdefault(key, copy.deepcopy(value))
    status = obj.setdefault("status", {})
    status.setdefault("desiredReplicas", 0)
    status.setdefault("currentMetrics", None)
    _null_times(status, "lastTransitionTime")


def disruption_budget(obj: Obj) -> None:
    obj.setdefault("spec", {})
    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    apply(obj, tuple((f"status.{name}", 0) for name in names))


def event(obj: Obj) -> None:
    obj.setdefault("source", {})
    for name in ("firstTimestamp", "lastTimestamp", "eventTime"):
        obj.setdefault(name, None)
    for name in ("reportingComponent", "reportingInstance"):
        obj.setdefault(name, "")
    obj.setdefault("involvedObject", {})


def secret(obj: Obj) -> None:
    obj.setdefault("type", "Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {k: base64.b64encode(v.encode()).decode() for k, v in plain.items()}
        obj["data"] = {**obj.get("data", {}), **encoded}


_NODE_INFO: Final = ("machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion",
                     "kubeletVersion", "kubeProxyVersion", "operatingSystem", "architecture")


def node(obj: Obj) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    apply(status, (("daemonEndpoints.kubeletEndpoint.Port", 0), *((f"nodeInfo.{name}", "") for name in _NODE_INFO)))
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))
    _null_times(status, "lastHeartbeatTime", "lastTransitionTime")


def namespace(obj: Obj) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Active")
    name = obj.get("metadata", {}).get("name")
    if name:
        obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


def role_binding(obj: Obj) -> None:
    reference = obj.setdefault("roleRef", {})
    reference.setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")


def role(obj: Obj) -> None:
    obj.setdefault("rules", None)


def custom_resource_definition(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})
    webhook = spec["conversion"].get("webhook", {}).get("clientConfig", {}).get("service")
    if webhook:
        webhook.setdefault("port", 443)


def network_policy(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for direction in ("ingress", "egress"):
        apply(spec, ((f"{direction}[*].ports[*].protocol", "TCP"),))
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress"] + (["Egress"] if "egress" in spec else [])


def ingress(obj: Obj) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def volume_claim(obj: Obj) -> None:
    apply(obj, (("spec.volumeMode", "Filesystem"), ("spec.resources", {}), ("status.phase", "Pending")))


def volume(obj: Obj) -> None:
    apply(obj, (("spec.volumeMode", "Filesystem"), ("spec.persistentVolumeReclaimPolicy", "Retain"), ("status.phase", "Pending")))


def storage_class(obj: Obj) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def priority_class(obj: Obj) -> None:
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
    obj.setdefault("value", 0)


def endpoint_slice(obj: Obj) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    obj.setdefault("endpoints", None)
    obj.setdefault("ports", None)


def endpoints(obj: Obj) -> None:
    apply(obj, (("subsets[*].ports[*].protocol", "TCP"),))


def quota(obj: Obj) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def _webhooks(defaults: Table) -> Callable[[Obj], None]:
    def fill(obj: Obj) -> None:
        for hook in obj.get("webhooks") or ():
            apply(hook, defaults)

    return fill


_WEBHOOK: Final[Table] = (
    ("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("namespaceSelector", {}), ("objectSelector", {}),
    ("timeoutSeconds", 10), ("rules[*].scope", "*"), ("clientConfig?.service?.port", 443),
)
validating_webhooks = _webhooks(_WEBHOOK)
mutating_webhooks = _webhooks((*_WEBHOOK, ("reinvocationPolicy", "Never")))
