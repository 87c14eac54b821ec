"""Server-side defaults of the built-in kinds. Pods are in pod_defaults.py."""

# The functions are named after the kinds they complete.
# ruff: noqa: D103

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Final

from mlserve_local.apiserver.default_tables import Obj, Table, apply, null_times
from mlserve_local.apiserver.pod_defaults import template

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


def deployment(obj: Obj) -> None:
    template(obj.setdefault("spec", {}))
    apply(obj, DEPLOYMENT)
    strategy = obj["spec"]["strategy"]
    if strategy["type"] == "RollingUpdate":
        apply(strategy, (("rollingUpdate.maxUnavailable", "25%"), ("rollingUpdate.maxSurge", "25%")))
    obj.setdefault("status", {})
    null_times(obj["status"], "lastUpdateTime", "lastTransitionTime")


def replica_set(obj: Obj) -> None:
    template(obj.setdefault("spec", {}))
    apply(obj, (("spec.replicas", 1), ("status.replicas", 0)))
    null_times(obj["status"], "lastTransitionTime")


def replication_controller(obj: Obj) -> None:
    replica_set(obj)
    labels = obj["spec"]["template"]["metadata"].get("labels")
    if labels:
        obj["spec"]["selector"] = obj["spec"].get("selector") or dict(labels)
        metadata = obj.setdefault("metadata", {})
        metadata["labels"] = metadata.get("labels") or dict(labels)


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


TEMPLATE_GENERATION: Final = "deprecated.daemonset.template.generation"


def daemon_set(obj: Obj) -> None:
    obj.setdefault("metadata", {}).setdefault("annotations", {}).setdefault(TEMPLATE_GENERATION, "1")
    template(obj.setdefault("spec", {}))
    apply(obj, DAEMON_SET)
    if obj["spec"]["updateStrategy"]["type"] == "RollingUpdate":
        apply(
            obj,
            (
                ("spec.updateStrategy.rollingUpdate.maxUnavailable", 1),
                ("spec.updateStrategy.rollingUpdate.maxSurge", 0),
            ),
        )
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
    null_times(obj["status"], "lastProbeTime", "lastTransitionTime")


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
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
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
    null_times(status, "lastTransitionTime")


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


_NODE_INFO: Final = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)


def node(obj: Obj) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    apply(status, (("daemonEndpoints.kubeletEndpoint.Port", 0), *((f"nodeInfo.{name}", "") for name in _NODE_INFO)))
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))
    null_times(status, "lastHeartbeatTime", "lastTransitionTime")


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
    apply(
        obj,
        (
            ("spec.volumeMode", "Filesystem"),
            ("spec.persistentVolumeReclaimPolicy", "Retain"),
            ("status.phase", "Pending"),
            ("spec.hostPath?.type", ""),
        ),
    )


def limit_range(obj: Obj) -> None:
    """What a container gets: the maximum where no default is named, and requests as high as the default."""
    for limit in obj.setdefault("spec", {}).get("limits") or ():
        if limit.get("type") != "Container":
            continue
        default = {**limit.get("max", {}), **limit.get("default", {})}
        request = {**default, **limit.get("min", {}), **limit.get("defaultRequest", {})}
        limit |= {k: v for k, v in (("default", default), ("defaultRequest", request)) if v}


def lease(obj: Obj) -> None:
    obj.setdefault("spec", {})


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
    for endpoint in obj.get("endpoints") or ():
        endpoint.setdefault("conditions", {})
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
    ("failurePolicy", "Fail"),
    ("matchPolicy", "Equivalent"),
    ("namespaceSelector", {}),
    ("objectSelector", {}),
    ("timeoutSeconds", 10),
    ("rules[*].scope", "*"),
    ("clientConfig?.service?.port", 443),
)
validating_webhooks = _webhooks(_WEBHOOK)
mutating_webhooks = _webhooks((*_WEBHOOK, ("reinvocationPolicy", "Never")))
