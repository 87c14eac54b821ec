"""Objects that remember: checkpoint, revision snapshots, comparison profile, pinned digest, feedback keys."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from mlserve_core import wire
from mlserve_operator.resources.metadata import child, model_labels
from mlserve_operator.resources.pod import comparison_name, digest_name, feedback_name
from mlserve_operator.rollout.revisions import Snapshot
from mlserve_operator.rollout.state import RolloutState

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

STATE_KEY: Final = "state.json"
PORT_KEY: Final = "listener-port"


def checkpoint_name(name: str) -> str:
    """ConfigMap with the state of a ModelDeployment's rollout."""
    return f"{name}-rollout"


def build_checkpoint(owner: Object, state: RolloutState, *, port: int | None, resource_version: str = "") -> Object:
    """The checkpoint.

    Args:
        owner: the ModelDeployment.
        state: what is remembered.
        port: the listener the router keeps for this model; None without a router.
        resource_version: the version this one replaces; applied as compare-and-swap.
    """
    name = owner["metadata"]["name"]
    data = {STATE_KEY: state.model_dump_json(by_alias=True)}
    if port is not None:
        data[PORT_KEY] = str(port)
    body = child("v1", "ConfigMap", checkpoint_name(name), owner, model_labels(name), data=data)
    if resource_version:
        body["metadata"]["resourceVersion"] = resource_version
    return body


def read_checkpoint(body: Object | None) -> tuple[RolloutState, int | None]:
    """State and listener port of a checkpoint; the initial state if there is none.

    Raises:
        ValueError: the content is not a state (somebody edited it).
    """
    data = (body or {}).get("data") or {}
    if STATE_KEY not in data:
        return RolloutState(), None
    port = data.get(PORT_KEY)
    return RolloutState.model_validate_json(data[STATE_KEY]), int(port) if port else None


def build_snapshot(owner: Object, snapshot: Snapshot) -> Object:
    """The ControllerRevision that keeps a revision as it was."""
    name = owner["metadata"]["name"]
    return child(
        "apps/v1",
        "ControllerRevision",
        snapshot.revision,
        owner,
        model_labels(name, snapshot.revision),
        revision=snapshot.number,
        data=snapshot.model_dump(mode="json", by_alias=True, exclude_unset=True),
    )


def read_snapshot(body: Object) -> Snapshot:
    """The snapshot in a ControllerRevision."""
    return Snapshot.model_validate({**body["data"], "number": body["revision"]})


def build_comparison(owner: Object, profile: Mapping[str, Any]) -> Object:
    """Stable's reference profile, on whose edges the pods count predictions during a rollout."""
    name = owner["metadata"]["name"]
    data = {wire.COMPARISON_FILE: json.dumps(profile, sort_keys=True)}
    return child("v1", "ConfigMap", comparison_name(name), owner, model_labels(name), data=data)


def build_digest(owner: Object, revision: str, digest: str) -> Object:
    """The digest that the first pod of a revision fetched; later pods must fetch the same bytes."""
    labels = model_labels(owner["metadata"]["name"], revision)
    return child("v1", "ConfigMap", digest_name(revision), owner, labels, data={"digest": digest})


def build_feedback_keys(owner: Object, key: bytes) -> Object:
    """The key that signs prediction ids. Made once; the operator never reads it back."""
    name = owner["metadata"]["name"]
    data = {"current": base64.b64encode(key).decode()}
    return child("v1", "Secret", feedback_name(name), owner, model_labels(name), type="Opaque", data=data)
