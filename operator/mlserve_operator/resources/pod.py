"""The pod of a revision: fetch the artifact, then serve it.

Built once, when a revision is new, and pinned in its snapshot: what is changed here applies to revisions to come
and restarts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_core import wire
from mlserve_core.api.v1alpha1 import Device
from mlserve_operator.resources.metadata import model_labels
from mlserve_operator.resources.overlay import overlay

if TYPE_CHECKING:
    from mlserve_core.api.v1alpha1 import Gpu, Model, Runtime

Object = dict[str, Any]

TERMINATION_GRACE_SECONDS: Final = 60
"""Longer than a DNS answer is cached plus the longest request of the default timeout."""
STARTUP_SECONDS: Final = 600
"""How long a model may load; the rollout's own progress deadline usually ends the wait earlier."""
NUMERIC_USER: Final = 65532
TEMPORARY_DIR: Final = "/var/lib/mlserve/tmp"
"""The root file system is read-only. Not /tmp: a file:// artifact of a development cluster may lie there."""
RUNTIME_CONTAINER: Final = "runtime"
FETCH_CONTAINER: Final = "fetch"


def comparison_name(name: str) -> str:
    """ConfigMap with the profile of stable that the canary's pods count on."""
    return f"{name}-comparison"


def feedback_name(name: str) -> str:
    """Secret with the keys that sign prediction ids."""
    return f"{name}-feedback"


def digest_name(revision: str) -> str:
    """ConfigMap with the digest of the artifact that the revision's first pod fetched."""
    return f"{revision}-digest"


def build_pod_template(
    *, name: str, revision: str, model: Model, runtime: Runtime, image: str, fetch_allow: tuple[str, ...] = ()
) -> Object:
    """The pod template of a revision.

    Args:
        name: the ModelDeployment.
        revision: name of the revision.
        model: which artifact.
        runtime: how it runs; `podTemplate` is laid over the result.
        image: the resolved runtime image.
        fetch_allow: private hosts and networks an artifact may be fetched from.
    """
    spec: Object = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": TERMINATION_GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NUMERIC_USER,
            "runAsGroup": NUMERIC_USER,
            "fsGroup": NUMERIC_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_fetch_container(name, revision, model, image, fetch_allow)],
        "containers": [_runtime_container(name, revision, model, runtime, image)],
        "volumes": _volumes(name, model),
        **_scheduling(name, revision, runtime),
    }
    template = {
        "metadata": {
            "labels": model_labels(name, revision),
            "annotations": {"kubectl.kubernetes.io/default-container": RUNTIME_CONTAINER},
        },
        "spec": spec,
    }
    if runtime.pod_template:
        template = overlay(template, runtime.pod_template)
    return overlay(template, {"metadata": {"labels": model_labels(name, revision)}})  # selectors must not break


def _fetch_container(name: str, revision: str, model: Model, image: str, fetch_allow: tuple[str, ...]) -> Object:
    container: Object = {
        "name": FETCH_CONTAINER,
        "image": image,
        "args": ["fetch"],
        "env": [
            {"name": wire.ENV_MODEL_URI, "value": model.uri},
            *_identity(name, revision, model),
            {"name": wire.ENV_FETCH_ALLOW, "value": ",".join(fetch_allow)},
            {"name": "TMPDIR", "value": TEMPORARY_DIR},
        ],
        "volumeMounts": [
            {"name": "model", "mountPath": wire.MODEL_DIR},
            {"name": "tmp", "mountPath": TEMPORARY_DIR},
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _restricted(),
    }
    if model.credentials is not None:
        container["envFrom"] = [{"secretRef": {"name": model.credentials.secret_name}}]
    if _is_mounted(model):  # verified only
        container["volumeMounts"][0] = _model_mount(model)
    return container


def _runtime_container(name: str, revision: str, model: Model, runtime: Runtime, image: str) -> Object:
    container: Object = {
        "name": RUNTIME_CONTAINER,
        "image": image,
        "args": ["serve"],
        "ports": [
            {"name": "http", "containerPort": wire.HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": wire.GRPC_PORT, "protocol": "TCP"},
            {"name": "management", "containerPort": wire.MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        "env": [*_identity(name, revision, model), *_runtime_env(runtime), *runtime.env],
        "volumeMounts": [
            _model_mount(model),
            {"name": "comparison", "mountPath": wire.COMPARISON_DIR, "readOnly": True},
            {"name": "feedback", "mountPath": wire.FEEDBACK_KEYS_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": TEMPORARY_DIR},
        ],
        "startupProbe": _probe(wire.PATH_READYZ, period=1, failures=STARTUP_SECONDS),
        "readinessProbe": _probe(wire.PATH_READYZ, period=1, failures=2),
        "livenessProbe": _probe(wire.PATH_LIVEZ, period=10, failures=3),
        "lifecycle": {"preStop": {"exec": {"command": ["mlserve-runtime", "drain"]}}},
        "resources": _resources(runtime),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": _restricted(),
    }
    if runtime.env_from:
        container["envFrom"] = list(runtime.env_from)
    return container


def _identity(name: str, revision: str, model: Model) -> list[Object]:
    def field(path: str) -> Object:
        return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}

    pinned = {"configMapKeyRef": {"name": digest_name(revision), "key": "digest", "optional": True}}
    digest = {"value": model.digest} if model.digest else {"valueFrom": pinned}
    return [
        {"name": wire.ENV_MODEL_NAME, "value": name},
        {"name": wire.ENV_MODEL_VERSION, "value": model.version},
        {"name": wire.ENV_MODEL_DIR, "value": wire.MODEL_DIR},
        {"name": wire.ENV_MODEL_DIGEST, **digest},
        {"name": wire.ENV_REVISION, "value": revision},
        {"name": wire.ENV_NAMESPACE, "valueFrom": field("metadata.namespace")},
        {"name": wire.ENV_POD_NAME, "valueFrom": field("metadata.name")},
        {"name": wire.ENV_POD_UID, "valueFrom": field("metadata.uid")},
    ]


def _runtime_env(runtime: Runtime) -> list[Object]:
    env = {
        wire.ENV_DEVICE: _device(runtime),
        wire.ENV_COMPARISON_DIR: wire.COMPARISON_DIR,
        wire.ENV_FEEDBACK_KEYS_DIR: wire.FEEDBACK_KEYS_DIR,
        "TMPDIR": TEMPORARY_DIR,
    }
    if (batching := runtime.batching) is not None:
        values = {
            wire.ENV_MAX_ROWS: "max_rows",
            wire.ENV_MAX_DELAY_MICROS: "max_delay_micros",
            wire.ENV_QUEUE_ROWS: "queue_rows",
            wire.ENV_TIMEOUT_MILLIS: "timeout_millis",
        }
        # Only what the user set: the rest is the runtime's own default and may differ between its releases.
        set_by_user = batching.model_fields_set
        env |= {key: str(getattr(batching, name)) for key, name in values.items() if name in set_by_user}
    return [*({"name": key, "value": value} for key, value in env.items()), _threads(runtime)]


def _threads(runtime: Runtime) -> Object:
    """As many threads as CPUs were asked for, rounded up: with more, threads of small operations wait for each other
    wherever another pod has the CPU. A limit says more than a request.
    """
    limited = runtime.resources is not None and "cpu" in runtime.resources.limits
    resource = "limits.cpu" if limited else "requests.cpu"
    return {"name": wire.ENV_THREADS, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}}


def _device(runtime: Runtime) -> str:
    """`auto` is CUDA where the pod asks for GPUs; on another node the driver may be there, but not for this pod."""
    if runtime.device is not Device.AUTO:
        return runtime.device.value
    asked = {*(runtime.resources.limits if runtime.resources else ()), *([runtime.gpu.resource] if runtime.gpu else ())}
    return Device.CUDA.value if any(name.startswith("nvidia.com/") for name in asked) else Device.CPU.value


def _resources(runtime: Runtime) -> Object:
    given = runtime.resources
    requests: Object = {"cpu": "100m", "memory": "256Mi", **(given.requests if given else {})}
    limits: Object = dict(given.limits) if given else {}
    if (gpu := runtime.gpu) is not None:
        requests[gpu.resource] = limits[gpu.resource] = gpu.count
    for resource, amount in limits.items():
        # A request above the limit is invalid; as in a pod, a limit alone also is the request.
        if given is None or resource not in given.requests:
            requests[resource] = amount
    return {"requests": requests, "limits": limits} if limits else {"requests": requests}


def _scheduling(name: str, revision: str, runtime: Runtime) -> Object:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {key: model_labels(name, revision)[key] for key in _SPREAD_LABELS}},
    }
    values: Object = {
        "nodeSelector": dict(runtime.node_selector),
        "tolerations": [*runtime.tolerations, *_gpu_tolerations(runtime.gpu, runtime.device)],
        "affinity": runtime.affinity,
        "topologySpreadConstraints": list(runtime.topology_spread_constraints) or [spread],
        "priorityClassName": runtime.priority_class_name,
        "runtimeClassName": runtime.runtime_class_name,
        "serviceAccountName": runtime.service_account_name,
        "imagePullSecrets": list(runtime.image_pull_secrets),
    }
    return {key: value for key, value in values.items() if value}


_SPREAD_LABELS: Final = (wire.LABEL_MODELDEPLOYMENT, wire.LABEL_REVISION)


def _gpu_tolerations(gpu: Gpu | None, device: Device) -> list[Object]:
    if gpu is None or device is Device.CPU:
        return []
    # MIG profiles (nvidia.com/mig-1g.5gb) lie on nodes that are tainted like any other GPU node.
    domain = gpu.resource.partition("/")[0]
    return [{"key": f"{domain}/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def _volumes(name: str, model: Model) -> list[Object]:
    return [
        {"name": "model", **_model_volume(model)},
        {"name": "tmp", "emptyDir": {}},
        {"name": "comparison", "configMap": {"name": comparison_name(name), "optional": True}},
        {"name": "feedback", "secret": {"secretName": feedback_name(name), "optional": True}},
    ]


def _model_volume(model: Model) -> Object:
    """Where the artifact lies in the pod: the kubelet mounts claims and images, everything else is fetched."""
    scheme, _, rest = model.uri.partition("://")
    if scheme == "pvc":
        return {"persistentVolumeClaim": {"claimName": rest.partition("/")[0], "readOnly": True}}
    if scheme == "oci":
        return {"image": {"reference": rest, "pullPolicy": "IfNotPresent"}}
    return {"emptyDir": {}}


def _model_mount(model: Model) -> Object:
    mount: Object = {"name": "model", "mountPath": wire.MODEL_DIR, "readOnly": True}
    scheme, _, rest = model.uri.partition("://")
    path = rest.partition("/")[2].strip("/") if scheme == "pvc" else ""
    return {**mount, "subPath": path} if path else mount


def _is_mounted(model: Model) -> bool:
    return model.uri.startswith(("pvc://", "oci://"))


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "management", "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
        "successThreshold": 1,
    }


def _restricted() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
