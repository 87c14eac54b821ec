"""Server-side defaults of pods, also inside the templates of workloads."""

# The functions are named after what they complete.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mlserve_local.apiserver.default_tables import Obj, Table, apply, null_times

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
    *(
        (f"{probe}?.{key}", value)
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        for key, value in _PROBE
    ),
    *(
        (f"{probe}?.httpGet?.{key}", value)
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        for key, value in (("path", "/"), ("scheme", "HTTP"))
    ),
    *((f"{probe}?.grpc?.service", "") for probe in ("livenessProbe", "readinessProbe", "startupProbe")),
    *(
        (f"lifecycle?.{hook}?.httpGet?.{key}", value)
        for hook in ("postStart", "preStop")
        for key, value in (("path", "/"), ("scheme", "HTTP"))
    ),
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


def containers(spec: Obj) -> Iterator[Obj]:
    """All containers of a pod spec, init containers first."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from (c for c in spec.get(key) or () if isinstance(c, dict))


def pod_spec(spec: Obj) -> None:
    """Defaults of a pod spec, also inside a template."""
    apply(spec, POD_SPEC)
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    for volume in spec.get("volumes") or ():
        if set(volume) == {"name"}:
            volume["emptyDir"] = {}
    for container in containers(spec):
        _container(container)
        if spec.get("hostNetwork"):
            for port in container.get("ports") or ():
                port.setdefault("hostPort", port.get("containerPort"))


def _container(container: Obj) -> None:
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
    null_times(status, "lastProbeTime", "lastTransitionTime")
    for key in ("containerStatuses", "initContainerStatuses"):
        apply(status, ((f"{key}[*].state", {}), (f"{key}[*].lastState", {})))
        for entry in status.get(key) or ():
            for name, zero in (("ready", False), ("restartCount", 0), ("image", ""), ("imageID", "")):
                entry.setdefault(name, zero)
