"""The pages on artifacts and feature lookup say what the code does: examples load, every name is mentioned."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest
import yaml

from mlserve_core.artifact import parse_model_spec
from mlserve_core.processing import ImageDecoding, Postprocessing, PreprocessingStep
from mlserve_runtime.artifacts import fetch, policy, uris
from mlserve_runtime.features import config
from mlserve_runtime.processing import build_pipeline

DOCS = Path(__file__).resolve().parents[2] / "docs"
ARTIFACTS = (DOCS / "artifacts.md").read_text()
FEATURES = (DOCS / "feature-lookup.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", ARTIFACTS, re.DOTALL)


def test_the_example_is_a_model_that_works() -> None:
    spec = parse_model_spec(BLOCKS[0])
    pipeline = build_pipeline(spec)
    raw = pipeline.from_json({"features": {"income": None, "age": 40, "job": "doctor"}})
    assert pipeline.preprocess(raw)["row"].shape == (1, 5)


def test_the_image_example_is_valid_and_complete() -> None:
    image = yaml.safe_load(BLOCKS[1])["image"]
    ImageDecoding.model_validate(image)
    documented = set(image) | {"input", "fit", "formats"}
    assert {field.alias for field in ImageDecoding.model_fields.values()} == documented


def operations() -> list[str]:
    union, *_ = typing.get_args(PreprocessingStep)
    return [typing.get_args(step.model_fields["op"].annotation)[0] for step in typing.get_args(union)]


@pytest.mark.parametrize("operation", operations())
def test_every_step_is_in_the_table(operation: str) -> None:
    assert f"| `{operation}` |" in ARTIFACTS


@pytest.mark.parametrize("field", [str(field.alias) for field in Postprocessing.model_fields.values()])
def test_every_field_of_postprocessing_is_mentioned(field: str) -> None:
    assert f"`{field}`" in ARTIFACTS


@pytest.mark.parametrize("scheme", [scheme for scheme in uris.SCHEMES if scheme != "http"])
def test_every_scheme_is_in_the_table(scheme: str) -> None:
    assert f"`{scheme}://" in ARTIFACTS


@pytest.mark.parametrize("suffix", uris.ARCHIVE_SUFFIXES)
def test_every_archive_is_mentioned(suffix: str) -> None:
    assert f"`{suffix}`" in ARTIFACTS


@pytest.mark.parametrize(
    "name",
    [policy.ENV_HOSTS, policy.ENV_SCHEMES, policy.ENV_MAX_BYTES, policy.ENV_FILE_ROOT, fetch.ENV_TOKEN],
)
def test_every_variable_of_fetch_is_mentioned(name: str) -> None:
    assert name in ARTIFACTS


@pytest.mark.parametrize("name", [value for key, value in vars(config).items() if key.startswith("ENV_")])
def test_every_variable_of_the_lookup_is_mentioned(name: str) -> None:
    assert f"`{name}`" in FEATURES
