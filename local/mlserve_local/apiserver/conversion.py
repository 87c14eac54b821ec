"""Some objects are served in two shapes: Events of the core and of the events group, autoscalers in v1 and v2.

The stored form is the core Event and the v2 autoscaler; these pure functions translate on the way in and out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

Obj = dict[str, Any]

# core/v1 field -> events.k8s.io/v1 field
_EVENT_FIELDS: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENT_FIELDS_BACK: Final = {new: old for old, new in _EVENT_FIELDS.items()}


def event_from_core(event: Obj) -> Obj:
    """A stored Event as events.k8s.io/v1 shows it."""
    return {_EVENT_FIELDS.get(k, k): v for k, v in event.items()}


def event_to_core(event: Obj) -> Obj:
    """An events.k8s.io/v1 Event as it is stored."""
    return {_EVENT_FIELDS_BACK.get(k, k): v for k, v in event.items()}


def _capitalised(value: Any) -> Any:
    """The annotations of autoscaling/v1 hold the internal Go form: capital field names, nulls written out."""
    if isinstance(value, dict):
        return {k[0].upper() + k[1:]: _capitalised(v) for k, v in value.items()}
    return [_capitalised(v) for v in value] if isinstance(value, list) else value


def _metric_v1(metric: Obj) -> Obj:
    kind = metric["type"]
    source = metric.get(kind[0].lower() + kind[1:], {})
    target = source.get("target", {})
    if kind == "Pods":
        body = {
            "metricName": source.get("metric", {}).get("name", ""),
            "targetAverageValue": target.get("averageValue"),
        }
    else:
        body = {"name": source.get("name", ""), "targetAverageUtilization": target.get("averageUtilization")}
    return {"type": kind, kind[0].lower() + kind[1:]: {k: v for k, v in body.items() if v is not None}}


def _is_cpu_utilization(metric: Obj) -> bool:
    resource = metric.get("resource", {})
    return bool(resource.get("name") == "cpu" and resource.get("target", {}).get("type") == "Utilization")


def autoscaler_to_v1(hpa: Obj) -> Obj:
    """A v2 HorizontalPodAutoscaler as v1 shows it: what v1 cannot say is kept in annotations."""
    spec = hpa.get("spec", {})
    annotations = dict(hpa["metadata"].get("annotations", {}))
    made = {k: spec[k] for k in ("scaleTargetRef", "minReplicas", "maxReplicas") if k in spec}
    others = []
    for metric in spec.get("metrics", []):
        if _is_cpu_utilization(metric) and "targetCPUUtilizationPercentage" not in made:
            made["targetCPUUtilizationPercentage"] = metric["resource"]["target"].get("averageUtilization")
        else:
            others.append(_metric_v1(metric))
    if others:
        annotations["autoscaling.alpha.kubernetes.io/metrics"] = json.dumps(others, separators=(",", ":"))
    if "behavior" in spec:
        rules = {}
        for name in ("scaleUp", "scaleDown"):
            rule = spec["behavior"].get(name)
            rules[name] = {**rule, "tolerance": rule.get("tolerance")} if rule else None
        text = json.dumps(_capitalised(rules), separators=(",", ":"))
        annotations["autoscaling.alpha.kubernetes.io/behavior"] = text
    status = hpa.get("status", {})
    if status.get("conditions"):
        text = json.dumps(status["conditions"], separators=(",", ":"))
        annotations["autoscaling.alpha.kubernetes.io/conditions"] = text
    kept = {k: v for k, v in status.items() if k in ("observedGeneration", "lastScaleTime")}
    shown = {"currentReplicas": status.get("currentReplicas", 0), "desiredReplicas": status.get("desiredReplicas", 0)}
    metadata = {**hpa["metadata"], **({"annotations": annotations} if annotations else {})}
    return {"metadata": metadata, "spec": made, "status": {**kept, **shown}}


def autoscaler_from_v1(hpa: Obj) -> Obj:
    """A v1 HorizontalPodAutoscaler as it is stored."""
    spec = {k: v for k, v in hpa.get("spec", {}).items() if k != "targetCPUUtilizationPercentage"}
    percentage = hpa.get("spec", {}).get("targetCPUUtilizationPercentage")
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    status = {"currentMetrics": None, **hpa["status"]} if "status" in hpa else None
    return {**hpa, "spec": spec, **({"status": status} if status is not None else {})}


CONVERSIONS: Final[dict[str, tuple[Callable[[Obj], Obj], Callable[[Obj], Obj]]]] = {
    "events.k8s.io/v1/events": (event_from_core, event_to_core),
    "autoscaling/v1/horizontalpodautoscalers": (autoscaler_to_v1, autoscaler_from_v1),
}


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sort key: v2 before v1 before v1beta1 before v1alpha1 before anything else."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (3, 0, 0, version)
    stage = {"": 0, "beta": 1, "alpha": 2}[match[2] or ""]
    return (stage, -int(match[1]), -int(match[3] or 0), version)
