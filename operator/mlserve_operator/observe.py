"""The first half of a reconcile: everything that is known about one ModelDeployment at one moment.

Objects come from the index, measurements from the pods; nothing is written and nothing is listed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, TrafficMode
from mlserve_core.wire import ANNOTATION_COMMAND, COMPONENT_RUNTIME, LABEL_COMPONENT, LABEL_REVISION
from mlserve_operator.failures import find_failure, is_ready
from mlserve_operator.resources.metadata import is_owned_by
from mlserve_operator.resources.records import checkpoint_name, read_checkpoint, read_snapshot
from mlserve_operator.resources.router import router_of
from mlserve_operator.rollout.revisions import Snapshot, revision_name
from mlserve_operator.rollout.state import Command, Observation, RevisionHealth, RolloutState, Route
from mlserve_operator.status import read_status
from mlserve_operator.telemetry import confirmed_route, router_counters, unreached
from mlserve_operator.traffic.gateway import is_confirmed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlserve_core.api.v1alpha1 import ModelDeploymentStatus
    from mlserve_operator.index import Index
    from mlserve_operator.telemetry import Telemetry

Object = dict[str, Any]


@dataclass(frozen=True)
class Observed:
    """One ModelDeployment, its children and its measurements.

    Attributes:
        owner: the resource as it is stored.
        spec: its spec, read.
        status: its stored status.
        state: what the checkpoint remembers.
        port: its listener on the router; None before it has one.
        checkpoint_version: resource version of the checkpoint; empty if there is none.
        snapshots: kept revisions by name.
        observation: what a decision is made from.
        digests: digest of the served artifact by revision, as pods told.
        command_text: the command annotation, readable or not.
    """

    owner: Object
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus
    state: RolloutState
    port: int | None
    checkpoint_version: str
    snapshots: Mapping[str, Snapshot]
    observation: Observation
    digests: Mapping[str, str] = field(default_factory=dict)
    command_text: str = ""

    @property
    def name(self) -> str:
        """Name of the ModelDeployment."""
        return str(self.owner["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the ModelDeployment."""
        return str(self.owner["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """What ownerReferences point at."""
        return str(self.owner["metadata"]["uid"])


async def observe(owner: Object, index: Index, telemetry: Telemetry, now: float) -> Observed:
    """Look at one ModelDeployment.

    Raises:
        ValueError: its spec or its checkpoint cannot be read.
    """
    namespace, name = owner["metadata"]["namespace"], owner["metadata"]["name"]
    uid = owner["metadata"]["uid"]
    spec = ModelDeploymentSpec.model_validate(owner["spec"])
    checkpoint = index.get("ConfigMap", namespace, checkpoint_name(name))
    if checkpoint is not None and not is_owned_by(checkpoint, uid):
        checkpoint = None  # a namesake's, soon collected
    state, port = read_checkpoint(checkpoint)
    snapshots = _snapshots(index, namespace, name, uid)
    pods = _pods_by_revision(index, namespace, name)
    revisions = _health(index, namespace, name, uid, pods)
    runtime = [pod for revision in revisions for pod in pods.get(revision, ())]
    checks = spec.rollout.analysis.prometheus if state.canary is not None and state.stable is not None else ()
    words = {"namespace": namespace, "name": name, "revision": state.canary or "", "stable": state.stable or ""}
    seen, answers, queries = await asyncio.gather(
        telemetry.pods(runtime),
        telemetry.routers(_router_pods(index, namespace, name, spec)),
        telemetry.queries(checks, words),
    )
    available = [revision for revision, health in revisions.items() if health.ready > 0]
    text = (owner["metadata"].get("annotations") or {}).get(ANNOTATION_COMMAND, "")
    observation = Observation(
        now=now,
        generation=owner["metadata"]["generation"],
        spec=spec,
        target=revision_name(name, owner["spec"]),
        revisions=revisions,
        gpus={revision: snapshot.gpus for revision, snapshot in snapshots.items()},
        history=tuple(sorted(snapshots, key=lambda revision: -snapshots[revision].number)),
        route=(
            confirmed_route(answers, name, available)
            if spec.traffic.mode is TrafficMode.ENVOY
            else _unrouted(index, namespace, name, spec, state)
        ),
        unreached=unreached(answers, name, available),
        routers=sum(answer is not None for _, answer in answers),
        pods=seen,
        router=router_counters(answers, revisions),
        queries=queries,
        command=Command.parse(text) if text else None,
    )
    digests = {pod.revision: pod.telemetry.model_digest for pod in seen if pod.telemetry and pod.telemetry.model_digest}
    return Observed(
        owner=owner,
        spec=spec,
        status=read_status(owner),
        state=state,
        port=port,
        checkpoint_version=checkpoint["metadata"]["resourceVersion"] if checkpoint else "",
        snapshots=snapshots,
        observation=observation,
        digests=digests,
        command_text=text,
    )


def _snapshots(index: Index, namespace: str, name: str, uid: str) -> dict[str, Snapshot]:
    bodies = index.of_model("ControllerRevision", namespace, name)
    kept = (read_snapshot(body) for body in bodies if is_owned_by(body, uid))
    return {snapshot.revision: snapshot for snapshot in kept}


def _pods_by_revision(index: Index, namespace: str, name: str) -> dict[str, list[Object]]:
    pods: dict[str, list[Object]] = {}
    for pod in index.of_model("Pod", namespace, name):
        labels = pod["metadata"]["labels"]
        if labels.get(LABEL_COMPONENT) == COMPONENT_RUNTIME:
            pods.setdefault(labels.get(LABEL_REVISION, ""), []).append(pod)
    return pods


def _health(
    index: Index, namespace: str, name: str, uid: str, pods: Mapping[str, Sequence[Object]]
) -> dict[str, RevisionHealth]:
    health = {}
    for deployment in index.of_model("Deployment", namespace, name):
        if not is_owned_by(deployment, uid) or "deletionTimestamp" in deployment["metadata"]:
            continue
        revision = deployment["metadata"]["name"]
        own = pods.get(revision, ())
        health[revision] = RevisionHealth(
            desired=deployment["spec"].get("replicas", 1),
            ready=sum(is_ready(pod) for pod in own),
            pods=sum((pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"} for pod in own),
            failure=find_failure(own, deployment),
        )
    return health


def _router_pods(index: Index, namespace: str, name: str, spec: ModelDeploymentSpec) -> list[Object]:
    if spec.traffic.mode is not TrafficMode.ENVOY:
        return []
    return index.of_router("Pod", namespace, router_of(name, spec))


def _unrouted(index: Index, namespace: str, name: str, spec: ModelDeploymentSpec, state: RolloutState) -> Route | None:
    """Without a router of our own: the front door's selector, or the HTTPRoute and what its parents say of it."""
    if spec.traffic.mode is TrafficMode.GATEWAY:
        route = index.get("HTTPRoute", namespace, name)
        return state.route if route is not None and is_confirmed(route, state.route) else None
    service = index.get("Service", namespace, name) or {}
    selected = ((service.get("spec") or {}).get("selector") or {}).get(LABEL_REVISION)
    weights = state.route.weights
    heaviest = max(sorted(weights), key=lambda revision: weights[revision], default=None)
    return state.route if heaviest in (None, selected) else None
