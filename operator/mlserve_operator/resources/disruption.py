"""PodDisruptionBudgets: a drained node takes one pod at a time."""

from __future__ import annotations

from typing import Any

from mlserve_operator.resources.metadata import child, model_labels, runtime_selector

Object = dict[str, Any]


def disruption_spec(selector: dict[str, str]) -> Object:
    """At most one of the selected pods away. Not `minAvailable: 1`: that would block the drain of a single pod."""
    return {"maxUnavailable": 1, "selector": {"matchLabels": selector}}


def build_disruption_budget(owner: Object) -> Object:
    """The budget of a ModelDeployment's runtime pods, all revisions together."""
    name = owner["metadata"]["name"]
    spec = disruption_spec(runtime_selector(name))
    return child("policy/v1", "PodDisruptionBudget", name, owner, model_labels(name), spec=spec)
