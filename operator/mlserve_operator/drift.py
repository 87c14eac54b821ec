"""Drift watched from the shell: profiles are asked from pods, verdicts go to the decision, status and history.

What is counted lives in memory only. A settled resource must not write a checkpoint every minute; a restart costs
one window and counts nothing twice.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mlserve_core.statistics import panes
from mlserve_core.statistics.drift import CONFIDENCE, PREDICTION
from mlserve_core.statistics.profile import ProfileError, ReferenceProfile
from mlserve_core.wire import LABEL_REVISION
from mlserve_operator.failures import is_ready
from mlserve_operator.history import WindowRecord
from mlserve_operator.rollout.drift import DriftState, watch
from mlserve_operator.rollout.transition import warning

if TYPE_CHECKING:
    from collections.abc import Container, Hashable

    from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
    from mlserve_operator.history import History
    from mlserve_operator.index import Index
    from mlserve_operator.rollout.drift import RevisionDrift
    from mlserve_operator.rollout.state import Event, Observation
    from mlserve_operator.telemetry import Telemetry

Object = dict[str, Any]

logger = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS: Final = 60.0
SHORTEST_PAUSE_SECONDS: Final = 1.0


@dataclass
class DriftWatch:
    """Profiles and windows of all ModelDeployments.

    Attributes:
        index: where pods are found.
        telemetry: asks them.
        history: keeps closed windows.
    """

    index: Index
    telemetry: Telemetry
    history: History
    _states: dict[Hashable, DriftState] = field(default_factory=dict)
    _profiles: dict[tuple[str, str], dict[str, Object]] = field(default_factory=dict)
    """As told by pods, per namespace and name, then revision."""
    _read_profiles: dict[tuple[str, str], dict[str, ReferenceProfile | None]] = field(default_factory=dict)

    async def profile(self, namespace: str, name: str, revision: str) -> Object | None:
        """The reference profile of a revision, asked once from one of its ready pods; None while nobody can tell."""
        known = self._profiles.setdefault((namespace, name), {})
        if revision in known:
            return known[revision]
        pods = self.index.of_model("Pod", namespace, name)
        for pod in pods:
            if pod["metadata"]["labels"].get(LABEL_REVISION) == revision and is_ready(pod):
                profile = await self.telemetry.profile(pod)
                if profile is not None:
                    known[revision] = profile
                return profile
        return None

    async def watch(
        self, key: Hashable, namespace: str, name: str, observation: Observation
    ) -> tuple[Observation, tuple[Event, ...]]:
        """The observation with the newest verdicts, and Events on transitions."""
        profiles: dict[str, ReferenceProfile] = {}
        unreadable: list[Event] = []
        self._keep_only(namespace, name, observation.revisions)
        if observation.spec.drift.enabled:
            for revision in observation.revisions:
                raw = await self.profile(namespace, name, revision)
                if raw is None:
                    continue
                profile, problem = self._read(namespace, name, revision, raw)
                unreadable += [warning("DriftNotWatched", f"{revision}: {problem}")] if problem else []
                if profile is not None:
                    profiles[revision] = profile
        before = self._states.get(key, DriftState())
        state, events, closed = watch(before, observation, profiles)
        self._states[key] = state
        for revision, result in closed.items():
            self.history.record_profile(profiles[revision])
            counts = _counted(before.revisions[revision], state.revisions[revision])
            digest = profiles[revision].digest()
            self.history.record_window(WindowRecord(namespace, name, revision, digest, result, counts))
        return observation.model_copy(update={"drift": state.results, "inputs_moved_at": state.moved_at}), (
            *unreadable,
            *events,
        )

    def _read(self, namespace: str, name: str, revision: str, raw: Object) -> tuple[ReferenceProfile | None, str]:
        """The profile; None for one of another release, which is not watched rather than misread. Why is said once."""
        read, problem = self._read_profiles.setdefault((namespace, name), {}), ""
        if revision not in read:
            read[revision] = None
            try:
                read[revision] = ReferenceProfile.from_json(json.dumps(raw))
            except ProfileError as error:
                problem = str(error)
                logger.warning("drift of %s/%s is not watched: %s", namespace, revision, problem)
        return read[revision], problem

    def _keep_only(self, namespace: str, name: str, revisions: Container[str]) -> None:
        """Forget profiles of revisions that are gone; a resource lives for years and has many."""
        for kept in (self._profiles.get((namespace, name), {}), self._read_profiles.get((namespace, name), {})):
            for revision in [item for item in kept if item not in revisions]:
                del kept[revision]

    def pause(self, spec: ModelDeploymentSpec) -> float | None:
        """Seconds until the counters should be read again though nothing happens; None if they need not."""
        if not spec.drift.enabled:
            return None
        return min(max(spec.drift.window_seconds / 4, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

    def forget(self, key: Hashable, namespace: str, name: str) -> None:
        """A ModelDeployment is gone."""
        self._states.pop(key, None)
        self._profiles.pop((namespace, name), None)
        self._read_profiles.pop((namespace, name), None)


def _counted(before: RevisionDrift, after: RevisionDrift) -> dict[str, list[int]]:
    """Rows per bin of the window that was closed between two states."""
    counts = before.window.counts
    for key, seen in after.seen.items():
        counts = panes.add(counts, panes.subtract(seen, before.seen.get(key)))
    if counts is None:
        return {}
    features = {name: list(feature.counts) for name, feature in counts.features.items()}
    return {**features, PREDICTION: list(counts.predictions), CONFIDENCE: list(counts.confidence)}
