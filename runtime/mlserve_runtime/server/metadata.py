"""What the model is, in the words of each protocol that asks."""

from __future__ import annotations

from importlib.metadata import version as package_version
from typing import Any

from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.errors import NotFoundError, UnavailableError
from mlserve_runtime.model import ServedModel

EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "parameters"]


def server_metadata() -> dict[str, Any]:
    """V2 server metadata."""
    return {"name": "mlserve", "version": package_version("mlserve"), "extensions": EXTENSIONS}


def model_of(plane: DataPlane, name: str = "", version: str = "") -> ServedModel:
    """The served model. Raises NotFoundError for another name or version, UnavailableError while loading."""
    model = plane.model
    if model is None:
        raise UnavailableError("the model is still loading; try again in a moment", elsewhere=True)
    if name and name != model.name:
        raise NotFoundError(f"model {name!r} is not served here; this is {model.name!r}")
    if version and version != model.version:
        raise NotFoundError(f"model {name!r} has no version {version!r}; version {model.version!r} is served")
    return model


def model_is_ready(plane: DataPlane, name: str, version: str) -> bool:
    """Whether it answers; a model that is still loading does not, whatever its name. Raises NotFoundError."""
    if plane.model is not None:
        model_of(plane, name, version)
    return plane.ready


def model_information(plane: DataPlane) -> dict[str, Any]:
    """What `/model/info` answers."""
    model = model_of(plane)
    spec = model.artifact.spec
    return {
        "name": model.name,
        "version": model.version,
        "revision": model.revision,
        "digest": model.artifact.digest,
        "description": spec.description,
        "task": spec.task,
        "format": spec.format,
        "inputs": [_tensor(tensor) | {"features": tensor.feature_names} for tensor in spec.inputs],
        "outputs": [_tensor(tensor) for tensor in spec.outputs],
        "classes": spec.classes,
        "acceptsImages": model.pipeline.accepts_images,
        "maxBatch": plane.settings.max_simple_batch,
        "loadSeconds": round(model.loaded_seconds, 3),
        "backend": model.backend.describe(),
    }


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """V2 model metadata."""
    spec = model.artifact.spec
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": f"{model.backend.describe()['platform']}_{spec.format}",
        "inputs": [_tensor(tensor) for tensor in spec.inputs],
        "outputs": [_tensor(tensor) for tensor in spec.outputs],
        "parameters": {"revision": model.revision, "digest": model.artifact.digest},
    }


def model_config(plane: DataPlane, model: ServedModel) -> dict[str, Any]:
    """Triton's configuration, as far as it means something here; perf_analyzer reads max_batch_size and dims."""
    spec = model.artifact.spec

    def tensor(entry: Any) -> dict[str, Any]:
        datatype = "TYPE_STRING" if entry.datatype == "BYTES" else f"TYPE_{entry.datatype}"
        return {"name": entry.name, "data_type": datatype, "dims": list(entry.row_shape)}

    return {
        "name": model.name,
        "platform": f"{model.backend.describe()['platform']}_{spec.format}",
        "backend": "mlserve",
        "version_policy": {"specific": {"versions": [model.version]}},
        "max_batch_size": plane.settings.max_rows,
        "input": [tensor(entry) for entry in spec.inputs],
        "output": [tensor(entry) for entry in spec.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": plane.settings.max_delay_micros},
        "parameters": {"executables": {"string_value": str(model.backend.describe())}},
    }


def _tensor(entry: Any) -> dict[str, Any]:
    return {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape)}
