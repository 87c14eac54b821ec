"""Building an artifact: check that the model is what model.yaml says, profile it, and seal it with a manifest.

Most faults of a served model are made here: a forgotten `eval()`, outputs in another order, a file saved for another
architecture. They cost a rollout later and a second now, so the model is loaded by the very code that will serve it
and asked.
"""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlserve_core.artifact import (
    MODEL_FILE,
    PROFILE_FILE,
    WARMUP_FILE,
    Artifact,
    ArtifactError,
    Manifest,
    build_manifest,
    parse_model_spec,
    sha256_of,
    write_manifest,
)
from mlserve_core.statistics.build import build_profile
from mlserve_core.statistics.drift import DriftSettings, shortage
from mlserve_core.statistics.profile import ProfileError, ReferenceProfile
from mlserve_runtime.artifacts.held_out import HeldOut, read_held_out
from mlserve_runtime.backends.base import DeviceOptions, LoadError
from mlserve_runtime.backends.loading import load_backend
from mlserve_runtime.processing import DTYPES, InputError, PipelineError, build_pipeline, warm_up_rows

if TYPE_CHECKING:
    from pathlib import Path

    from mlserve_core.model_spec import ModelSpec
    from mlserve_runtime.backends.base import Backend
    from mlserve_runtime.processing import Outcome, Pipeline, Tensors

PROJECTIONS: Final = 16
_BATCH: Final = 256
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Package:
    """What packaging found."""

    manifest: Manifest
    profile: ReferenceProfile | None
    notes: tuple[str, ...]
    """Remarks for the person who packages: not wrong, but worth knowing."""


class Model:
    """An artifact's pipeline and backend, called directly."""

    def __init__(self, pipeline: Pipeline, backend: Backend) -> None:
        self.pipeline = pipeline
        self._backend = backend

    def __call__(self, raw: Tensors) -> Outcome:
        """Raw tensors to outcome. Raises ArtifactError where the model does not run."""
        try:
            outputs = self._backend(self.pipeline.preprocess(raw))
        except (InputError, LoadError) as error:
            raise ArtifactError(str(error)) from error
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise ArtifactError(f"the model does not run on its declared inputs: {first[:300]}") from error
        missing = [tensor.name for tensor in self.pipeline.spec.outputs if tensor.name not in outputs]
        if missing:
            raise ArtifactError(f"the model returns no {', '.join(missing)}; it has {', '.join(outputs)}")
        return self.pipeline.postprocess(dict(outputs))


def package(
    directory: Path,
    held_out: HeldOut | Path | None = None,
    *,
    label: str = "label",
    seed: int = 0,
    created_at: str | None = None,
) -> Package:
    """Check the model in `directory`, write `profile.json` from held-out rows (if any) and `manifest.json`.

    Args:
        directory: Holds model.yaml, the weights and whatever else belongs to the model.
        held_out: Rows the model was not trained on, or a file of them (held_out.py).
        label: Column of the true class in such a file.
        seed: Of the profile's projections and splits.
        created_at: Time written into the profile; by default `$SOURCE_DATE_EPOCH` or now. A profile that lies there
            already and says the same keeps its time, so that packaging again gives the same digest.

    Raises:
        ArtifactError: The model is not what model.yaml says; the text names the tensor and the difference.
    """
    model = load_model(directory)
    spec = model.pipeline.spec
    notes: list[str] = []
    warmup = directory / WARMUP_FILE
    try:
        sample = warm_up_rows(warmup if warmup.is_file() else None, model.pipeline)
    except PipelineError as error:
        raise ArtifactError(str(error)) from error
    check_outputs(model, sample)
    notes += check_batching(model, sample)
    profile = None
    if held_out is not None:
        rows = held_out if isinstance(held_out, HeldOut) else read_held_out(held_out, model.pipeline, label)
        profile = make_profile(directory, model, rows, seed=seed, created_at=created_at)
        if created_at is None:
            profile = keep_time(profile, directory / PROFILE_FILE)
        (directory / PROFILE_FILE).write_text(profile.to_json() + "\n", encoding="utf-8")
        if words := shortage(profile, DriftSettings()):
            notes.append(f"the profile: {words}")
    elif (directory / PROFILE_FILE).is_file():
        profile = check_profile(directory, spec)
    else:
        notes.append("no held-out data given: without profile.json drift cannot be detected")
    return Package(write_manifest(directory), profile, tuple(notes))


def keep_time(profile: ReferenceProfile, path: Path) -> ReferenceProfile:
    """The profile with the time of an earlier one at `path` that is like it in everything else."""
    try:
        before = ReferenceProfile.from_json(path.read_bytes())
    except (OSError, ProfileError):
        return profile
    same = profile.model_copy(update={"created_at": before.created_at})
    return same if same.to_json() == before.to_json() else profile


def load_model(directory: Path) -> Model:
    """The model of a directory that may not have a manifest yet. Raises ArtifactError."""
    path = directory / MODEL_FILE
    if not path.is_file():
        raise ArtifactError(f"there is no {MODEL_FILE} in {directory}; write one that says what the model is")
    spec = parse_model_spec(path.read_bytes())
    artifact = Artifact(directory=directory, spec=spec, manifest=build_manifest(directory))
    if artifact.manifest.find(spec.weights) is None:
        raise ArtifactError(f"weights {spec.weights!r} of {MODEL_FILE} are not in {directory}")
    try:
        pipeline = build_pipeline(spec)
        backend = load_backend(artifact, DeviceOptions(), allow_code=True, pinned=False)
        backend.release_thread()
    except (PipelineError, LoadError) as error:
        raise ArtifactError(str(error)) from error
    return Model(pipeline, backend)


def check_outputs(model: Model, sample: Tensors) -> None:
    """Compare names, datatypes and shapes of what comes out with the signature, and refuse NaN."""
    outcome = model(sample)
    for tensor in model.pipeline.spec.outputs:
        array = outcome.outputs[tensor.name]
        wanted = DTYPES[tensor.datatype]
        if array.dtype != wanted:
            raise ArtifactError(f"output {tensor.name!r} is declared {tensor.datatype}, the model gives {array.dtype}")
        expected = [len(next(iter(sample.values()))), *tensor.row_shape]
        fits = array.ndim == len(expected) and all(
            want in {-1, size} for want, size in zip(expected, array.shape, strict=True)
        )
        if not fits:
            raise ArtifactError(
                f"output {tensor.name!r} is declared {list(tensor.shape)}, the model gives {list(array.shape)}"
            )
    if not outcome.finite.all():
        raise ArtifactError("the model answers sample inputs with NaN or infinity; check weights and preprocessing")
    scores = outcome.predictions
    if model.pipeline.spec.task == "classification" and scores is not None and scores.probabilities is not None:
        lowest, highest = scores.probabilities.min(), scores.probabilities.max()
        if lowest < -_TOLERANCE or highest > 1 + _TOLERANCE:
            raise ArtifactError(
                f"class scores range from {lowest:.3g} to {highest:.3g} and are no probabilities; "
                "declare postprocessing.activation softmax or sigmoid"
            )


def check_batching(model: Model, sample: Tensors) -> list[str]:
    """A row must get the same answer alone, again, and in company: otherwise a layer is still in training mode."""
    alone = {name: array[:1] for name, array in sample.items()}
    crowd = {name: np.concatenate([array] * 2)[: max(2, len(array))] for name, array in sample.items()}
    first, again, among = (next(iter(model(rows).outputs.values()))[:1] for rows in (alone, alone, crowd))
    if first.dtype.kind != "f":
        return []
    if not np.allclose(first, again, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ArtifactError("the model answers the same row differently each time; call eval() before saving")
    if not np.allclose(first, among, rtol=_TOLERANCE, atol=_TOLERANCE):
        return ["a row's answer depends on the other rows of its batch; serve it with batching.maxRows: 1"]
    return []


def check_profile(directory: Path, spec: ModelSpec) -> ReferenceProfile:
    """A profile.json that lies there already must be of this model: counts on another one's bins mean nothing."""
    remedy = "give held-out data to make a new one, or remove it"
    try:
        profile = ReferenceProfile.from_json((directory / PROFILE_FILE).read_bytes())
    except ProfileError as error:
        raise ArtifactError(f"{error}; {remedy}") from error
    if profile.model_digest not in {"", _weights_digest(directory, spec)}:
        raise ArtifactError(f"{PROFILE_FILE} was made with other weights; {remedy}")
    unknown = [name for name in profile.feature_names if name not in spec.feature_names]
    if profile.projection is None and unknown:
        raise ArtifactError(f"{PROFILE_FILE} has features the model has not: {', '.join(unknown[:8])}; {remedy}")
    width = sum(tensor.row_size or 0 for tensor in spec.inputs)
    if profile.projection is not None and profile.projection.inputs != width:
        raise ArtifactError(f"{PROFILE_FILE} is of rows with {profile.projection.inputs} values, not {width}; {remedy}")
    return profile


def make_profile(
    directory: Path, model: Model, rows: HeldOut, *, seed: int = 0, created_at: str | None = None
) -> ReferenceProfile:
    """The reference profile of held-out rows: raw inputs, and what the model answers on them."""
    spec = model.pipeline.spec
    outcome = rows.outputs if rows.outputs is not None else _predict(model, rows.inputs)
    answers: dict[str, Any] = {}
    if spec.task == "regression":
        answers["predictions"] = outcome.reshape(rows.rows, -1)[:, 0]
    elif outcome.ndim in {1, 2}:
        columns = outcome[:, np.newaxis] if outcome.ndim == 1 else outcome
        probabilities = np.concatenate([1 - columns, columns], axis=1) if columns.shape[1] == 1 else columns
        answers["probabilities"] = probabilities
        answers["classes"] = spec.classes or tuple(str(index) for index in range(probabilities.shape[1]))
        answers["labels"] = rows.labels
    text = {name for tensor in spec.inputs if tensor.datatype == "BYTES" for name in tensor.feature_names}
    try:
        return build_profile(
            _profile_rows(model.pipeline, rows.inputs),
            categorical=text,
            projections=PROJECTIONS if spec.image else 0,
            seed=seed,
            model_name=spec.name,
            model_digest=_weights_digest(directory, spec),
            created_at=_now() if created_at is None else created_at,
            **answers,
        )
    except ProfileError as error:
        raise ArtifactError(f"the held-out data cannot be profiled: {error}") from error


def _weights_digest(directory: Path, spec: ModelSpec) -> str:
    return "sha256:" + sha256_of(directory / spec.weights)


def _now() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(int(epoch) if epoch else time.time(), datetime.UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _profile_rows(pipeline: Pipeline, inputs: Tensors) -> Any:
    if pipeline.spec.image is not None and len(inputs) == 1:
        (array,) = inputs.values()
        return array.reshape(len(array), -1)
    return pipeline.columns(inputs)


def _predict(model: Model, inputs: Tensors) -> np.ndarray[Any, np.dtype[Any]]:
    """The first output of every row, in batches."""
    name = model.pipeline.spec.outputs[0].name
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, _BATCH):
        batch = {key: array[start : start + _BATCH] for key, array in inputs.items()}
        parts.append(model(batch).outputs[name])
    return np.concatenate(parts)
