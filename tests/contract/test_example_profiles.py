"""The examples are what people copy: a profile too small for its own settings would be drift that is never told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_core.statistics import ReferenceProfile
from mlserve_core.statistics.drift import DriftSettings, shortage
from mlserve_operator.rollout.drift import settings

MODELS = Path(__file__).resolve().parents[2] / "models"
EXAMPLES = sorted(MODELS.glob("*/modeldeployment*.yaml"))
DATASET_ROWS = {"digits": 1797, "tumor": 569}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_reference_is_large_enough_to_decide(path: Path) -> None:
    spec = ModelDeploymentSpec.model_validate(yaml.safe_load(path.read_text())["spec"])
    artifact = MODELS.parent / spec.model.uri.removeprefix("file:///") / "profile.json"
    profile = ReferenceProfile.from_json(artifact.read_bytes())
    assert shortage(profile, settings(spec.drift)) == ""
    assert profile.rows == DATASET_ROWS[path.parent.name], (
        "profiled out of fold: every row of the data set is held out once"
    )


def test_the_small_example_would_be_too_small_at_the_defaults() -> None:
    profile = ReferenceProfile.from_json((MODELS / "tumor/artifacts/v1/profile.json").read_bytes())
    assert "569 rows are too few to decide by" in shortage(profile, DriftSettings())
