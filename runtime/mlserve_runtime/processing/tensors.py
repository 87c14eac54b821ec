"""From JSON values to arrays of the declared datatype, refusing what would otherwise be converted silently.

numpy turns "7" into 7.0, 3.9 into 3 and 300 into 44 without a word when asked for a datatype. A model server that
does so hides a client's bug behind a plausible prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlserve_runtime.processing.errors import InputError

if TYPE_CHECKING:
    from mlserve_core.model_spec import TensorSpec
    from mlserve_core.processing import Datatype

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = dict[str, Array]
"""Tensors of a batch by name; axis 0 is the row. BYTES are object arrays of str or bytes."""

DTYPES: Final[dict[Datatype, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
_MAX_RANK: Final = 8
_EXACT: Final = 2.0**53
"""From here on a float does not hold every integer, and floats are what numpy makes of 2**64 - 1 next to 1."""


def to_array(value: Any, spec: TensorSpec) -> Array:
    """Nested lists of JSON values as an array of the tensor's datatype; null becomes NaN in float tensors.

    Raises:
        InputError: The value is ragged, nested too deeply, or holds something the datatype cannot represent.
    """
    dtype = DTYPES[spec.datatype]
    if spec.datatype == "BYTES":
        return _to_strings(value, spec)
    _check_depth(value, spec)
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{_expected(spec)}, got lists of different lengths") from error
    if found.dtype.kind == "O":
        found = _without_nulls(found, spec)
    if dtype.kind in "iu" and found.dtype.kind == "f" and found.size and np.abs(found).max() >= _EXACT:
        return _exact_integers(value, dtype, spec)
    if found.dtype.kind not in "biuf":
        raise InputError(f"{_expected(spec)}, got text; send numbers without quotes")
    return _convert(found, dtype, spec)


def check_values(array: Array, spec: TensorSpec) -> None:
    """Refuse NaN and infinity unless the tensor allows missing values; names the feature and the row."""
    if spec.missing == "allow" or array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    row, *position = (int(index) for index in np.argwhere(~finite)[0])
    kind = "missing (null or NaN)" if np.isnan(array[(row, *position)]) else "infinite or too large for its datatype"
    flat = int(np.ravel_multi_index(tuple(position), array.shape[1:])) if position else 0
    names = spec.feature_names
    name = names[flat] if flat < len(names) else f"{spec.name}{position}"
    raise InputError(f"feature {name!r} is {kind}; this model needs a finite number", row=row)


def as_text(array: Array, spec: TensorSpec) -> Array:
    """A BYTES tensor with str elements: protocols that carry bytes must mean the same categories as JSON does."""
    items = array.ravel().tolist()
    if not any(isinstance(item, bytes) for item in items):
        return array
    text = np.empty(len(items), dtype=np.object_)
    try:
        text[:] = [item.decode() if isinstance(item, bytes) else item for item in items]
    except UnicodeDecodeError as error:
        raise InputError(f"tensor {spec.name!r} expects text in UTF-8") from error
    return text.reshape(array.shape)


def check_shape(array: Array, spec: TensorSpec) -> None:
    """Compare an array's shape, batch axis included, with the signature."""
    wanted = spec.row_shape
    shape = array.shape[1:]
    fits = len(shape) == len(wanted) and all(want in {-1, size} for want, size in zip(wanted, shape, strict=True))
    if array.ndim < 1 or not fits:
        raise InputError(f"tensor {spec.name!r} has shape {list(array.shape)}, expected {list(spec.shape)}")


def _convert(found: Array, dtype: np.dtype[Any], spec: TensorSpec) -> Array:
    if found.dtype == dtype:
        return found
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return found.astype(dtype)
    if dtype.kind == "b":
        if found.dtype.kind == "b":
            return found
        raise InputError(f"{_expected(spec)}, got numbers; send true or false")
    if found.dtype.kind == "b":
        raise InputError(f"{_expected(spec)}, got true or false")
    limits = np.iinfo(dtype)
    if found.size and not (found.min() >= limits.min and found.max() <= limits.max):
        raise InputError(f"{_expected(spec)}, got a value outside {limits.min}..{limits.max}")
    converted = found.astype(dtype)
    if found.dtype.kind == "f" and not np.array_equal(converted, found):
        raise InputError(f"{_expected(spec)}, got a number with a fraction")
    return converted


def _without_nulls(found: Array, spec: TensorSpec) -> Array:
    """Object arrays come from null among numbers, from huge integers, and from things that are no numbers."""
    flat = found.ravel()
    for item in flat:
        if item is None:
            if DTYPES[spec.datatype].kind != "f":
                raise InputError(f"{_expected(spec)}, got null")
        elif not isinstance(item, bool | int | float):
            raise InputError(f"{_expected(spec)}, got {_kind(item)}")
    try:
        return np.asarray([np.nan if item is None else float(item) for item in flat]).reshape(found.shape)
    except OverflowError as error:
        raise InputError(f"{_expected(spec)}, got a number that is too large") from error


def _exact_integers(value: Any, dtype: np.dtype[Any], spec: TensorSpec) -> Array:
    """Numbers as integers of 64 bits, none of them by way of a float that was not one before."""
    found = np.asarray(value, dtype=np.object_)
    limits = np.iinfo(dtype)
    exact = []
    for item in found.ravel():
        if isinstance(item, float) and not item.is_integer():
            raise InputError(f"{_expected(spec)}, got a number with a fraction")
        if not limits.min <= item <= limits.max:
            raise InputError(f"{_expected(spec)}, got a value outside {limits.min}..{limits.max}")
        exact.append(int(item))
    return np.array(exact, dtype=dtype).reshape(found.shape)


def _to_strings(value: Any, spec: TensorSpec) -> Array:
    _check_depth(value, spec)
    try:
        found = np.asarray(value, dtype=np.object_)
    except ValueError as error:
        raise InputError(f"{_expected(spec)}, got lists of different lengths") from error
    for item in found.ravel():
        if not isinstance(item, str | bytes) and not (item is None and spec.missing == "allow"):
            raise InputError(f"{_expected(spec)}, got {_kind(item)}")
    return found


def _check_depth(value: Any, spec: TensorSpec) -> None:
    depth = 0
    while isinstance(value, list | tuple):
        depth += 1
        if depth > _MAX_RANK:
            raise InputError(f"{_expected(spec)}, got lists nested deeper than {_MAX_RANK}")
        if not value:
            return
        value = value[0]


def _expected(spec: TensorSpec) -> str:
    return f"tensor {spec.name!r} expects {spec.datatype} of shape {list(spec.shape)}"


def _kind(item: Any) -> str:
    names = {str: "text", bytes: "bytes", dict: "an object", list: "lists of different lengths", type(None): "null"}
    return names.get(type(item), "a number" if isinstance(item, int | float) else type(item).__name__)
