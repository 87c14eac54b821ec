from __future__ import annotations

from typing import Any

import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_operator.resources.pod import build_pod_template
from mlserve_operator.rollout.revisions import Snapshot, revision_name


@pytest.fixture
def owner() -> dict[str, Any]:
    """A ModelDeployment as the API server stores it."""
    return {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": "digits",
            "namespace": "team",
            "uid": "uid-digits",
            "generation": 1,
            "resourceVersion": "5",
        },
        "spec": {"model": {"uri": "s3://models/digits/1", "version": "1"}, "replicas": 2},
    }


def make_snapshot(owner: dict[str, Any], number: int = 1) -> Snapshot:
    """The snapshot of what a resource's spec asks for."""
    spec = ModelDeploymentSpec.model_validate(owner["spec"])
    name = owner["metadata"]["name"]
    revision = revision_name(name, owner["spec"])
    template = build_pod_template(
        name=name, revision=revision, model=spec.model, runtime=spec.runtime, image="ghcr.io/mlserve/mlserve-runtime:1"
    )
    return Snapshot(revision=revision, number=number, model=spec.model, runtime=spec.runtime, template=template)
