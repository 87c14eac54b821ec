"""Revisions: what makes two versions of a model different, and the snapshot that keeps one as it was.

A revision is named after a hash of what the user wrote in `spec.model` and `spec.runtime`: not replicas, traffic or
rollout, and no default of the CustomResourceDefinition or of the operator, so that neither an upgrade nor a new
default gives running models a new revision. What such defaults amounted to when the revision was new (the image,
the whole pod template) is pinned in its snapshot. Snapshots are never hashed again and never rebuilt.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from mlserve_core.api.v1alpha1 import ApiModel, JsonObject, Model, Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_LENGTH: Final = 8
HASHED_FIELDS: Final = ("model", "runtime")


class Snapshot(ApiModel):
    """Everything that is needed to start pods of a revision again, as it was when the revision was new."""

    revision: str
    number: int = 0
    """Rises with every new revision of a ModelDeployment."""
    model: Model
    runtime: Runtime = Field(default_factory=Runtime)
    template: JsonObject
    """The pod template of its Deployment."""

    @property
    def gpus(self) -> int:
        """GPUs of one pod."""
        return self.runtime.gpu.count if self.runtime.gpu is not None else 0


def revision_name(name: str, spec: JsonObject) -> str:
    """Name of the revision that a spec, as it is stored, asks for.

    Fields that say nothing (empty text, lists and maps) do not count.

    >>> revision_name("digits", {"model": {"uri": "file:///m", "version": ""}, "replicas": 3})
    'digits-c58dd615'
    """
    relevant = _prune({key: spec.get(key) for key in HASHED_FIELDS})
    text = json.dumps(relevant, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]}"


def expired(snapshots: Iterable[Snapshot], live: Sequence[str], limit: int) -> list[Snapshot]:
    """Snapshots beyond the history limit, oldest first. Live revisions keep theirs and do not count."""
    idle = sorted((item for item in snapshots if item.revision not in live), key=lambda item: item.number)
    return idle[: max(len(idle) - limit, 0)]


def _prune(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    pruned = {key: _prune(item) for key, item in value.items()}
    return {key: item for key, item in pruned.items() if item not in (None, "", [], {})}
