"""Open Inference Protocol V2 over REST, with the binary tensor extension.

Written for what real clients send: tritonclient sets no Content-Type, asks for binary both ways by default, and puts
the length of the JSON part in `Inference-Header-Content-Length`; ids are echoed even when empty; only the requested
outputs are returned; an error is exactly `{"error": "text"}`.
"""

from __future__ import annotations

import array
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from mlserve_core.model_spec import ModelSpec, TensorSpec
from mlserve_core.wire import HEADER_PREDICTION_ID
from mlserve_runtime.batching.queue import Job
from mlserve_runtime.calls import Call, Prepared, Reply
from mlserve_runtime.errors import InvalidInputError
from mlserve_runtime.model import ServedModel, collect_outputs
from mlserve_runtime.processing import DTYPES, Tensors
from mlserve_runtime.processing.tensors import Array, to_array
from mlserve_runtime.protocols.binary import DATATYPES, decode_tensor, encode_tensor, shaped
from mlserve_runtime.protocols.extensions import refuse_unserved

HEADER_LENGTH: Final = b"inference-header-content-length"
_OCTETS: Final = b"application/octet-stream"
_PREDICTION_ID: Final = HEADER_PREDICTION_ID.encode()
_MAX_RANK: Final = 8
_MAX_DIGITS: Final = 18
"""Of a length; what is longer is not worth converting."""


@dataclass(slots=True)
class OutputOptions:
    """What the client wants back."""

    names: tuple[str, ...] = ()
    """Requested outputs in order; empty asks for all."""
    binary: frozenset[str] = frozenset()
    binary_default: bool = False
    """All of them in binary; never set together with names, of which `binary` has the last word."""
    id: str | None = None


class InferRoute:
    """`POST /v2/models/M[/versions/V]/infer`."""

    name = "v2"

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        tensor = spec.inputs[0]
        plain = len(spec.inputs) == 1 and tensor.datatype == "FP32" and tensor.row_size is not None
        self._plain = (tensor.name, list(tensor.row_shape), tensor.row_size or 0) if plain else None

    def decode(self, call: Call, model: ServedModel) -> Prepared:
        """Tensors of a V2 request. Raises InvalidInputError naming the tensor."""
        document, tail = _split_body(call)
        # After a reload, a request whose headers came before it is read by the signature of the model that answers.
        checked = self._read_plain(document) if model.artifact.spec is self._spec else None
        if checked is None:
            checked = model.pipeline.check(_read_inputs(document, tail, model.artifact.spec.inputs))
        parameters = _parameters(document)
        options = _read_outputs(document, parameters, model)
        return Prepared(
            inputs=checked,
            encode=lambda model, job: encode(model, job, options),
            timeout=_timeout(parameters),
            priority=_priority(parameters),
        )

    def _read_plain(self, document: dict[str, Any]) -> Tensors | None:
        """The usual request in a few steps: one FP32 tensor of fixed row shape as a flat list of finite numbers.

        Whatever is not exactly that, wrong requests above all, is None: the general way reads it or says what is wrong.
        """
        if self._plain is None:
            return None
        name, row_shape, row_size = self._plain
        try:
            (entry,) = document["inputs"]
            shape, data = entry["shape"], entry["data"]
            if (
                entry["name"] != name
                or entry["datatype"] != "FP32"
                or shape[1:] != row_shape
                or type(data) is not list
                or len(data) != shape[0] * row_size
                or not data
            ):
                return None
            flat = np.frombuffer(array.array("f", data), dtype=np.float32)
            return {name: flat.reshape(shape)} if math.isfinite(np.add.reduce(flat)) else None
        except (KeyError, TypeError, ValueError, OverflowError):
            return None


def encode(model: ServedModel, job: Job, options: OutputOptions) -> Reply:
    """The V2 answer of a finished job: JSON, or JSON followed by raw tensors."""
    outputs = collect_outputs(job.answers or ())
    entries: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name in options.names or outputs:
        array = outputs[name]
        entry: dict[str, Any] = {"name": name, "datatype": DATATYPES[array.dtype], "shape": array.shape}
        if options.binary_default or name in options.binary:
            chunk = encode_tensor(array)
            entry["parameters"] = {"binary_data_size": len(chunk)}
            chunks.append(chunk)
        else:
            entry["data"] = _json_data(array)
        entries.append(entry)
    document: dict[str, Any] = {"model_name": model.name, "model_version": model.version, "outputs": entries}
    if options.id is not None:
        document["id"] = options.id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = ((_PREDICTION_ID, job.ids[0].encode()),) if job.ids else ()
    if not chunks:
        return Reply(200, head, headers=headers)
    return Reply(200, b"".join([head, *chunks]), _OCTETS, ((HEADER_LENGTH, b"%d" % len(head)), *headers))


def _split_body(call: Call) -> tuple[dict[str, Any], memoryview]:
    body = call.body
    length = call.headers.get(HEADER_LENGTH)
    tail = memoryview(b"")
    if length is not None:
        if not length.isdigit() or len(length) > _MAX_DIGITS or int(length) > len(body):
            raise InvalidInputError(
                f"Inference-Header-Content-Length is {length[:40].decode('latin-1')!r}, the body has {len(body)} bytes"
            )
        tail = memoryview(body)[int(length) :]
        body = body[: int(length)]
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body is not valid JSON: {error}") from error
    if type(document) is not dict:
        raise InvalidInputError('the body must be an object with "inputs"')
    return document, tail


def _read_inputs(document: dict[str, Any], tail: memoryview, specs: tuple[TensorSpec, ...]) -> Tensors:
    entries = document.get("inputs")
    if type(entries) is not list or not entries:
        raise InvalidInputError(f'"inputs" must be a list with the tensors {", ".join(t.name for t in specs)}')
    inputs: Tensors = {}
    position = 0
    for entry in entries:
        spec = _spec_of(entry, specs)
        if spec.name in inputs:
            raise InvalidInputError(f"input {spec.name!r} is given twice")
        shape = _shape_of(entry, spec)
        parameters = entry.get("parameters")
        size = None
        if type(parameters) is dict:
            refuse_unserved(f"input {spec.name!r}", parameters)
            size = parameters.get("binary_data_size")
        if size is None:
            if "data" not in entry:
                raise InvalidInputError(f"input {spec.name!r} has neither data nor parameters.binary_data_size")
            inputs[spec.name] = _from_json(entry["data"], shape, spec)
            continue
        if type(size) is not int or size < 0 or position + size > len(tail):
            raise InvalidInputError(
                f"input {spec.name!r}: binary_data_size {size!r} does not fit, {len(tail) - position} bytes are left"
            )
        inputs[spec.name] = decode_tensor(tail[position : position + size], spec.datatype, shape, spec.name)
        position += size
    if position != len(tail):
        raise InvalidInputError(f"{len(tail) - position} bytes follow the last binary tensor")
    return inputs


def _spec_of(entry: Any, specs: tuple[TensorSpec, ...]) -> TensorSpec:
    if type(entry) is not dict:
        raise InvalidInputError("every input must be an object with name, shape, datatype and data")
    name = entry.get("name")
    for spec in specs:
        if spec.name == name:
            datatype = entry.get("datatype")
            if datatype != spec.datatype:
                raise InvalidInputError(f"input {name!r} has datatype {datatype!r}, expected {spec.datatype!r}")
            return spec
    raise InvalidInputError(f"there is no input {name!r}; the model has {', '.join(spec.name for spec in specs)}")


def _shape_of(entry: dict[str, Any], spec: TensorSpec) -> list[int]:
    shape = entry.get("shape")
    if (
        type(shape) is not list
        or not 1 <= len(shape) <= _MAX_RANK
        or not all(type(size) is int and 0 <= size < 2**31 for size in shape)
    ):
        raise InvalidInputError(f"input {spec.name!r}: shape must be a list of sizes that fits {list(spec.shape)}")
    wanted = spec.row_shape
    if len(shape) != len(wanted) + 1 or any(
        want not in {-1, size} for want, size in zip(wanted, shape[1:], strict=True)
    ):
        raise InvalidInputError(f"input {spec.name!r} has shape {shape}, expected {list(spec.shape)}")
    return shape


def _from_json(data: Any, shape: list[int], spec: TensorSpec) -> Array:
    if type(data) is not list:
        raise InvalidInputError(f"input {spec.name!r}: data must be a list, flat or nested")
    array = to_array(data, spec)
    if array.size != math.prod(shape):
        raise InvalidInputError(
            f"input {spec.name!r}: data has {array.size} values, shape {shape} needs {math.prod(shape)}"
        )
    return shaped(array, shape, spec.name)


def _parameters(document: dict[str, Any]) -> dict[str, Any]:
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise InvalidInputError('"parameters" must be an object')
    return parameters


def _read_outputs(document: dict[str, Any], parameters: dict[str, Any], model: ServedModel) -> OutputOptions:
    identifier = document.get("id")
    if identifier is not None and type(identifier) is not str:
        raise InvalidInputError('"id" must be a string')
    options = OutputOptions(id=identifier, binary_default=bool(parameters.get("binary_data_output", False)))
    entries = document.get("outputs")
    if entries is None or entries == []:
        return options
    if type(entries) is not list:
        raise InvalidInputError('"outputs" must be a list of objects with a name')
    known = [tensor.name for tensor in model.artifact.spec.outputs]
    names: list[str] = []
    binary: set[str] = set()
    for entry in entries:
        name = entry.get("name") if type(entry) is dict else None
        if name not in known:
            raise InvalidInputError(f"there is no output {name!r}; the model has {', '.join(known)}")
        wanted = entry.get("parameters")
        as_binary = None
        if type(wanted) is dict:
            refuse_unserved(f"output {name!r}", wanted)
            as_binary = wanted.get("binary_data")
        if as_binary or (as_binary is None and options.binary_default):
            binary.add(name)
        names.append(name)
    return OutputOptions(names=tuple(names), binary=frozenset(binary), id=identifier)


def _timeout(parameters: dict[str, Any]) -> float | None:
    """Microseconds, as Triton's clients send it."""
    value = parameters.get("timeout")
    if value is None or value == 0:
        return None
    if type(value) is not int or value < 0:
        raise InvalidInputError("parameters.timeout must be a number of microseconds")
    return value / 1e6


def _priority(parameters: dict[str, Any]) -> int:
    value = parameters.get("priority", 0)
    if type(value) is not int or not 0 <= value < 2**32:
        raise InvalidInputError("parameters.priority must be a small number; lower runs first, 0 is the default")
    return value


def _json_data(array: Array) -> Any:
    if array.dtype == DTYPES["BYTES"]:
        flat = array.reshape(-1).tolist()
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in flat]
    if array.dtype == DTYPES["FP16"]:
        array = array.astype(np.float32)
    return np.ascontiguousarray(array).reshape(-1)
