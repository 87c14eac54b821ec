"""Every object one ModelDeployment wants right now, in the order in which they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlserve_core.api.v1alpha1 import TrafficMode
from mlserve_operator.resources.autoscaler import build_autoscaler
from mlserve_operator.resources.deployment import build_deployment
from mlserve_operator.resources.disruption import build_disruption_budget
from mlserve_operator.resources.network_policy import build_network_policy
from mlserve_operator.resources.records import build_comparison, build_digest
from mlserve_operator.resources.service import (
    build_direct_front_door,
    build_revision_service,
    build_routed_front_door,
)
from mlserve_operator.traffic.gateway import build_grpc_route, build_http_route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
    from mlserve_operator.rollout.revisions import Snapshot
    from mlserve_operator.rollout.state import RevisionPlan, Route

Object = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What the children follow from.

    Attributes:
        owner: the ModelDeployment as it is stored.
        spec: its spec.
        plans: live revisions with their sizes.
        snapshots: kept revisions by name.
        route: the split.
        router: name of its router in mode Envoy.
        port: its listener there.
        digests: digest to pin by revision.
        comparison: stable's reference profile while a rollout compares; None otherwise.
        network_policy: whether runtime pods are closed to everybody but routers.
    """

    owner: Object
    spec: ModelDeploymentSpec
    plans: Sequence[RevisionPlan]
    snapshots: Mapping[str, Snapshot]
    route: Route
    router: str = ""
    port: int | None = None
    digests: Mapping[str, str] | None = None
    comparison: Mapping[str, Any] | None = None
    network_policy: bool = True

    @property
    def lost(self) -> str:
        """What is said of live revisions whose snapshot somebody deleted, if there are any."""
        names = ", ".join(plan.revision for plan in self.plans if plan.revision not in self.snapshots)
        return f"ControllerRevision {names} was deleted: its pods are left as they are until the next rollout" * bool(
            names
        )


def build_children(wanted: Wanted) -> list[Object]:
    """All children but the checkpoint and the snapshots, which are written before anything is acted upon."""
    owner, spec = wanted.owner, wanted.spec
    children = [*_shared(wanted)]
    for plan in wanted.plans:
        if (snapshot := wanted.snapshots.get(plan.revision)) is None:
            continue
        surge, gpu = spec.rollout.max_surge_gpus, snapshot.runtime.gpu
        one_by_one = surge is not None and gpu is not None and surge < gpu.count
        children.append(build_revision_service(owner, plan.revision))
        children.append(build_deployment(owner, snapshot, replicas=plan.replicas, one_by_one=one_by_one))
        if spec.autoscaling is not None and plan.replicas > 0:
            scaler = build_autoscaler(owner, plan.revision, spec.autoscaling, floor=plan.replicas, ceiling=plan.ceiling)
            children.append(scaler)
    return children


def _shared(wanted: Wanted) -> list[Object]:
    owner, spec, mode = wanted.owner, wanted.spec, wanted.spec.traffic.mode
    shared = [build_disruption_budget(owner)]
    if mode is TrafficMode.ENVOY and wanted.network_policy:
        shared.append(build_network_policy(owner))
    shared += [build_digest(owner, revision, digest) for revision, digest in sorted((wanted.digests or {}).items())]
    if wanted.comparison is not None:
        shared.append(build_comparison(owner, wanted.comparison))
    if mode is TrafficMode.ENVOY and wanted.port is not None:
        shared.append(build_routed_front_door(owner, router=wanted.router, listener_port=wanted.port))
    else:
        shared.append(build_direct_front_door(owner, revision=_serving(wanted)))
    if mode is TrafficMode.GATEWAY and spec.traffic.gateway is not None and wanted.route.weights:
        timeout = spec.traffic.timeout_seconds
        shared.append(build_http_route(owner, spec.traffic.gateway, wanted.route, timeout_seconds=timeout))
        shared.append(build_grpc_route(owner, spec.traffic.gateway, wanted.route))
    return shared


def _serving(wanted: Wanted) -> str:
    """The revision a front door without a split leads to: the heaviest, or the first one while it starts."""
    weights = wanted.route.weights
    if weights:
        return max(sorted(weights), key=lambda revision: weights[revision])
    return wanted.plans[0].revision if wanted.plans else ""
