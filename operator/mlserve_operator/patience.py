"""A status that flaps alarms people: Ready is not taken back because one router was slow to answer once.

Only what was said of the very same spec is stood by, and only for seconds: routers that stay silent, or that somebody
made run other routes, are reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import ConditionType

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mlserve_core.api.v1alpha1 import ModelDeploymentStatus
    from mlserve_operator.rollout.state import Observation, Route

PATIENCE_SECONDS: Final = 5.0


@dataclass
class Patience:
    """Since when the routers of each ModelDeployment have not confirmed its route, or not reached its pods."""

    _since: dict[Hashable, float] = field(default_factory=dict)

    def lasts(self, key: Hashable, route: Route, observation: Observation, said: ModelDeploymentStatus) -> bool:
        """Whether a Ready that was said stands, although a router does not confirm or reach it just now."""
        if observation.route == route and observation.is_reached:
            self._since.pop(key, None)
            return True
        since = self._since.setdefault(key, observation.now)
        was_ready = any(
            (item.type, item.status, item.observed_generation) == (ConditionType.READY, "True", observation.generation)
            for item in said.conditions
        )
        return was_ready and observation.now - since < PATIENCE_SECONDS

    def waited(self, key: Hashable, now: float) -> float:
        """Seconds since when the routers have not confirmed; 0 if they do."""
        return max(now - self._since.get(key, now), 0.0)

    def forget(self, key: Hashable) -> None:
        """A ModelDeployment is gone."""
        self._since.pop(key, None)
