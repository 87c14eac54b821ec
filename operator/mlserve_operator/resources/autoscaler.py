"""The HorizontalPodAutoscaler of one revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_operator.resources.metadata import child, model_labels

if TYPE_CHECKING:
    from mlserve_core.api.v1alpha1 import Autoscaling, AutoscalingTargets

Object = dict[str, Any]

IN_FLIGHT_METRIC: Final = "mlserve_in_flight_requests"
QUEUE_METRIC: Final = "mlserve_queue_seconds_mean"


def build_autoscaler(
    owner: Object, revision: str, autoscaling: Autoscaling, *, floor: int, ceiling: int | None = None
) -> Object:
    """The autoscaler of a revision.

    Args:
        owner: the ModelDeployment.
        revision: the revision.
        autoscaling: bounds and targets.
        floor: pods the revision needs now; during a rollout stable must not be scaled away while it has traffic.
        ceiling: pods it may not go above now, because others hold the GPUs; none but the spec's if not given.
    """
    least = max(autoscaling.min_replicas, floor, 1) if ceiling is None else max(floor, 1)
    spec: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision},
        "minReplicas": least,
        "maxReplicas": max(autoscaling.max_replicas, least) if ceiling is None else max(ceiling, 1),
        "metrics": _metrics(autoscaling.targets),
    }
    if autoscaling.behavior is not None:
        spec["behavior"] = autoscaling.behavior
    labels = model_labels(owner["metadata"]["name"], revision)
    return child("autoscaling/v2", "HorizontalPodAutoscaler", revision, owner, labels, spec=spec)


def _metrics(targets: AutoscalingTargets) -> list[Object]:
    metrics: list[Object] = []
    if targets.cpu_utilization is not None:
        target = {"type": "Utilization", "averageUtilization": targets.cpu_utilization}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if targets.in_flight_per_replica is not None:
        metrics.append(_pods(IN_FLIGHT_METRIC, str(targets.in_flight_per_replica)))
    if targets.queue_millis is not None:
        metrics.append(_pods(QUEUE_METRIC, f"{targets.queue_millis}m"))  # milli-units of seconds
    return [*metrics, *targets.metrics]


def _pods(metric: str, value: str) -> Object:
    target = {"type": "AverageValue", "averageValue": value}
    return {"type": "Pods", "pods": {"metric": {"name": metric}, "target": target}}
