from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_core.api.v1alpha1 import Model, ModelDeploymentSpec
from mlserve_operator.rollout.revisions import Snapshot, expired, revision_name

BASE: dict[str, Any] = {
    "model": {"uri": "s3://b/m", "version": "1"},
    "runtime": {"resources": {"limits": {"memory": "1Gi"}}},
}

SAME = [
    pytest.param({**BASE, "replicas": 7}, id="replicas"),
    pytest.param({**BASE, "autoscaling": {"maxReplicas": 3}}, id="autoscaling"),
    pytest.param({**BASE, "traffic": {"timeoutSeconds": 3}}, id="traffic"),
    pytest.param({**BASE, "rollout": {"paused": True}}, id="rollout"),
    pytest.param({**BASE, "drift": {"enabled": False}}, id="drift"),
    pytest.param({**BASE, "model": {**BASE["model"], "digest": ""}}, id="a-field-that-says-nothing"),
    pytest.param({**BASE, "runtime": {**BASE["runtime"], "env": [], "nodeSelector": {}}}, id="empty-lists-and-maps"),
    pytest.param({key: BASE[key] for key in reversed(BASE)}, id="order-of-keys"),
]
OTHER = [
    pytest.param({**BASE, "model": {"uri": "s3://b/m", "version": "2"}}, id="version"),
    pytest.param({**BASE, "model": {"uri": "s3://b/n", "version": "1"}}, id="uri"),
    pytest.param({"model": BASE["model"]}, id="resources"),
    pytest.param({**BASE, "runtime": {**BASE["runtime"], "env": [{"name": "A", "value": "1"}]}}, id="env"),
]


@pytest.mark.parametrize("spec", SAME)
def test_what_does_not_shape_pods_gives_no_new_revision(spec: dict[str, Any]) -> None:
    assert revision_name("digits", spec) == revision_name("digits", BASE)


@pytest.mark.parametrize("spec", OTHER)
def test_what_shapes_pods_gives_a_new_revision(spec: dict[str, Any]) -> None:
    assert revision_name("digits", spec) != revision_name("digits", BASE)


def test_the_name_is_pinned() -> None:
    """A release that hashed otherwise would give every running model a new revision."""
    assert revision_name("digits", BASE) == "digits-369b9129"


def test_names_fit_into_labels_and_service_names() -> None:
    assert len(revision_name("a" * 45, BASE)) <= 63


def test_a_snapshot_survives_its_storage() -> None:
    spec = ModelDeploymentSpec.model_validate(BASE)
    snapshot = Snapshot(revision="digits-1", number=3, model=spec.model, runtime=spec.runtime, template={"spec": {}})
    stored = snapshot.model_dump(mode="json", by_alias=True, exclude_unset=True)
    again = Snapshot.model_validate(stored)
    assert again == snapshot
    assert again.runtime.model_fields_set == {"resources"}, "what the user did not set must stay unset"


@given(
    numbers=st.lists(st.integers(1, 99), unique=True, max_size=12),
    live=st.sets(st.integers(1, 99)),
    limit=st.integers(0, 5),
)
def test_history_keeps_the_newest_and_never_drops_a_live_one(numbers: list[int], live: set[int], limit: int) -> None:
    snapshots = [Snapshot(revision=f"r{n}", number=n, model=Model(uri="s3://b/m"), template={}) for n in numbers]
    gone = {item.number for item in expired(snapshots, [f"r{n}" for n in live], limit)}
    kept_idle = set(numbers) - gone - live
    assert not gone & live
    assert len(kept_idle) == min(limit, len(set(numbers) - live))
    assert all(old < new for old in gone for new in kept_idle)
