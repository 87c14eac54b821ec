"""One reconcile of one key: observe, step, execute.

The order of writes is what survives a crash: the snapshot of a new revision first, then the checkpoint with the
decision (compare-and-swap: of two operators only one acts), then the objects, then Events and status. Whatever was
left undone is done by the next reconcile, because nothing is concluded from what was written, only from what is there.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from mlserve_core.api.v1alpha1 import KIND, ModelDeploymentStatus, Reason, TrafficMode
from mlserve_operator import kube, metrics, report
from mlserve_operator.comparison import merge_patch
from mlserve_operator.execute import NotOwnedError
from mlserve_operator.kube import ApiError
from mlserve_operator.observe import Observed, observe
from mlserve_operator.obstacles import Obstacle, ObstacleError, UnwritableError, or_unwritable
from mlserve_operator.patience import Patience
from mlserve_operator.resources.children import Wanted, build_children
from mlserve_operator.resources.metadata import is_owned_by
from mlserve_operator.resources.pod import build_pod_template, comparison_name, digest_name, feedback_name
from mlserve_operator.resources.records import build_checkpoint, build_feedback_keys, build_snapshot, checkpoint_name
from mlserve_operator.resources.router import router_of
from mlserve_operator.rollout.revisions import Snapshot, expired
from mlserve_operator.rollout.state import Decision, Event
from mlserve_operator.rollout.step import step
from mlserve_operator.routing import Listeners, reconcile_router
from mlserve_operator.status import Situation, build_status, read_status
from mlserve_operator.traffic.envoy import RouterFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlserve_operator.drift import DriftWatch
    from mlserve_operator.execute import Executor
    from mlserve_operator.history import History
    from mlserve_operator.index import Index
    from mlserve_operator.queue import WorkQueue
    from mlserve_operator.rollout.state import Observation
    from mlserve_operator.settings import Settings
    from mlserve_operator.telemetry import Telemetry

Object = dict[str, Any]
logger = logging.getLogger(__name__)

ROUTER: Final = "Router"
FEEDBACK_KEY_BYTES: Final = 32
CONFIRM_SECONDS: Final = 0.5
CONFIRM_LIMIT_SECONDS: Final = 30.0


@dataclass(frozen=True, order=True)
class Key:
    """What a reconcile is about: a ModelDeployment or a router."""

    kind: str
    namespace: str
    name: str


@dataclass
class Reconciler:
    """Everything a reconcile needs.

    Attributes:
        settings: of the installation.
        index: what the watches told.
        executor: writes.
        telemetry: measurements.
        drift: windows against reference profiles.
        history: what was decided, for people.
        queue: further keys go here.
        now: seconds since the epoch.
    """

    settings: Settings
    index: Index
    executor: Executor
    telemetry: Telemetry
    drift: DriftWatch
    history: History
    queue: WorkQueue[Key]
    now: Callable[[], float]
    _obstacles: dict[Key, Obstacle] = field(default_factory=dict)
    _unknown: dict[Key, str] = field(default_factory=dict)
    _patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        self._listeners = Listeners(self.index)

    async def reconcile(self, key: Key) -> None:
        """Bring the world closer to what one key wants; raises what should be tried again."""
        if key.kind == ROUTER:
            await self._reconcile_router(key)
        else:
            await self._reconcile_model(key)

    async def _reconcile_router(self, key: Key) -> None:
        before = self._obstacles.pop(key, None)
        try:
            await reconcile_router(key.namespace, key.name, self._listeners, self.executor, self.settings)
        except NotOwnedError as error:
            self._obstacles[key] = (Reason.OBJECT_CONFLICT, str(error))
            raise
        except ApiError as error:
            if error.is_final:
                self._obstacles[key] = report.refusal({"kind": key.kind, "metadata": {"name": key.name}}, error)
            raise
        finally:
            if before != self._obstacles.get(key):
                self._wake_models(key)

    def _wake_models(self, router: Key) -> None:
        for owner in self.index.of_kind(KIND, router.namespace):
            self.queue.add(Key(KIND, router.namespace, owner["metadata"]["name"]))

    async def _reconcile_model(self, key: Key) -> None:
        owner = self.index.get(KIND, key.namespace, key.name)
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            self.queue.forget(key)
            self._unknown.pop(key, None)
            self._patience.forget(key)
            self._listeners.forget(key.namespace, key.name)
            self.drift.forget(key, key.namespace, key.name)
            metrics.forget(key.namespace, key.name)
            return  # Kubernetes collects the children
        try:
            observed = await observe(owner, self.index, self.telemetry, self.now())
        except ValidationError as error:
            await self._report_invalid(owner, error)
            return
        drift_events: tuple[Event, ...] = ()
        obstacle: Obstacle | None = None
        decision = unchanged = Decision(state=observed.state, route=observed.state.route, revisions=())
        try:
            observed = await self._with_snapshot(observed)
            observed, drift_events = await self._with_drift(key, observed)
            decision = step(observed.state, observed.observation)
            observed = await self._remember(observed, decision)
        except UnwritableError as error:
            decision, obstacle = unchanged, error.obstacle
        except RouterFullError as error:
            decision, obstacle = unchanged, (Reason.ROUTER_FULL, str(error))
        else:
            obstacle = await self._act_and_tell(observed, decision)
        await self._report(observed, decision, obstacle, drift_events)
        pauses = (decision.requeue_after, self._until_confirmed(observed, decision), self.drift.pause(observed.spec))
        for delay in pauses:
            if delay is not None:
                self.queue.add(key, max(delay, self.queue.debounce))
        if obstacle is not None:
            raise ObstacleError(obstacle[1])

    def _until_confirmed(self, observed: Observed, decision: Decision) -> float | None:
        """When to ask the routers again: nothing tells of a file that Envoy has read, or of a pod that it reaches.

        The longer they do not confirm, the less often: routers that nobody can ask must not wear the operator out.
        """
        seen, is_routed = observed.observation, observed.spec.traffic.mode is TrafficMode.ENVOY
        if not is_routed or (seen.route == decision.route and seen.is_reached):
            return None
        waited = self._patience.waited(Key(KIND, observed.namespace, observed.name), seen.now)
        return min(max(CONFIRM_SECONDS, waited / 10), CONFIRM_LIMIT_SECONDS)

    # --- before anything is acted upon ----------------------------------------------------------------------------

    async def _with_snapshot(self, observed: Observed) -> Observed:
        """Pin the wanted revision as it is now, if it is new."""
        target = observed.observation.target
        if target in observed.snapshots:
            return observed
        spec = observed.spec
        image = spec.runtime.image or self.settings.runtime_image
        snapshot = Snapshot(
            revision=target,
            number=1 + max((item.number for item in observed.snapshots.values()), default=0),
            model=spec.model,
            runtime=spec.runtime,
            template=build_pod_template(
                name=observed.name,
                revision=target,
                model=spec.model,
                runtime=spec.runtime,
                image=image,
                fetch_allow=self.settings.fetch_allow,
            ),
        )
        body = build_snapshot(observed.owner, snapshot)
        with or_unwritable(body):
            await self.executor.ensure(body, {observed.uid})
        history = (target, *observed.observation.history)
        return replace(
            observed,
            snapshots={**observed.snapshots, target: snapshot},
            observation=observed.observation.model_copy(
                update={"history": history, "gpus": {**observed.observation.gpus, target: snapshot.gpus}}
            ),
        )

    async def _with_drift(self, key: Key, observed: Observed) -> tuple[Observed, tuple[Event, ...]]:
        """Count what pods saw on their reference profiles, and close windows whose time has come."""
        observation, events = await self.drift.watch(key, observed.namespace, observed.name, observed.observation)
        return replace(observed, observation=observation), events

    async def _remember(self, observed: Observed, decision: Decision) -> Observed:
        """Write the checkpoint if the decision or the listener is news; the router follows from it."""
        port, is_routed = observed.port, observed.spec.traffic.mode is TrafficMode.ENVOY
        router = router_of(observed.name, observed.spec)
        if is_routed:
            port = self._listeners.choose(observed.namespace, observed.name, router, observed.port)
        if decision.state == observed.state and port == observed.port and observed.checkpoint_version:
            return observed
        version = observed.checkpoint_version
        body = build_checkpoint(observed.owner, decision.state, port=port, resource_version=version)
        with or_unwritable(body):
            await self.executor.checkpoint(body)
        if is_routed:
            self.queue.add(Key(ROUTER, observed.namespace, router), 0)
        metrics.count_decision(observed.namespace, observed.name, observed.state, decision.state)
        return replace(observed, port=port)

    async def _act_and_tell(self, observed: Observed, decision: Decision) -> Obstacle | None:
        """Act; what was decided is told once, whatever becomes of the objects."""
        for event in decision.events:
            self.history.record_decision(report.decision_record(observed, decision, event))
        try:
            return await self._act(observed, decision)
        except ApiError:
            await self._tell(observed.owner, decision.events)
            raise

    # --- act ------------------------------------------------------------------------------------------------------

    async def _act(self, observed: Observed, decision: Decision) -> Obstacle | None:
        """Make and delete objects. Returns what is in the way (reason, message), if anything is."""
        router = router_of(observed.name, observed.spec)
        obstacle = self._obstacles.get(Key(ROUTER, observed.namespace, router))
        gone = expired(
            observed.snapshots.values(), self._kept(observed, decision), observed.spec.revision_history_limit
        )
        kept = {name: item for name, item in observed.snapshots.items() if item not in gone}
        wanted = Wanted(
            owner=observed.owner,
            spec=observed.spec,
            plans=decision.revisions,
            snapshots=kept,
            route=decision.route,
            router=router,
            port=observed.port,
            digests=self._pinned(observed, kept),
            comparison=await self._comparison(observed, decision),
            network_policy=self.settings.network_policy,
        )
        obstacle = (Reason.OBJECT_CONFLICT, wanted.lost) if wanted.lost else obstacle
        children = build_children(wanted)
        for body in children:
            try:
                await self.executor.ensure(body, {observed.uid})
            except NotOwnedError as error:
                obstacle = (Reason.OBJECT_CONFLICT, str(error))
            except ApiError as error:
                if not error.is_final:
                    raise
                obstacle = report.refusal(body, error)
        await self._scale(observed, decision)
        secret = build_feedback_keys(observed.owner, secrets.token_bytes(FEEDBACK_KEY_BYTES))
        await self.executor.ensure_secret(secret)
        if obstacle is None:  # with an obstacle the picture is not complete enough to delete by
            await self._prune(observed, decision, children, kept)
        await self._restart(observed, decision)
        return obstacle

    def _kept(self, observed: Observed, decision: Decision) -> list[str]:
        """Revisions whose snapshot is needed: those that are live, and those that are wanted."""
        state, target = decision.state, observed.observation.target
        return list(filter(None, (state.stable, state.canary, state.previous, state.pinned, target)))

    def _pinned(self, observed: Observed, kept: dict[str, Snapshot]) -> dict[str, str]:
        """Digests to pin: what the first pod of a revision without a digest of its own fetched."""
        pinned = {}
        for revision, snapshot in kept.items():
            live = self.index.get("ConfigMap", observed.namespace, digest_name(revision))
            known = ((live or {}).get("data") or {}).get("digest") or observed.digests.get(revision)
            if known and not snapshot.model.digest:
                pinned[revision] = known
        return pinned

    async def _comparison(self, observed: Observed, decision: Decision) -> Object | None:
        """Stable's profile, asked from one of its pods once per rollout."""
        revision = decision.compare_on
        profile = await self.drift.profile(observed.namespace, observed.name, revision) if revision else None
        return {"rolloutId": decision.state.canary or "", "profile": profile} if profile else None

    async def _scale(self, observed: Observed, decision: Decision) -> None:
        for plan in decision.revisions:
            live = self.index.get("Deployment", observed.namespace, plan.revision)
            if live is None:
                continue
            # An autoscaler moves everything above its own floor; it rests at 0 and has to be woken from there.
            size = live["spec"].get("replicas", 1)
            is_autoscaled = observed.spec.autoscaling is not None and size > 0 and plan.replicas > 0
            if not is_autoscaled:
                await self.executor.scale(observed.namespace, plan.revision, plan.replicas)

    async def _prune(
        self, observed: Observed, decision: Decision, children: list[Object], kept: dict[str, Snapshot]
    ) -> None:
        wanted = {(body["kind"], body["metadata"]["name"]) for body in children}
        wanted |= {("ConfigMap", checkpoint_name(observed.name)), ("Secret", feedback_name(observed.name))}
        wanted |= {("ControllerRevision", revision) for revision in kept}
        if decision.compare_on is not None:  # kept while stable's pods cannot be asked
            wanted.add(("ConfigMap", comparison_name(observed.name)))
        await self.executor.prune(observed.namespace, observed.name, observed.uid, wanted)

    async def _restart(self, observed: Observed, decision: Decision) -> None:
        for name in decision.restart:
            if (pod := self.index.get("Pod", observed.namespace, name)) is not None:
                await self.executor.delete(kube.POD, pod)

    # --- say ------------------------------------------------------------------------------------------------------

    async def _report(
        self,
        observed: Observed,
        decision: Decision,
        obstacle: Obstacle | None,
        drift_events: tuple[Event, ...],
    ) -> None:
        key = Key(KIND, observed.namespace, observed.name)
        situation = Situation(
            name=observed.name,
            namespace=observed.namespace,
            state=decision.state,
            observation=self._seen_after(observed),
            snapshots=observed.snapshots,
            digests={**observed.digests} | self._pinned(observed, dict(observed.snapshots)),
            obstacle=obstacle,
            patient=self._patience.lasts(key, decision.route, observed.observation, observed.status),
        )
        status = build_status(situation, observed.status)
        metrics.show_evidence(observed.namespace, observed.name, decision.state)
        events = [
            *decision.events,
            *drift_events,
            *report.own_events(observed, situation, decision),
            *self._misunderstood(observed),
        ]
        await self._publish(observed.owner, observed.status, status, events)

    def _misunderstood(self, observed: Observed) -> list[Event]:
        """An Event for a command nobody understands, once."""
        key, text = Key(KIND, observed.namespace, observed.name), observed.command_text
        is_news = bool(text) and observed.observation.command is None and self._unknown.get(key) != text
        self._unknown[key] = text
        return [report.unknown_command(text)] if is_news else []

    async def _publish(
        self, owner: Object, before: ModelDeploymentStatus, status: ModelDeploymentStatus, events: list[Event]
    ) -> None:
        metadata = owner["metadata"]
        metrics.show(metadata["namespace"], metadata["name"], status)
        patch = merge_patch(owner.get("status") or {}, report.dump(status))
        if patch:
            await self.executor.patch_status(owner, patch)
        await self._tell(owner, events)

    async def _tell(self, owner: Object, events: Sequence[Event]) -> None:
        metadata = owner["metadata"]
        for event in events:
            logger.info(
                "%s",
                event.message,
                extra={"namespace": metadata["namespace"], "modeldeployment": metadata["name"], "reason": event.reason},
            )
            await self.executor.emit(owner, event, self.now())

    def _seen_after(self, observed: Observed) -> Observation:
        """The observation with the sizes just asked for: a Ready of before would be a lie for a moment."""
        observation = observed.observation
        sizes = {
            body["metadata"]["name"]: body["spec"].get("replicas", 1)
            for body in self.index.of_model("Deployment", observed.namespace, observed.name)
            if is_owned_by(body, observed.uid)
        }
        revisions = {
            name: observation.health(name).model_copy(update={"desired": size}) for name, size in sizes.items()
        }
        return observation.model_copy(update={"revisions": revisions})

    async def _report_invalid(self, owner: Object, error: ValidationError) -> None:
        """A spec (or a checkpoint) that cannot be read: the schema of the cluster is older, or somebody edited."""
        before = read_status(owner)
        status, events = report.invalid(owner, before, error, self.now())
        await self._publish(owner, before, status, events)
