"""Answers to inputs that were seen before: off by default, exact, bounded.

Keyed by a strong hash of the raw tensors, so that two requests share an answer only if every byte, datatype and
shape is the same, whatever protocol they came by. What is kept is the result, not the reply: ids, requested outputs
and encodings are each request's own.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from mlserve_runtime.batching.queue import Answer, Tensors
from mlserve_runtime.model import collect_result
from mlserve_runtime.protocols.binary import encode_tensor


class ResponseCache:
    """Least recently used results are forgotten first."""

    def __init__(self, entries: int) -> None:
        self._limit = entries
        self._results: OrderedDict[bytes, Answer] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._results)

    def find(self, key: bytes) -> Answer | None:
        """The result for a key."""
        found = self._results.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._results.move_to_end(key)
        return found

    def keep(self, key: bytes, answers: list[Answer]) -> None:
        """Remember a result; its arrays are copied so that the batch they are part of can go."""
        result = collect_result(answers)
        self._results[key] = Answer(result, 0, len(next(iter(result.outputs.values()))), 0)
        self._results.move_to_end(key)
        if len(self._results) > self._limit:
            self._results.popitem(last=False)


def content_key(inputs: Tensors) -> bytes:
    """SHA-256 over names, datatypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in inputs.items():
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        contiguous = np.ascontiguousarray(array)
        digest.update(encode_tensor(array) if array.dtype.hasobject else contiguous.data)
    return digest.digest()
