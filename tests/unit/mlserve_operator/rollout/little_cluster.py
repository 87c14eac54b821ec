"""What every made-up cluster around `step` remembers between two ticks; each test adds its own pods and mishaps."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_core.wire import LaneCounts, TelemetrySnapshot
from mlserve_operator.rollout.state import Command, PodObservation, RolloutState, Route


@dataclass
class LittleCluster:
    """The resource, the clock, what was decided last and which routes run."""

    spec: ModelDeploymentSpec
    now: float = 1_000_000.0
    state: RolloutState = field(default_factory=RolloutState)
    route: Route = field(default_factory=Route)
    commands: int = 0

    def told(self, command: str) -> Command | None:
        """A command as the annotation carries it: the same word given twice is two commands."""
        if not command:
            return None
        self.commands += 1
        return Command.parse(f"{command}:{self.commands}")

    def asked(self, revision: str) -> int:
        """Percent of requests that reach a revision, copies included."""
        mirrored = self.route.mirror_percent if self.route.mirror == revision else 0
        return max(self.route.weights.get(revision, 0), mirrored)


def spec_of(replicas: int, **rollout: object) -> ModelDeploymentSpec:
    """A resource of so many replicas with these settings of `spec.rollout`."""
    return ModelDeploymentSpec.model_validate({"model": {"uri": "s3://m"}, "replicas": replicas, "rollout": rollout})


def answering_pod(revision: str, live: LaneCounts, mirror: LaneCounts, speaks_for: str = "") -> PodObservation:
    """One pod stands for all of a revision: how rows are spread over pods is tested elsewhere."""
    told = TelemetrySnapshot(name="m", revision=speaks_for or revision, boot_id="b", live=live, mirror=mirror)
    return PodObservation(name=f"{revision}-0", uid=f"{revision}-0", revision=revision, telemetry=told)
