"""From an artifact to a backend: which module can load the format, and which formats may be loaded at all.

Imports of torch and onnxruntime happen here, lazily, on the thread that loads.
"""

from __future__ import annotations

import contextlib
import importlib

from mlserve_core.artifact import Artifact
from mlserve_runtime.backends.base import Backend, DeviceOptions, LoadError


def import_framework(form: str) -> None:
    """Import what a format needs, ahead of time. A framework that is absent is reported by `load_backend`."""
    if form == "onnx":
        with contextlib.suppress(ImportError):
            importlib.import_module("onnxruntime")
    else:
        importlib.import_module("mlserve_runtime.backends.torch_loading")


def load_backend(artifact: Artifact, options: DeviceOptions, *, allow_code: bool, pinned: bool) -> Backend:
    """Load the weights of an artifact.

    Args:
        artifact: A verified artifact.
        options: Device, threads, precision.
        allow_code: Explicit opt-in to formats that run code of the artifact.
        pinned: The artifact's digest was given by whoever deployed it, and matched.

    Raises:
        LoadError: The format is refused or the weights do not fit; the text says what to do.
    """
    spec = artifact.spec
    if spec.is_code and not (allow_code or pinned):
        raise LoadError(
            f"format {spec.format} runs code from the artifact; set the model's digest ({artifact.digest}) "
            "to pin what you reviewed, or start with --allow-code"
        )
    if spec.format == "onnx":
        from mlserve_runtime.backends.onnx import load_onnx

        return load_onnx(artifact, options)
    from mlserve_runtime.backends.torch_loading import load_torch

    return load_torch(artifact, options)
