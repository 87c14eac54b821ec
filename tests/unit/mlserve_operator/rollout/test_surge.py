"""A rollout within a bound of GPUs: what fits, in which order, and that it always gets there."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase, Reason
from mlserve_core.wire import LATENCY_EDGES_MICROS, LaneCounts
from mlserve_operator.rollout.state import (
    Decision,
    Observation,
    PodObservation,
    RevisionHealth,
)
from mlserve_operator.rollout.step import step
from mlserve_operator.rollout.surge import Fleets, Split, next_split

from .little_cluster import LittleCluster, answering_pod, spec_of

fleets = st.builds(Fleets, st.integers(1, 300), st.integers(1, 8), st.integers(1, 8), st.integers(0, 40))


@pytest.mark.parametrize(
    ("full", "surge", "weight", "target", "expected"),
    [
        pytest.param(10, 10, 0, 5, Split(10, 1, 5), id="room for a canary"),
        pytest.param(10, 1, 5, 25, Split(10, 1, 10), id="half-way, on the pod it has"),
        pytest.param(10, 1, 10, 25, Split(9, 2, 20), id="stable gives one up"),
        pytest.param(10, 1, 20, 25, Split(8, 3, 25), id="and another"),
        pytest.param(10, 1, 90, 100, Split(1, 10, 100), id="the last one"),
        pytest.param(10, 1, 100, 100, Split(1, 10, 100), id="what is over keeps stable warm"),
        pytest.param(2, 0, 0, 5, Split(1, 1, 5), id="no surge: one short"),
        pytest.param(2, 0, 50, 100, Split(1, 1, 100), id="no surge: the last pod of stable goes last"),
        pytest.param(1, 0, 0, 5, Split(1, 0, 0), id="nothing to begin with"),
        pytest.param(1, 1, 0, 5, Split(1, 1, 5), id="one and one more"),
    ],
)
def test_one_move(full: int, surge: int, weight: int, target: int, expected: Split) -> None:
    assert next_split(Fleets(full, 1, 1, surge), weight, target) == expected


@given(fleets, st.lists(st.integers(1, 99), unique=True, max_size=4).map(sorted))
def test_every_way_leads_to_the_end_within_the_bound(fleet: Fleets, steps: list[int]) -> None:
    weight = 0
    short = 0
    for target in [*steps, 100]:
        while weight < target:
            found = next_split(fleet, weight, target)
            assert found.stable * fleet.stable_gpus + found.canary * fleet.canary_gpus <= fleet.budget
            assert found.stable >= 1, "stable keeps a pod while it has requests"
            short = max(short, fleet.rest(weight) - found.stable)
            if found.canary == 0:
                assert fleet.full == 1
                assert fleet.surge < min(fleet.stable_gpus, fleet.canary_gpus)
                return
            assert weight < found.weight <= target, "every move is a move on"
            weight = found.weight
        assert next_split(fleet, weight, weight).weight == weight, "a step can be held"
    assert next_split(fleet, 100, 100).canary == fleet.full
    missing = max(0, -((fleet.surge - fleet.canary_gpus) // fleet.stable_gpus))
    # With more than a hundred pods a percent is more than one of them.
    assert short <= missing + fleet.full // 100, "never shorter than by the GPUs of one canary pod"


# --- through `step` -----------------------------------------------------------------------------------------------

GPUS = {"v1": 1, "v2": 1, "v3": 2}


@dataclass
class Cluster(LittleCluster):
    """Pods take a tick to come and a tick to go; every GPU one of them holds counts."""

    wanted: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    leaving: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    bad: frozenset[str] = frozenset()

    def observe(self, target: str, command: str = "") -> Observation:
        self.now += 15
        for name in self.route.weights:
            self.requests[name] = self.requests.get(name, 0) + 40 * self.asked(name)
        names = self.wanted.keys() | {name for name, count in self.leaving.items() if count}
        health = {
            name: RevisionHealth(
                desired=self.wanted.get(name, 0),
                ready=self.ready.get(name, 0),
                pods=max(self.wanted.get(name, 0), self.ready.get(name, 0)) + self.leaving.get(name, 0),
            )
            for name in names
        }
        return Observation(
            now=self.now, generation=1, spec=self.spec, target=target, revisions=health, history=tuple(GPUS),
            route=self.route, gpus=GPUS, command=self.told(command), pods=tuple(map(self._pod, self.wanted)),
        )  # fmt: skip

    def _pod(self, name: str) -> PodObservation:
        n = self.requests.get(name, 0)
        lane = LaneCounts(
            requests=n,
            server_errors=n // 2 if name in self.bad else 0,
            latency=[n, *[0] * len(LATENCY_EDGES_MICROS)],
        )
        return answering_pod(name, lane, lane)

    def obey(self, decision: Decision) -> None:
        """What was asked for in the tick before is there now."""
        self.leaving = {}
        for name in self.ready.keys() | self.wanted.keys():
            target = next((plan.replicas for plan in decision.revisions if plan.revision == name), 0)
            self.ready[name] = min(target, self.wanted.get(name, 0))
            self.leaving[name] = max(self.wanted.get(name, 0) - target, 0)
        self.wanted = {plan.revision: plan.replicas for plan in decision.revisions}
        self.route, self.state = decision.route, decision.state

    def held(self, decision: Decision) -> int:
        """GPUs of pods that are wanted or still leaving."""
        plans = {plan.revision: plan.replicas for plan in decision.revisions}
        return sum(
            GPUS[name] * (max(plans.get(name, 0), self.wanted.get(name, 0)) + self.leaving.get(name, 0))
            for name in plans.keys() | self.wanted.keys() | self.leaving.keys()
        )

    def run(self, ticks: int, target: str, command: str = "") -> list[Decision]:
        """Go on for so many ticks, or until all is at rest; the command comes with the first."""
        decisions = []
        for tick in range(ticks):
            seen = self.observe(target, command if tick == 0 else "")
            decision = step(self.state, seen)
            full = self.spec.replicas
            gpus = [GPUS[plan.revision] for plan in decision.revisions]
            surge = self.spec.rollout.max_surge_gpus
            bound = full * max(gpus, default=0) + (full if surge is None else surge)
            # Pods of a third revision go before those that replace them come: also counted by `held`.
            assert self.held(decision) <= max(bound, self.held_before()), decision.state
            serving = [name for name, weight in decision.route.weights.items() if weight]
            assert all(self._size(decision, name) >= 1 for name in serving), "never a share without a pod"
            self.obey(decision)
            decisions.append(decision)
            if len(decisions) > 3 and decision.requeue_after is None and self.ready == self.wanted:
                break
        return decisions

    def held_before(self) -> int:
        return sum(
            GPUS[name] * (self.wanted.get(name, 0) + self.leaving.get(name, 0))
            for name in self.wanted.keys() | self.leaving.keys()
        )

    @staticmethod
    def _size(decision: Decision, name: str) -> int:
        return next(plan.replicas for plan in decision.revisions if plan.revision == name)


def gpu_spec(replicas: int, surge: int, **more: object) -> ModelDeploymentSpec:
    steps = [{"weight": 5, "holdSeconds": 15}, {"weight": 50, "holdSeconds": 15}]
    return spec_of(replicas, **{"maxSurgeGpus": surge, "steps": steps, "bakeSeconds": 120, **more})


def started(replicas: int, surge: int, **more: object) -> Cluster:
    cluster = Cluster(gpu_spec(replicas, surge, **more))
    cluster.run(6, "v1")
    assert (cluster.state.phase, cluster.ready) == (Phase.HEALTHY, {"v1": replicas})
    return cluster


@settings(max_examples=12, deadline=None)
@given(
    replicas=st.integers(2, 6),
    surge=st.integers(0, 4),
    target=st.sampled_from(["v2", "v3"]),
    strategy=st.sampled_from(["Canary", "Shadow", "BlueGreen", "AllAtOnce"]),
)
def test_a_rollout_ends_at_full_size_and_never_asks_for_more(
    replicas: int, surge: int, target: str, strategy: str
) -> None:
    cluster = started(replicas, surge, strategy=strategy)
    weights = [decision.state.weight for decision in cluster.run(400, target)]
    assert (cluster.state.phase, cluster.state.stable) == (Phase.HEALTHY, target)
    assert cluster.wanted == {target: replicas}
    rising = weights[: weights.index(100) + 1]
    assert rising == sorted(rising)


def test_requests_follow_the_pods() -> None:
    cluster = started(4, 1)
    seen: list[tuple[int, int, int]] = []
    for decision in cluster.run(200, "v2"):
        sizes = {plan.revision: plan.replicas for plan in decision.revisions}
        seen.append((decision.state.weight, sizes.get("v1", 0), sizes.get("v2", 0)))
    weights = list(dict.fromkeys(weight for weight, _, _ in seen))
    assert weights == [0, 5, 25, 50, 75, 100]
    for weight, stable, canary in seen[: [item[0] for item in seen].index(100)]:
        assert stable >= 4 * (100 - weight) / 100, "stable never has fewer pods than its share needs"
        assert canary >= 4 * weight / 100


def test_one_pod_and_no_surge_is_refused_with_what_would_help() -> None:
    cluster = started(1, 0)
    cluster.run(5, "v2")
    (rejection,) = cluster.state.rejected
    assert rejection.reason is Reason.INSUFFICIENT_RESOURCES
    assert "raise it" in rejection.message
    assert cluster.wanted == {"v1": 1}
    assert cluster.state.weight == 0
    cluster.spec = gpu_spec(1, 1)
    cluster.run(100, "v2", "retry")
    assert (cluster.state.phase, cluster.state.stable) == (Phase.HEALTHY, "v2")


def test_a_bad_canary_gives_everything_back() -> None:
    cluster = started(6, 1)
    cluster.bad = frozenset({"v2"})
    decisions = cluster.run(60, "v2")
    assert cluster.state.phase is Phase.ROLLED_BACK
    assert [item.revision for item in cluster.state.rejected] == ["v2"]
    assert cluster.wanted == {"v1": 6}
    weights = [decision.state.weight for decision in decisions]
    assert weights[weights.index(max(weights)) + 1 :].count(0) > 0, "requests go back at once"


@pytest.mark.parametrize("surge", [0, 1])
def test_a_promoted_revision_that_turns_bad_is_replaced_pod_by_pod(surge: int) -> None:
    """Most GPUs of the previous revision are taken: it gets them back before the requests."""
    cluster = started(4, surge)
    while cluster.state.phase is not Phase.BAKING:
        cluster.run(1, "v2")
    assert cluster.ready.get("v1", 0) <= surge
    cluster.bad = frozenset({"v2"})
    decisions = cluster.run(150, "v2")
    assert (cluster.state.phase, cluster.state.stable) == (Phase.ROLLED_BACK, "v1")
    assert [(item.revision, item.reason) for item in cluster.state.rejected] == [("v2", Reason.ANALYSIS_FAILED)]
    assert cluster.wanted == {"v1": 4}
    back = [decision.route.weights.get("v1", 0) for decision in decisions]
    assert back[: back.index(100) + 1] == sorted(back[: back.index(100) + 1])


@pytest.mark.parametrize(("before", "after"), [(None, 0), (0, None), (0, 3)], ids=["bounded", "freed", "widened"])
def test_the_bound_may_change_in_mid_rollout(before: int | None, after: int | None) -> None:
    cluster = started(4, 0, maxSurgeGpus=before)
    while cluster.state.weight < 50:
        cluster.run(1, "v2")
    cluster.spec = gpu_spec(4, 0, maxSurgeGpus=after)
    # Down to a new bound in one tick; from then on `run` holds every tick to it.
    cluster.obey(step(cluster.state, cluster.observe("v2")))
    cluster.run(300, "v2")
    assert (cluster.state.phase, cluster.state.stable, cluster.wanted) == (Phase.HEALTHY, "v2", {"v2": 4})


def test_an_autoscaled_size_is_what_stable_had_before_it_gave_up_pods() -> None:
    autoscaling = {"minReplicas": 2, "maxReplicas": 10, "targets": {"cpuUtilization": 50}}
    spec = gpu_spec(2, 1).model_dump(mode="json", by_alias=True, exclude_none=True) | {"autoscaling": autoscaling}
    cluster = Cluster(ModelDeploymentSpec.model_validate(spec | {"replicas": 6}))
    cluster.run(6, "v1")
    cluster.wanted = cluster.ready = {"v1": 6}  # the autoscaler's doing
    decisions = cluster.run(300, "v2")
    on_trial = [decision for decision in decisions if decision.state.canary is not None]
    assert all(plan.ceiling == plan.replicas for decision in on_trial for plan in decision.revisions)
    assert max(plan.replicas for decision in on_trial for plan in decision.revisions if plan.revision == "v2") == 6
    assert cluster.state.stable == "v2"
    settled = decisions[-1].revisions[0]
    assert (settled.replicas, settled.ceiling) == (2, None), "the autoscaler decides again"
