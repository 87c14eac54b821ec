"""The Deployment of one revision. Immutable but for its size: a promotion moves weights, never pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlserve_operator.resources.metadata import child, model_labels, runtime_selector

if TYPE_CHECKING:
    from mlserve_operator.rollout.revisions import Snapshot

Object = dict[str, Any]


def build_deployment(owner: Object, snapshot: Snapshot, *, replicas: int, one_by_one: bool = False) -> Object:
    """The Deployment of a revision, from its snapshot.

    Args:
        owner: the ModelDeployment.
        snapshot: what the revision was when it was new.
        replicas: its size at creation; afterwards the size is changed by itself (see execute.py).
        one_by_one: replace pods without a surge, where GPUs for one more are not to be had.
    """
    name, revision = owner["metadata"]["name"], snapshot.revision
    surge = {"maxSurge": 0, "maxUnavailable": 1} if one_by_one else {"maxSurge": 1, "maxUnavailable": 0}
    return child(
        "apps/v1",
        "Deployment",
        revision,
        owner,
        model_labels(name, revision),
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": runtime_selector(name, revision)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": surge},
            "revisionHistoryLimit": 0,
            "template": snapshot.template,
        },
    )
