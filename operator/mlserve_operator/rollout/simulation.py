"""A little world around `step`: pods that come up, a router that obeys, requests that succeed or fail by chance.

Error rates of a decision rule cannot be read off its code. Here the real `step` runs against requests drawn from
known rates, thousands of rollouts a minute, for `benchmarks/decisions.py`, for property tests, and for trying a
policy before trusting it. The caller brings the random generator and the clock is simulated, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase
from mlserve_core.wire import LATENCY_EDGES_MICROS, LaneCounts, ProfileCounts, TelemetrySnapshot
from mlserve_operator.rollout.state import (
    Command,
    Decision,
    Observation,
    PodObservation,
    RevisionHealth,
    RolloutState,
    Route,
)
from mlserve_operator.rollout.step import step

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAST_BUCKET: Final = 20
SLOW_BUCKET: Final = 40
PROFILE: Final = "sha256:simulated"
# Copied with changes: many times cheaper than validating what is known to be valid.
_NO_REQUESTS: Final = LaneCounts()
_SILENT: Final = TelemetrySnapshot(name="simulated", revision="", boot_id="", ready=True)


@dataclass(frozen=True)
class Behaviour:
    """How the requests of one revision end. Rates are shares of requests."""

    errors: float = 0.0
    outputs: float = 0.0
    slow: float = 0.01
    classes: tuple[float, ...] = ()
    """Probabilities of the predicted classes."""
    confidence: tuple[float, ...] = ()
    """Probabilities of the bins of confidence."""


@dataclass
class Pod:
    """Cumulative counters of a simulated pod."""

    name: str
    revision: str
    boot: int = 0
    requests: int = 0
    errors: int = 0
    outputs: int = 0
    slow: int = 0
    classes: NDArray[np.int64] | None = None
    confidence: NDArray[np.int64] | None = None

    def serve(self, n: int, behaviour: Behaviour, random: np.random.Generator, scale: float) -> int:
        """Answer n requests; errors are `scale` times as frequent. Returns how many failed."""
        bad = int(random.binomial(n, min(behaviour.errors * scale, 1.0))) if behaviour.errors else 0
        self.requests += n
        self.errors += bad
        self.outputs += int(random.binomial(n, behaviour.outputs)) if behaviour.outputs else 0
        self.slow += int(random.binomial(n, behaviour.slow)) if behaviour.slow else 0
        if behaviour.classes:
            drawn = random.multinomial(n - bad, behaviour.classes)
            self.classes = drawn if self.classes is None else self.classes + drawn
        if behaviour.confidence:
            drawn = random.multinomial(n - bad, behaviour.confidence)
            self.confidence = drawn if self.confidence is None else self.confidence + drawn
        return bad

    def restart(self) -> None:
        """A new process: counters begin at 0 under a new boot id."""
        self.boot += 1
        self.requests = self.errors = self.outputs = self.slow = 0
        self.classes = self.confidence = None

    def telemetry(self) -> TelemetrySnapshot:
        """What the pod's `/telemetry` would answer."""
        latency = [0] * (len(LATENCY_EDGES_MICROS) + 1)
        latency[FAST_BUCKET], latency[SLOW_BUCKET] = self.requests - self.slow, self.slow
        answered = self.requests - self.errors
        profiled = self.classes is not None or self.confidence is not None
        counts = ProfileCounts.model_construct(
            profile_digest=PROFILE,
            rows=answered,
            features={},
            predictions=self.classes.tolist() if self.classes is not None else [],
            confidence=self.confidence.tolist() if self.confidence is not None else [],
            entropy=[],
        )
        lane = _NO_REQUESTS.model_copy(
            update={
                "requests": self.requests,
                "rows": answered,
                "server_errors": self.errors,
                "bad_outputs": self.outputs,
                "latency": latency,
                "own": counts if profiled else None,
                "comparison": counts if profiled else None,
            }
        )
        identity = {"revision": self.revision, "pod": self.name, "pod_uid": self.name, "boot_id": str(self.boot)}
        return _SILENT.model_copy(update=identity | {"live": lane, "mirror": lane})


@dataclass
class World:
    """A cluster of one ModelDeployment that does what it is told at once."""

    spec: ModelDeploymentSpec
    behaviours: dict[str, Behaviour]
    random: np.random.Generator
    rate: float = 10.0
    """Requests per second."""
    scale: Callable[[float], float] = lambda _: 1.0
    """Factor on everybody's errors at a time: a spike of the population."""
    now: float = 0.0
    target: str = "v1"
    state: RolloutState = field(default_factory=RolloutState)
    route: Route | None = None
    pods: dict[str, list[Pod]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    """Requests per revision in all."""
    events: list[tuple[float, str, str]] = field(default_factory=list)
    command: Command | None = None
    born: int = 0
    """Pods made so far."""

    def observe(self) -> Observation:
        """What the operator would see now."""
        health = {name: RevisionHealth(desired=len(pods), ready=len(pods)) for name, pods in self.pods.items()}
        pods = tuple(
            PodObservation.model_construct(
                name=pod.name, uid=pod.name, revision=pod.revision, ready=True, telemetry=pod.telemetry(), error=""
            )
            for group in self.pods.values()
            for pod in group
        )
        return Observation.model_construct(
            now=self.now, generation=1, spec=self.spec, target=self.target, revisions=health, history=(),
            route=self.route, pods=pods, router=(), queries=(), drift={}, command=self.command,
        )  # fmt: skip

    def tick(self) -> Decision:
        """One decision, carried out; then time passes until the next one is needed."""
        decision = step(self.state, self.observe())
        self.state = decision.state
        self.events += [(self.now, event.reason, event.message) for event in decision.events]
        self._obey(decision)
        self._pass_time(decision.requeue_after if decision.requeue_after is not None else 60.0)
        return decision

    def _obey(self, decision: Decision) -> None:
        for group in self.pods.values():
            for pod in group:
                if pod.name in decision.restart:
                    pod.restart()
        wanted = {item.revision: item.replicas for item in decision.revisions}
        self.pods = {name: self._scaled(name, size) for name, size in wanted.items()}
        self.route = decision.route

    def _scaled(self, revision: str, size: int) -> list[Pod]:
        """Pods of a revision at a size; a new pod never has the name of one that was."""
        group = self.pods.get(revision, [])[:size]
        while len(group) < size:
            self.born += 1
            group = [*group, Pod(f"{revision}-{self.born}", revision)]
        return group

    def _pass_time(self, seconds: float) -> None:
        n = int(self.random.poisson(self.rate * seconds)) if seconds else 0
        self.now += seconds
        if n == 0 or self.route is None or not self.route.weights:
            return
        scale = self.scale(self.now)
        names = list(self.route.weights)
        split = self.random.multinomial(n, [self.route.weights[name] / 100 for name in names])
        for name, share in zip(names, split.tolist(), strict=True):
            self._send(name, share, scale)
        if self.route.mirror:
            self._send(self.route.mirror, round(n * self.route.mirror_percent / 100), scale)

    def _send(self, revision: str, n: int, scale: float) -> None:
        group = self.pods.get(revision, [])
        self.sent[revision] = self.sent.get(revision, 0) + n
        for i, pod in enumerate(group):
            part = n // len(group) + (1 if i < n % len(group) else 0)
            if part:
                pod.serve(part, self.behaviours[revision], self.random, scale)

    def settle(self, *, max_canary: int = 1_000_000, max_ticks: int = 100_000) -> Phase:
        """Tick until the rollout rests, or is promoted, or the canary has had so many requests."""
        for _ in range(max_ticks):
            self.tick()
            trial = self.state.phase in {Phase.PENDING, Phase.PROGRESSING, Phase.PAUSED, Phase.ROLLING_BACK}
            if not trial or self.sent.get(self.target, 0) > max_canary:
                break
        return self.state.phase


def trial(
    spec: dict[str, Any], stable: Behaviour, canary: Behaviour, random: np.random.Generator, **world: Any
) -> World:
    """A world with `v1` serving, `v2` wanted, and some history behind it."""
    settings = ModelDeploymentSpec.model_validate({"model": {"uri": "file:///model"}, **spec})
    made = World(settings, {"v1": stable, "v2": canary}, random, **world)
    for _ in range(3):
        made.tick()
    pod = made.pods["v1"][0]
    pod.serve(1000, stable, random, 1.0)
    made.target = "v2"
    return made
