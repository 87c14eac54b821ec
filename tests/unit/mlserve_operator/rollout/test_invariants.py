"""What must hold in every history, whatever pods, routers, people and clocks do."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase, Reason
from mlserve_core.wire import LATENCY_EDGES_MICROS, LaneCounts
from mlserve_operator.rollout.evidence import Verdict
from mlserve_operator.rollout.state import (
    Decision,
    Failure,
    Observation,
    PodObservation,
    RevisionHealth,
    RolloutState,
)
from mlserve_operator.rollout.step import step

from .little_cluster import LittleCluster, answering_pod, spec_of

RESTING = {Phase.HEALTHY, Phase.ROLLED_BACK}
TARGETS = ("v1", "v2", "v3")
COMMANDS = ("", "promote", "abort", "retry", "pause", "resume", "undo", "undo=v1")


@dataclass(frozen=True)
class Shock:
    """What happens to the world before one tick."""

    seconds: float
    target: str
    command: str
    confirmed: bool
    """Whether the routers run (and say that they run) what was decided last."""
    missing: dict[str, int]
    """Pods not ready, per revision."""
    failing: str
    """A revision whose pods report a failure that stays."""
    requests: int
    bad: dict[str, int]
    lying: str
    """A revision whose pods speak for another, or whose counters go back."""


shocks = st.builds(
    Shock,
    seconds=st.sampled_from([1.0, 5.0, 15.0, 16.0, 60.0, 700.0, -3600.0]),
    target=st.sampled_from(TARGETS),
    command=st.sampled_from(COMMANDS),
    confirmed=st.booleans(),
    missing=st.dictionaries(st.sampled_from(TARGETS), st.integers(0, 3), max_size=2),
    failing=st.sampled_from(["", "", "", *TARGETS]),
    requests=st.integers(0, 2000),
    bad=st.dictionaries(st.sampled_from(TARGETS), st.integers(0, 300), max_size=2),
    lying=st.sampled_from(["", "", "", *TARGETS]),
)
calm = st.builds(
    Shock,
    seconds=st.sampled_from([15.0, 16.0, 60.0]),
    target=st.just("v2"),
    command=st.just(""),
    confirmed=st.just(True),
    missing=st.just({}),
    failing=st.just(""),
    requests=st.integers(1000, 4000),
    bad=st.just({}),
    lying=st.just(""),
)
specs = st.builds(
    lambda strategy, steps, bake, auto, paused, on_regression, on_inconclusive, max_hold, surge: spec_of(
        3,
        strategy=strategy,
        steps=[{"weight": weight, "holdSeconds": 15} for weight in steps],
        bakeSeconds=bake,
        autoPromote=auto,
        paused=paused,
        onRegression=on_regression,
        maxSurgeGpus=surge,
        analysis={"onInconclusive": on_inconclusive, "maxHoldSeconds": max_hold},
    ),
    strategy=st.sampled_from(["Canary", "Canary", "Shadow", "BlueGreen", "AllAtOnce"]),
    steps=st.sampled_from([[5, 50], [20], [10, 25, 100], []]),
    bake=st.sampled_from([0, 60]),
    auto=st.booleans(),
    paused=st.sampled_from([False, False, True]),
    on_regression=st.sampled_from(["Rollback", "Pause", "Alert"]),
    on_inconclusive=st.sampled_from(["Hold", "Promote", "Rollback"]),
    max_hold=st.sampled_from([60, 86400]),
    surge=st.sampled_from([None, None, 0, 1]),
)


@dataclass
class Cluster(LittleCluster):
    """Enough of a cluster to feed `step`, with every mishap allowed."""

    pods: dict[str, int] = field(default_factory=dict)
    counters: dict[str, LaneCounts] = field(default_factory=dict)

    def observe(self, shock: Shock) -> Observation:
        self.now += shock.seconds
        for name, size in self.pods.items():
            n = shock.requests * self.asked(name) // 100
            old = self.counters.get(name, LaneCounts(latency=[0] * (len(LATENCY_EDGES_MICROS) + 1)))
            latency = [*old.latency]
            latency[10] += n
            if size:
                self.counters[name] = LaneCounts(
                    requests=old.requests + n,
                    server_errors=old.server_errors + min(shock.bad.get(name, 0), n),
                    latency=latency,
                )
        health = {
            name: RevisionHealth(
                desired=size,
                pods=size,
                ready=max(size - shock.missing.get(name, 0), 0),
                failure=Failure(reason=Reason.MODEL_LOAD_FAILED, message="no weights")
                if shock.failing == name
                else None,
            )
            for name, size in self.pods.items()
        }
        return Observation(
            now=self.now,
            generation=1,
            spec=self.spec,
            target=shock.target,
            revisions=health,
            history=TARGETS,
            gpus=dict.fromkeys(TARGETS, 1),
            route=self.route if shock.confirmed else None,
            pods=tuple(self.pod(name, shock) for name, item in health.items() if item.ready),
            command=self.told(shock.command),
        )

    def pod(self, name: str, shock: Shock) -> PodObservation:
        """The pod of a revision; one that lies has counters that went back, and at times speaks for another."""
        lane, lies = self.counters.get(name, LaneCounts()), shock.lying == name
        return answering_pod(name, LaneCounts() if lies else lane, lane, "v9" if lies and self.now % 2 else "")

    def obey(self, decision: Decision, shock: Shock) -> None:
        self.state = decision.state
        wanted = {plan.revision: plan.replicas for plan in decision.revisions}
        for gone in self.pods.keys() - wanted.keys():
            self.counters.pop(gone, None)
        self.pods = wanted
        self.route = decision.route if shock.confirmed or not self.route.weights else self.route


def check(before: RolloutState, seen: Observation, decision: Decision) -> None:
    """Every invariant of one transition."""
    after, weights = decision.state, decision.route.weights
    planned = {plan.revision: plan.replicas for plan in decision.revisions}

    assert not weights or sum(weights.values()) == 100
    assert all(0 <= weight <= 100 for weight in weights.values())
    assert weights.keys() <= planned.keys(), "a revision in the route has pods"
    assert decision.route == after.route

    _check_rises(before, seen, decision)
    if after.stable is not None and weights.get(after.stable, 0) > 0:
        least = seen.spec.replicas if seen.spec.rollout.max_surge_gpus is None else 1
        assert planned[after.stable] >= least, "stable keeps its size while it serves"
    _check_gpus(seen, decision)

    commanded = seen.command is not None and after.last_command != before.last_command
    if after.canary != before.canary and after.canary is not None and not commanded:
        assert before.rejection(after.canary) is None, "a rejected revision is never tried again by itself"
    if after.stable != before.stable and before.stable is not None:
        promoted = after.stable == before.canary and before.weight == 100 and seen.route == before.route
        went_back = after.stable == before.previous and after.rejection(before.stable) is not None
        assert promoted or went_back, "the pointer moves by a confirmed promotion or one hop back"
    rejected = before.rejection(seen.target) is not None and seen.target != before.stable
    if before.phase is Phase.ROLLED_BACK and not commanded and rejected:
        assert after.phase is Phase.ROLLED_BACK

    assert decision.requeue_after is None or decision.requeue_after >= 0
    assert (decision.requeue_after is None) == (after.phase in RESTING and after.phase is before.phase)
    if decision.requeue_after == 0:
        assert after.phase is not before.phase, "no hot loop"


def _check_gpus(seen: Observation, decision: Decision) -> None:
    """Within `maxSurgeGpus`, or no more than there was: a pod of a third revision goes before others come."""
    if (surge := seen.spec.rollout.max_surge_gpus) is not None:
        running = sum(health.pods for health in seen.revisions.values())
        assert sum(plan.replicas for plan in decision.revisions) <= max(seen.spec.replicas + surge, running)


def _check_rises(before: RolloutState, seen: Observation, decision: Decision) -> None:
    after = decision.state
    for revision, weight in decision.route.weights.items():
        had = before.route.weights.get(revision, 0)
        if weight > had:
            assert seen.health(revision).ready > 0 or _nobody_ready(before, seen), f"{revision} serves unready"
    if after.canary == before.canary and after.weight > before.weight:
        assert seen.route == before.route, "the route before was confirmed"
        evidence = before.evidence if after.evidence is None else after.evidence
        free = before.weight == 0 or after.immediate or before.promoting
        assert free or (evidence is not None and evidence.verdict is Verdict.SUCCESSFUL)


def _nobody_ready(before: RolloutState, seen: Observation) -> bool:
    return all(seen.health(name).ready == 0 for name in (before.stable, before.canary, before.previous) if name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    spec=specs,
    start=st.lists(calm, min_size=0, max_size=25),
    history=st.lists(st.one_of(shocks, calm, calm), min_size=10, max_size=60),
    edits=st.dictionaries(st.integers(0, 60), specs, max_size=2),
)
def test_every_history_keeps_the_invariants(
    spec: ModelDeploymentSpec, start: list[Shock], history: list[Shock], edits: dict[int, ModelDeploymentSpec]
) -> None:
    cluster = Cluster(spec)
    for tick, shock in enumerate([*start, *history]):
        cluster.spec = edits.get(tick, cluster.spec)
        seen = cluster.observe(shock)
        before = cluster.state
        decision = step(before, seen)

        check(before, seen, decision)
        assert step(before, seen) == decision, "the same observation gives the same decision"
        reborn = RolloutState.model_validate_json(before.model_dump_json(by_alias=True))
        assert step(reborn, seen) == decision, "the checkpoint forgets nothing"
        _check_rest(decision, seen)
        cluster.obey(decision, shock)


def _check_rest(decision: Decision, seen: Observation) -> None:
    if decision.state.phase not in RESTING:
        return
    again = step(decision.state, seen)
    if again.state.phase is decision.state.phase:
        assert again.state == decision.state
        assert again.events == ()
        assert again.requeue_after is None


@settings(max_examples=8, deadline=None)
@given(strategy=st.sampled_from(["Canary", "Shadow", "BlueGreen", "AllAtOnce"]), seed=st.integers(0, 1000))
def test_calm_weather_always_promotes(strategy: str, seed: int) -> None:
    cluster = Cluster(spec_of(2, strategy=strategy, bakeSeconds=30))
    for tick in range(250):
        target = "v1" if tick < 5 else "v2"
        shock = Shock(15.0 + seed % 7, target, "", True, {}, "", 2000 + seed, {}, "")
        seen = cluster.observe(shock)
        decision = step(cluster.state, seen)
        check(cluster.state, seen, decision)
        cluster.obey(decision, shock)
    assert (cluster.state.phase, cluster.state.stable) == (Phase.HEALTHY, "v2")
