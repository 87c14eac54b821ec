"""The router of a namespace (or of one ModelDeployment): Envoy pods whose files are written by traffic/envoy.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.api.v1alpha1 import ROUTER_NAME, RouterScope
from mlserve_core.wire import MANAGEMENT_PORT, PATH_LIVEZ, PATH_READYZ
from mlserve_operator.resources.disruption import disruption_spec
from mlserve_operator.resources.metadata import owner_reference, router_labels, router_selector
from mlserve_operator.resources.pod import NUMERIC_USER
from mlserve_operator.traffic.envoy import ADMIN_PORT, CONFIG_DIR, bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Resources

Object = dict[str, Any]

NAMESPACE_ROUTER: Final = ROUTER_NAME
DRAIN_SECONDS: Final = 5
"""Over this time Envoy asks its clients to reconnect; they find the other pods by then."""
CONTAINER: Final = "envoy"


def dedicated_router(name: str) -> str:
    """Name of a router that serves one ModelDeployment only."""
    return f"{name}-router"


def router_of(name: str, spec: ModelDeploymentSpec) -> str:
    """Name of the router of a ModelDeployment in mode Envoy."""
    return dedicated_router(name) if spec.traffic.router.scope is RouterScope.DEDICATED else NAMESPACE_ROUTER


def build_router(
    *,
    name: str,
    namespace: str,
    owners: Sequence[Object],
    files: Mapping[str, str],
    replicas: int,
    resources: Resources | None,
    image: str,
    log_level: str,
) -> list[Object]:
    """All objects of a router.

    Args:
        name: the router.
        namespace: where it runs.
        owners: every ModelDeployment it serves; it is collected with the last one.
        files: content of Envoy's configuration by file name.
        replicas: router pods.
        resources: of the container; None takes small requests and no limits.
        image: an Envoy image.
        log_level: Envoy's log level.
    """

    def part(api_version: str, kind: str, **content: Any) -> Object:
        return {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": router_labels(name),
                "ownerReferences": [
                    owner_reference(owner, controller=False)
                    for owner in sorted(owners, key=lambda item: str(item["metadata"]["uid"]))
                ],
            },
            **content,
        }

    selector = router_selector(name)
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 2,
        "template": {
            "metadata": {"labels": router_labels(name)},
            "spec": _pod(name, selector, resources, image, log_level),
        },
    }
    return [
        part("v1", "ServiceAccount", automountServiceAccountToken=False),
        part("v1", "ConfigMap", data=dict(files)),
        part("apps/v1", "Deployment", spec=spec),
        part("policy/v1", "PodDisruptionBudget", spec=disruption_spec(selector)),
    ]


def _pod(name: str, selector: dict[str, str], resources: Resources | None, image: str, log_level: str) -> Object:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }
    return {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 10,
        "topologySpreadConstraints": [spread],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NUMERIC_USER,
            "runAsGroup": NUMERIC_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(resources, image, log_level)],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }


def _container(resources: Resources | None, image: str, log_level: str) -> Object:
    given = resources.model_dump(mode="json", exclude_unset=True) if resources else {}
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["envoy"],
        "args": [
            "--config-yaml",
            json.dumps(bootstrap(), separators=(",", ":")),
            "--service-node",
            "$(POD_NAME)",
            "--service-cluster",
            "mlserve-router",
            "--log-level",
            log_level,
            "--concurrency",
            "2",
            "--drain-time-s",
            str(DRAIN_SECONDS),
            "--disable-hot-restart",
        ],
        # The files refer to each other by relative paths.
        "workingDir": CONFIG_DIR,
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        ],
        "ports": [{"name": "management", "containerPort": MANAGEMENT_PORT, "protocol": "TCP"}],
        "volumeMounts": [{"name": "config", "mountPath": CONFIG_DIR, "readOnly": True}],
        "readinessProbe": _probe(PATH_READYZ, period=1, failures=2),
        "livenessProbe": _probe(PATH_LIVEZ, period=10, failures=3),
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "-c", _drain_script()]}}},
        "resources": given or {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _drain_script() -> str:
    """Ask Envoy to drain, then give clients the time to leave. The image has bash but no HTTP client."""
    request = r"POST /drain_listeners?graceful&skip_exit HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
    return f"exec 3<>/dev/tcp/127.0.0.1/{ADMIN_PORT} && printf '{request}' >&3 && cat <&3; sleep {DRAIN_SECONDS}"


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "management", "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
        "successThreshold": 1,
    }
