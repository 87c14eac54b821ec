"""Rows to try a model on: the artifact's own samples, or made-up ones that fit the signature."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlserve_runtime.processing.errors import InputError, PipelineError

if TYPE_CHECKING:
    from pathlib import Path

    from mlserve_runtime.processing.pipeline import Pipeline
    from mlserve_runtime.processing.tensors import Tensors


def warm_up_rows(path: Path | None, pipeline: Pipeline) -> Tensors:
    """Raw tensors of the artifact's `warmup.json`; of two made-up rows where it has none.

    The file holds `{"instances": [...]}`, rows as `POST /predict` takes them.

    Raises:
        PipelineError: The file cannot be read, or a row does not fit the signature.
    """
    if path is None:
        return pipeline.sample_rows(2)
    try:
        document = json.loads(path.read_bytes())
        return pipeline.from_json_batch(document["instances"] if isinstance(document, dict) else document)
    except (InputError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PipelineError(f"{path.name} cannot be used: {error}; package the artifact again") from error
