"""A loaded model as everything else sees it: an artifact, its pipeline and a backend behind one call.

`run` takes the raw tensors of a batch and returns a result per row: preprocessing, the forward pass, postprocessing
and the check that what came out is an answer at all.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlserve_core.artifact import Artifact, ArtifactError, load_artifact
from mlserve_runtime.backends.base import Backend, DeviceOptions, LoadError
from mlserve_runtime.backends.loading import import_framework, load_backend
from mlserve_runtime.backends.threads import available_cpus
from mlserve_runtime.batching.queue import Answer, Key
from mlserve_runtime.errors import BadOutputError
from mlserve_runtime.processing import (
    Outcome,
    Pipeline,
    PipelineError,
    Predictions,
    Tensors,
    build_pipeline,
    warm_up_rows,
)
from mlserve_runtime.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ServedModel:
    """One revision of one model, ready to run."""

    name: str
    version: str
    revision: str
    artifact: Artifact
    pipeline: Pipeline
    backend: Backend
    loaded_seconds: float = 0.0
    _fixed: bool = field(init=False)

    def __post_init__(self) -> None:
        self._fixed = all(tensor.row_size is not None for tensor in self.artifact.spec.inputs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by index where the artifact names none; empty for a regression."""
        spec = self.artifact.spec
        if spec.task == "regression" or spec.classes:
            return spec.classes
        width = spec.outputs[0].shape[-1] if len(spec.outputs[0].shape) > 1 else 1
        return tuple(str(index) for index in range(2 if width == 1 else max(width, 0)))

    def run(self, inputs: Tensors) -> Outcome:
        """One pass over a batch of raw tensors; on the worker thread.

        Raises:
            BadOutputError: The model returned another number of rows than it was given.
        """
        prepared = self.pipeline.preprocess(inputs)
        if prepared is inputs:
            # A model may compute in place; the raw values belong to the request and to telemetry.
            prepared = {name: np.array(array) for name, array in inputs.items()}
        outputs = self.backend({name: _contiguous(array) for name, array in prepared.items()})
        rows = len(next(iter(inputs.values())))
        for name, array in outputs.items():
            if array.ndim == 0 or array.shape[0] != rows:
                raise BadOutputError(f"output {name!r} has shape {list(array.shape)} for {rows} rows of input")
        return self.pipeline.postprocess(dict(outputs))

    def bucket(self, inputs: Tensors) -> Key:
        """What requests must share to run in one pass: the shapes of their rows, where those can vary."""
        if self._fixed:
            return None
        return tuple(array.shape[1:] for array in inputs.values())

    def warm_up(self, max_rows: int) -> None:
        """Run every power of two up to `max_rows`, so that no request pays for a first time. Raises LoadError."""
        sizes = [1]
        while sizes[-1] < max_rows:
            sizes.append(min(max_rows, sizes[-1] * 2))
        try:
            row = warm_up_rows(self.artifact.warmup_path, self.pipeline)
        except PipelineError as error:
            raise LoadError(str(error)) from error
        samples: dict[int, Tensors] = {}
        try:
            for size in sizes:
                raw = {name: np.resize(array, (size, *array.shape[1:])) for name, array in row.items()}
                prepared = self.pipeline.preprocess(raw)
                samples[size] = {name: np.array(_contiguous(array)) for name, array in prepared.items()}
            self.backend.tune(samples)
            outcome = self.run({name: np.resize(array, (1, *array.shape[1:])) for name, array in row.items()})
            self._check_outputs(outcome.outputs)
        except LoadError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in self.artifact.spec.inputs)
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise LoadError(f"the model does not run on its declared inputs ({shapes}): {first}") from error

    def _check_outputs(self, outputs: Tensors) -> None:
        """Raise LoadError where the shape of an output is not the declared one: a label would be looked up in vain."""
        for tensor in self.artifact.spec.outputs:
            shape = outputs[tensor.name].shape
            if len(shape) != len(tensor.shape) or any(
                want not in {-1, size} for want, size in zip(tensor.row_shape, shape[1:], strict=True)
            ):
                raise LoadError(
                    f"output {tensor.name!r} has shape {[-1, *shape[1:]]}, model.yaml declares {list(tensor.shape)}; "
                    "correct the declaration and package the artifact again"
                )


def load_model(settings: Settings) -> ServedModel:
    """Read, verify, load and warm up. Raises ArtifactError or LoadError; both texts say what to do."""
    began = time.perf_counter()
    artifact = _verified(settings)
    try:
        pipeline = build_pipeline(artifact.spec)
    except PipelineError as error:
        raise ArtifactError(f"model.yaml: {error}") from error
    options = DeviceOptions(
        device=settings.device,
        threads=settings.threads or available_cpus(),
        half_precision=settings.half_precision,
        cuda_graphs=settings.cuda_graphs,
    )
    pinned = bool(settings.model_digest)
    backend = load_backend(artifact, options, allow_code=settings.allow_code, pinned=pinned)
    model = ServedModel(
        name=settings.model_name or artifact.spec.name,
        version=settings.model_version or artifact.spec.version,
        revision=settings.revision,
        artifact=artifact,
        pipeline=pipeline,
        backend=backend,
    )
    model.warm_up(settings.max_rows)
    model.loaded_seconds = time.perf_counter() - began
    return model


def _verified(settings: Settings) -> Artifact:
    """The artifact with every file hashed, which takes a second per gigabyte: the framework is imported meanwhile.

    Nothing of the artifact is used before its hashes were compared; only which framework to import is believed early.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="verify") as executor:
        verified = executor.submit(load_artifact, settings.model_dir, settings.model_digest)
        with contextlib.suppress(ArtifactError, OSError):
            import_framework(load_artifact(settings.model_dir, verify=False).spec.format)
        return verified.result()


def collect_outputs(answers: Sequence[Answer]) -> Tensors:
    """The output tensors of a job; joined where it ran in several slices."""
    parts = [{name: array[part.start : part.stop] for name, array in part.result.outputs.items()} for part in answers]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def collect_predictions(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The predictions of a job as JSON objects, one per row; empty where the model has none."""
    rows: list[dict[str, Any]] = []
    for part in answers:
        predictions: Predictions | None = part.result.predictions
        if predictions is not None:
            rows.extend(predictions[part.start : part.stop].rows())
    return rows


def collect_result(answers: Sequence[Answer]) -> Outcome:
    """A job's own result, copied out of the batches it ran in."""
    parts = [part.result.predictions[part.start : part.stop] for part in answers if part.result.predictions is not None]
    outputs = {name: np.array(array) for name, array in collect_outputs(answers).items()}
    all_finite = all(part.result.all_finite for part in answers)
    predictions = join_predictions(parts) if parts else None
    return Outcome(outputs, lambda: predictions, all_finite)


def join_predictions(parts: Sequence[Predictions]) -> Predictions:
    """One after the other."""
    first = parts[0]

    def joined(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    return replace(first, **{name: joined(name) for name in ("classes", "probabilities", "confidence", "values")})


def predicted_classes(answers: Sequence[Answer]) -> list[int]:
    """The class index of every row of a job; -1 where there are no classes."""
    indices: list[int] = []
    for part in answers:
        predictions = part.result.predictions
        if predictions is None or predictions.classes is None:
            indices.extend([-1] * (part.stop - part.start))
        else:
            indices.extend(predictions.classes[part.start : part.stop].tolist())
    return indices


def first_bad_row(answers: Sequence[Answer]) -> int | None:
    """The first row of a job whose outputs hold NaN or infinity."""
    for part in answers:
        if part.result.all_finite:
            continue
        finite = part.result.finite
        for row in range(part.start, part.stop):
            if not finite[row]:
                return part.offset + row - part.start
    return None


def _contiguous(array: Any) -> Any:
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)
