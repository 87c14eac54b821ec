"""Tensors as raw little-endian bytes: the binary extension of REST and the raw contents of gRPC.

Elements lie in row-major order; an element of BYTES is a 4-byte length and that many bytes; a BOOL is one byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mlserve_core.processing import Datatype
from mlserve_runtime.errors import InvalidInputError
from mlserve_runtime.processing import DTYPES
from mlserve_runtime.processing.tensors import Array

DATATYPES: Final[dict[np.dtype[Any], Datatype]] = {dtype: name for name, dtype in DTYPES.items()}


def decode_tensor(data: memoryview | bytes, datatype: Datatype, shape: Sequence[int], name: str) -> Array:
    """An array over `data`, without a copy but for BYTES.

    Raises:
        InvalidInputError: Sizes disagree, or a BOOL is neither 0 nor 1.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return shaped(_decode_strings(bytes(data), count, name), shape, name)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidInputError(
            f"input {name!r}: {len(data)} bytes, but {datatype} of shape {list(shape)} needs {count * dtype.itemsize}"
        )
    if datatype == "BOOL" and np.frombuffer(data, dtype=np.uint8).max(initial=0) > 1:
        raise InvalidInputError(f"input {name!r}: a BOOL is a byte that is 0 or 1")
    return shaped(np.frombuffer(data, dtype=dtype), shape, name)


def shaped(array: Array, shape: Sequence[int], name: str) -> Array:
    """As many values in their shape. Raises InvalidInputError for an empty one whose other sizes no memory holds."""
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise InvalidInputError(f"input {name!r}: shape {list(shape)} is larger than any tensor") from error


def encode_tensor(array: Array) -> bytes:
    """The raw bytes of a tensor."""
    if array.dtype == DTYPES["BYTES"]:
        parts = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1).tolist()]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return np.ascontiguousarray(array).tobytes()


def _decode_strings(data: bytes, count: int, name: str) -> Array:
    items: list[bytes] = []
    position = 0
    while position + 4 <= len(data) and len(items) < count:
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if position + length > len(data):
            raise InvalidInputError(f"input {name!r}: element {len(items)} is longer than the data that is left")
        items.append(data[position : position + length])
        position += length
    if len(items) != count or position != len(data):
        raise InvalidInputError(f"input {name!r}: {len(items)} strings in {len(data)} bytes, the shape needs {count}")
    array = np.empty(count, dtype=np.object_)
    array[:] = items
    return array
