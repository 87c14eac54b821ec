"""Tensors of gRPC messages: raw contents, which clients send, and typed contents, which the specification allows too.

Answers always carry raw contents: tritonclient reads nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlserve_core.model_spec import TensorSpec
from mlserve_runtime.batching.queue import Job
from mlserve_runtime.errors import InvalidInputError
from mlserve_runtime.model import ServedModel, collect_outputs
from mlserve_runtime.processing import DTYPES, Tensors
from mlserve_runtime.protocols.binary import DATATYPES, decode_tensor, encode_tensor, shaped
from mlserve_runtime.protocols.extensions import refuse_unserved
from mlserve_runtime.protocols.grpc_v2.messages import ModelInferResponse

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(slots=True)
class InferOptions:
    """What a request asks for beside its tensors."""

    id: str
    outputs: tuple[str, ...]
    timeout: float | None
    priority: int


def read_inputs(request: Any, specs: tuple[TensorSpec, ...]) -> Tensors:
    """The tensors of a ModelInferRequest. Raises InvalidInputError naming the tensor."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(f"{len(request.inputs)} inputs are described, {len(raw)} raw contents given")
    known = {spec.name: spec for spec in specs}
    inputs: Tensors = {}
    for index, entry in enumerate(request.inputs):
        spec = known.get(entry.name)
        if spec is None:
            raise InvalidInputError(f"there is no input {entry.name!r}; the model has {', '.join(known)}")
        if entry.datatype != spec.datatype:
            raise InvalidInputError(f"input {entry.name!r} has datatype {entry.datatype!r}, expected {spec.datatype!r}")
        if entry.name in inputs:
            raise InvalidInputError(f"input {entry.name!r} is given twice")
        refuse_unserved(f"input {entry.name!r}", entry.parameters)
        shape = list(entry.shape)
        if len(shape) != len(spec.shape) or any(size < 0 or size >= 2**31 for size in shape):
            raise InvalidInputError(f"input {entry.name!r} has shape {shape[:8]}, expected {list(spec.shape)}")
        if raw:
            if entry.HasField("contents"):
                raise InvalidInputError(
                    f"input {entry.name!r} has contents beside raw_input_contents; send one of them"
                )
            inputs[entry.name] = decode_tensor(raw[index], spec.datatype, shape, entry.name)
        else:
            inputs[entry.name] = _typed(entry, spec, shape)
    return inputs


def read_options(request: Any, model: ServedModel) -> InferOptions:
    """Id, requested outputs and parameters. Raises InvalidInputError."""
    known = [tensor.name for tensor in model.artifact.spec.outputs]
    names = tuple(output.name for output in request.outputs)
    for output in request.outputs:
        if output.name not in known:
            raise InvalidInputError(f"there is no output {output.name!r}; the model has {', '.join(known)}")
        refuse_unserved(f"output {output.name!r}", output.parameters)
    micros = _integer(request.parameters, "timeout")
    return InferOptions(
        id=request.id,
        outputs=names,
        timeout=micros / 1e6 if micros else None,
        priority=_integer(request.parameters, "priority"),
    )


def write_response(model: ServedModel, job: Job, options: InferOptions) -> Any:
    """The ModelInferResponse of a finished job."""
    outputs = collect_outputs(job.answers or ())
    response = ModelInferResponse(model_name=model.name, model_version=model.version, id=options.id)
    for name in options.outputs or outputs:
        array = outputs[name]
        response.outputs.add(name=name, datatype=DATATYPES[array.dtype], shape=array.shape)
        response.raw_output_contents.append(encode_tensor(array))
    return response


def _typed(entry: Any, spec: TensorSpec, shape: list[int]) -> Any:
    contents = _CONTENTS.get(spec.datatype)
    if contents is None:
        raise InvalidInputError(f"input {spec.name!r}: {spec.datatype} is sent in raw_input_contents")
    values = getattr(entry.contents, contents)
    if len(values) != math.prod(shape):
        raise InvalidInputError(
            f"input {spec.name!r}: {contents} has {len(values)} values, shape {shape} needs {math.prod(shape)}"
        )
    dtype = DTYPES[spec.datatype]
    if spec.datatype == "BYTES":
        array = np.empty(len(values), dtype=dtype)
        array[:] = list(values)
        return shaped(array, shape, spec.name)
    wide = np.array(values)
    if dtype.kind in "iu" and wide.size:
        limits = np.iinfo(dtype)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise InvalidInputError(f"input {spec.name!r}: a value is outside of {spec.datatype}")
    return shaped(wide.astype(dtype), shape, spec.name)


def _integer(parameters: Any, name: str) -> int:
    if name not in parameters:
        return 0
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in {"int64_param", "uint64_param"} else -1
    if value < 0:
        raise InvalidInputError(f"parameter {name!r} must be an integer of at least 0")
    return int(value)
