"""Scales what a HorizontalPodAutoscaler points to: a Deployment, or anything with a scale subresource."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from mlserve_local.apiserver import quantity
from mlserve_local.apiserver.selectors import parse_label_selector
from mlserve_local.client import NETWORK_ERRORS, ApiClient, ApiError
from mlserve_local.controllers.autoscaling import (
    History,
    PodSample,
    clamp,
    proposal,
    rate_limited,
    stabilised,
)
from mlserve_local.controllers.pod_metrics import Usage, pod_metric, resource_usage
from mlserve_local.controllers.replicas import is_active, is_ready
from mlserve_local.controllers.shared import NAMESPACE, Context
from mlserve_local.objects import (
    AUTOSCALERS,
    Obj,
    Resource,
    condition,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    timestamp,
    uid_of,
    with_transition,
    without_empty,
)

log = logging.getLogger(__name__)
PERIOD_SECONDS: Final = 15.0
_REMEMBERED_CHANGES: Final = 100
_LIMITED: Final = {
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
}
_WITHIN: Final = "the desired count is within the acceptable range"


class MetricsError(Exception):
    """No proposal can be made: (reason, message) of the condition ScalingActive."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Target:
    """The scale of what is autoscaled."""

    scale: Obj
    path: str
    pods: list[Obj]

    @property
    def replicas(self) -> int:
        return int(self.scale["spec"].get("replicas") or 0)


class AutoscalerController:
    """Looks at each autoscaler every 15 seconds, as Kubernetes does; without autoscalers it asks for nothing."""

    def __init__(self, context: Context, *, period: float = PERIOD_SECONDS) -> None:
        self._client: ApiClient = context.client
        informers = context.informers
        self._autoscalers, self._pods, self._nodes = informers.autoscalers, informers.pods, informers.nodes
        self._events = context.recorder("horizontal-pod-autoscaler")
        self._period = period
        self._histories: dict[str, History] = {}
        self._plurals: dict[tuple[str, str], str] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(self._period)
            present = [a for a in self._autoscalers if not is_deleting(a)]
            self._histories = {uid_of(a): self._histories.get(uid_of(a), History()) for a in present}
            if not present:
                continue
            try:
                usage = await resource_usage(self._client, self._nodes)
            except (ApiError, *NETWORK_ERRORS) as error:
                log.warning("no resource metrics: %s", error)
                usage = {}
            for autoscaler in present:
                await self._look(autoscaler, usage)

    async def _look(self, autoscaler: Obj, usage: Usage) -> None:
        try:
            await self._scale(autoscaler, usage)
        except (ApiError, *NETWORK_ERRORS) as error:
            log.debug("autoscaler %s: %s", key_of(autoscaler), error)
        except Exception:
            log.exception("autoscaler %s failed", key_of(autoscaler))

    # --- target -----------------------------------------------------------------------------------------------------

    async def _target(self, autoscaler: Obj) -> _Target:
        reference = autoscaler["spec"]["scaleTargetRef"]
        resource = await self._resource(reference["apiVersion"], reference["kind"])
        path = resource.path(namespace_of(autoscaler), reference["name"], "scale")
        scale = await self._client.request("GET", path)
        selector = parse_label_selector((scale.get("status") or {}).get("selector") or "")
        if not selector.requirements:
            raise MetricsError("InvalidSelector", "the HPA target's scale is missing a selector")
        in_namespace = self._pods.by_index(NAMESPACE, namespace_of(autoscaler))
        pods = [p for p in in_namespace if is_active(p) and selector.matches(labels_of(p))]
        return _Target(scale, path, pods)

    async def _resource(self, group_version: str, kind: str) -> Resource:
        key = (group_version, kind)
        if key not in self._plurals:
            root = "/api/v1" if group_version == "v1" else f"/apis/{group_version}"
            for entry in (await self._client.request("GET", root)).get("resources") or ():
                if "/" not in entry["name"]:
                    self._plurals[group_version, entry["kind"]] = entry["name"]
        if key not in self._plurals:
            raise MetricsError("FailedGetScale", f"no resource of kind {kind} in {group_version}")
        return Resource(group_version, self._plurals[key], kind)

    # --- one look ---------------------------------------------------------------------------------------------------

    async def _scale(self, autoscaler: Obj, usage: Usage) -> None:
        now = time.time()
        try:
            target = await self._target(autoscaler)
        except (ApiError, MetricsError) as error:
            message = f"the HPA controller was unable to get the target's current scale: {error}"
            await self._write(autoscaler, None, None, [], {"AbleToScale": ("False", "FailedGetScale", message)}, now)
            return
        conditions = {"AbleToScale": ("True", "ReadyForNewScale", "recommended size matches current size")}
        current = target.replicas
        if current == 0:
            message = "scaling is disabled since the replica count of the target is zero"
            conditions["ScalingActive"] = ("False", "ScalingDisabled", message)
            await self._write(autoscaler, 0, 0, [], conditions, now)
            return
        try:
            wanted, metrics, described = await self._proposal(autoscaler, target, usage)
        except MetricsError as error:
            conditions["ScalingActive"] = ("False", error.reason, str(error))
            wanted, limit = clamp(autoscaler, current)
            metrics = []
            if wanted == current:
                await self._write(autoscaler, current, current, metrics, conditions, now)
                return
        else:
            text = f"the HPA was able to successfully calculate a replica count from {described}"
            conditions["ScalingActive"] = ("True", "ValidMetricFound", text)
        history = self._histories[uid_of(autoscaler)]
        wanted, limit = clamp(autoscaler, stabilised(autoscaler, history, current, wanted, now))
        wanted = rate_limited(autoscaler, history, current, wanted, now)
        conditions["ScalingLimited"] = (str(limit in _LIMITED), limit, _LIMITED.get(limit, _WITHIN))
        if wanted != current:
            await self._resize(autoscaler, target, wanted)
            history.changes = [*history.changes[-_REMEMBERED_CHANGES:], (now, wanted - current)]
            message = f"the HPA controller was able to update the target scale to {wanted}"
            conditions["AbleToScale"] = ("True", "SucceededRescale", message)
        await self._write(autoscaler, current, wanted, metrics, conditions, now)

    async def _resize(self, autoscaler: Obj, target: _Target, wanted: int) -> None:
        body = {**target.scale, "spec": {**target.scale["spec"], "replicas": wanted}}
        await self._client.request("PUT", target.path, body)
        self._events(autoscaler, "Normal", "SuccessfulRescale", f"New size: {wanted}; reason: metrics")

    async def _proposal(self, autoscaler: Obj, target: _Target, usage: Usage) -> tuple[int, list[Obj], str]:
        """The largest proposal of all metrics; raises MetricsError if none could be measured."""
        best: tuple[int, str] | None = None
        metrics: list[Obj] = []
        failure: MetricsError | None = None
        for spec in autoscaler["spec"].get("metrics") or ():
            try:
                replicas, shown, described = await self._one_metric(spec, target, usage)
            except MetricsError as error:
                failure = error
                continue
            metrics.append(shown)
            if best is None or replicas > best[0]:
                best = replicas, described
        if best is None or (failure is not None and best[0] < target.replicas):
            # With a metric missing only a scale-up is safe.
            raise failure or MetricsError("FailedGetMetrics", "the autoscaler has no metrics")
        return best[0], metrics, best[1]

    async def _one_metric(self, spec: Obj, target: _Target, usage: Usage) -> tuple[int, Obj, str]:
        if spec["type"] == "Resource":
            return _resource_metric(spec["resource"], target, usage)
        if spec["type"] == "Pods":
            return await self._pods_metric(spec["pods"], target)
        message = f"this controller knows metrics of type Resource and Pods, not {spec['type']}"
        raise MetricsError("InvalidMetricSourceType", message)

    async def _pods_metric(self, spec: Obj, target: _Target) -> tuple[int, Obj, str]:
        name = spec["metric"]["name"]
        values = await pod_metric(self._client, target.pods, name)
        samples = [PodSample(values.get(key_of(pod)), 1.0, is_ready(pod)) for pod in target.pods]
        goal = float(quantity.parse(spec["target"]["averageValue"]))
        result = proposal(target.replicas, samples, goal)
        if result is None:
            raise MetricsError("FailedGetPodsMetric", f"no pod answered with a metric named {name} at /metrics")
        shown = {"averageValue": _milli(result[1])}
        return result[0], {"type": "Pods", "pods": {"metric": spec["metric"], "current": shown}}, f"pods metric {name}"

    # --- status -----------------------------------------------------------------------------------------------------

    async def _write(
        self,
        autoscaler: Obj,
        current: int | None,
        wanted: int | None,
        metrics: list[Obj],
        conditions: dict[str, tuple[str, str, str]],
        now: float,
    ) -> None:
        old = autoscaler.get("status") or {}
        entries = [
            with_transition(
                {"type": kind, "status": status, "reason": reason, "message": message},
                condition(autoscaler, kind),
                timestamp(now),
            )
            for kind, (status, reason, message) in conditions.items()
        ]
        rescaled = wanted is not None and wanted != current
        status = {
            **without_empty([("observedGeneration", autoscaler["metadata"].get("generation"))]),
            **without_empty([("lastScaleTime", timestamp(now) if rescaled else old.get("lastScaleTime"))]),
            "currentReplicas": old.get("currentReplicas", 0) if current is None else current,
            "desiredReplicas": old.get("desiredReplicas", 0) if wanted is None else wanted,
            "currentMetrics": metrics or None,
            "conditions": entries,
        }
        if _says_the_same(old, status):
            return
        written = await self._client.replace(AUTOSCALERS, {**autoscaler, "status": status}, "status")
        self._autoscalers.remember(written)


def _resource_metric(spec: Obj, target: _Target, usage: Usage) -> tuple[int, Obj, str]:
    name, goal = spec["name"], spec["target"]
    utilization = goal.get("averageUtilization")
    samples = []
    for pod in target.pods:
        request = _request(pod, name) if utilization is not None else 1.0
        if not request:
            message = f"missing request for {name} in a container of Pod {name_of(pod)}"
            raise MetricsError("FailedGetResourceMetric", message)
        samples.append(PodSample((usage.get(key_of(pod)) or {}).get(name), request, is_ready(pod)))
    wanted = utilization / 100 if utilization is not None else float(quantity.parse(goal["averageValue"]))
    result = proposal(target.replicas, samples, wanted)
    if result is None:
        message = f"unable to get metrics for resource {name}: no metrics returned from resource metrics API"
        raise MetricsError("FailedGetResourceMetric", message)
    replicas, average = result
    mean_request = sum(s.request for s in samples) / len(samples)
    shown: Obj = {"averageValue": _milli(average * mean_request)}
    if utilization is not None:
        shown["averageUtilization"] = round(average * 100)
    kind = "utilization (percentage of request)" if utilization is not None else "average value"
    return replicas, {"type": "Resource", "resource": {"name": name, "current": shown}}, f"{name} resource {kind}"


def _request(pod: Obj, resource: str) -> float:
    total = 0.0
    for container in pod["spec"]["containers"]:
        amount = ((container.get("resources") or {}).get("requests") or {}).get(resource)
        if amount is None:
            return 0.0
        total += float(quantity.parse(amount))
    return total


def _milli(value: float) -> str:
    """A quantity with three digits: 1500m, 2."""
    thousandths = round(value * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def _says_the_same(old: Obj, new: Obj) -> bool:
    """Is the difference only noise of a measurement? Writing that every 15 seconds would wake every watcher."""
    fixed = ("observedGeneration", "currentReplicas", "desiredReplicas", "conditions")
    if any(old.get(name) != new.get(name) for name in fixed):
        return False
    before, after = old.get("currentMetrics") or [], new.get("currentMetrics") or []
    return len(before) == len(after) and all(_close(_value(b), _value(a)) for b, a in zip(before, after, strict=True))


def _value(metric: Obj) -> tuple[float, float]:
    current = (metric.get("resource") or metric.get("pods") or {}).get("current") or {}
    return float(current.get("averageUtilization") or 0), float(quantity.parse(current.get("averageValue") or "0"))


def _close(before: tuple[float, float], after: tuple[float, float]) -> bool:
    if before[0] or after[0]:
        return abs(before[0] - after[0]) < 5
    return abs(before[1] - after[1]) <= 0.1 * max(abs(before[1]), abs(after[1]))
