"""ONNX models through onnxruntime: an optional extra, and a format that carries no Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlserve_core.artifact import Artifact
from mlserve_runtime.backends.base import DeviceOptions, LoadError, Tensors, named_outputs


class OnnxBackend:
    """An onnxruntime session. See backends.base.Backend."""

    def __init__(self, session: Any, outputs: tuple[str, ...], threads: int) -> None:
        self._session = session
        self._outputs = outputs
        self._threads = threads
        self._input_names = [entry.name for entry in session.get_inputs()]
        available = [entry.name for entry in session.get_outputs()]
        self._fetch = list(outputs) if set(outputs) <= set(available) else available

    def __call__(self, inputs: Tensors) -> dict[str, Any]:
        """Inputs by name where the names agree, else by position."""
        if set(inputs) != set(self._input_names):
            inputs = dict(zip(self._input_names, inputs.values(), strict=True))
        results = self._session.run(self._fetch, dict(inputs))
        if self._fetch == list(self._outputs):
            return dict(zip(self._outputs, results, strict=True))
        return named_outputs(tuple(results), self._outputs)

    def tune(self, samples: Mapping[int, Tensors]) -> None:
        """Run every size once."""
        for inputs in samples.values():
            self(inputs)

    def describe(self) -> dict[str, Any]:
        """Providers and threads."""
        return {
            "platform": "onnx",
            "format": "onnx",
            "device": ",".join(self._session.get_providers()),
            "threads": self._threads,
        }

    def release_thread(self) -> None:
        """Onnxruntime has a thread pool of its own."""


def load_onnx(artifact: Artifact, options: DeviceOptions) -> OnnxBackend:
    """A session over the artifact's weights. Raises LoadError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise LoadError("format onnx needs onnxruntime: install mlserve[onnx] in the image") from error
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    wanted = ["CPUExecutionProvider"]
    if options.device.startswith("cuda"):
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise LoadError(
                f"device {options.device!r} was asked for, but this onnxruntime has no CUDA provider; use cpu"
            )
        wanted.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(str(artifact.weights_path), session_options, providers=wanted)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        text = first.replace(str(artifact.weights_path), artifact.weights_path.name)[:200]
        raise LoadError(f"{artifact.weights_path.name} is no ONNX model this onnxruntime can run: {text}") from error
    return OnnxBackend(session, tuple(tensor.name for tensor in artifact.spec.outputs), options.threads)
