"""JSON Schemas of what the served model takes, so that its OpenAPI document says more than "an object".

A form or a client made from the document knows the features, their number and their limits. What JSON Schema cannot
say (that a V2 tensor has as much data as its shape claims) stays with the server.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mlserve_core.model_spec import ModelSpec, TensorSpec
from mlserve_runtime.processing import DTYPES

Object = dict[str, Any]

_MAX_NAMED: Final = 64
"""Models with more features than this are described by their number alone."""


def row_schema(spec: ModelSpec) -> Object:
    """One row: values in the order of the signature, or by feature name."""
    if any(tensor.row_size is None for tensor in spec.inputs):
        return {"type": ["array", "object"], "description": "values of one row, of sizes that vary"}
    names = spec.feature_names
    size = sum(tensor.row_size or 0 for tensor in spec.inputs)
    kinds = [_value(tensor) for tensor in spec.inputs for _ in range(min(tensor.row_size or 0, _MAX_NAMED))]
    in_order: Object = {"type": "array", "minItems": size, "maxItems": size}
    if len(spec.inputs) == 1:
        in_order["items"] = kinds[0]
    elif size <= _MAX_NAMED:
        in_order["prefixItems"] = kinds
    if size > _MAX_NAMED:
        return in_order
    required = [name for tensor in spec.inputs if tensor.missing == "reject" for name in tensor.feature_names]
    by_name = {
        "type": "object",
        "properties": dict(zip(names, kinds, strict=True)),
        "required": required,
        "additionalProperties": False,
    }
    return {"anyOf": [in_order, by_name]}


def inputs_schema(spec: ModelSpec) -> Object:
    """One row as values of each tensor by its name."""
    return {
        "type": "object",
        "properties": {tensor.name: _flat(tensor) for tensor in spec.inputs},
        "required": [tensor.name for tensor in spec.inputs],
        "additionalProperties": False,
    }


def _flat(tensor: TensorSpec) -> Object:
    size = tensor.row_size
    limits = {} if size is None else {"minItems": size, "maxItems": size}
    return {"type": "array", "items": _value(tensor), **limits}


def _value(tensor: TensorSpec) -> Object:
    """One element; null where a missing value is allowed."""
    dtype = DTYPES[tensor.datatype]
    kind: Object
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        kind = {"type": "number", "minimum": float(limits.min), "maximum": float(limits.max)}
    elif dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        kind = {"type": "integer", "minimum": int(bounds.min), "maximum": int(bounds.max)}
    else:
        kind = {"type": "boolean" if dtype.kind == "b" else "string"}
    if tensor.missing == "allow" and dtype.kind in "fO":
        kind["type"] = [kind["type"], "null"]
    return kind
