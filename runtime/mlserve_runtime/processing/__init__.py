"""Preprocessing and postprocessing: the vectorised execution of what `model.yaml` declares.

Requests arrive in many protocols and mean the same thing in each: *raw* tensors, named as the signature names them.

    from_json, from_image, check -> raw tensors       per request, where bad input is refused
    preprocess                   -> model inputs      per batch, in the executor
    postprocess                  -> Outcome           per batch: output tensors and predictions
"""

from __future__ import annotations

from mlserve_runtime.processing.errors import InputError, PipelineError
from mlserve_runtime.processing.pipeline import Pipeline, build_pipeline
from mlserve_runtime.processing.predictions import Outcome, Predictions
from mlserve_runtime.processing.samples import warm_up_rows
from mlserve_runtime.processing.tensors import DTYPES, Tensors

__all__ = [
    "DTYPES",
    "InputError",
    "Outcome",
    "Pipeline",
    "PipelineError",
    "Predictions",
    "Tensors",
    "build_pipeline",
    "warm_up_rows",
]
