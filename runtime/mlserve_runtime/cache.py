"""Answers to inputs that were seen before: off by default, exact, bounded in bytes and time.

Keyed by a strong hash of the artifact and the raw tensors, so that two requests share an answer only if the same model
is asked and every byte, datatype and shape is the same, whatever protocol they came by. What is kept is the result, not
the reply: ids, requested outputs and encodings are each request's own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np

from mlserve_runtime.batching.queue import Answer, Tensors
from mlserve_runtime.model import collect_result
from mlserve_runtime.protocols.binary import encode_tensor

_ENTRY_BYTES: Final = 1536
"""What an entry costs besides its values: key, dictionary, answer, and the headers of a few arrays."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    size: int
    expires: float


class ResponseCache:
    """Results by key; the least recently used are forgotten first.

    Args:
        size: Bytes that all entries may take.
        seconds: Age at which an answer is computed anew.
        clock: Monotonic seconds.
    """

    def __init__(self, size: int, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = size
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self.size = 0
        """Bytes of the entries, by an estimate that errs on the large side."""
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: bytes) -> Answer | None:
        """The result for a key, unless it is too old."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires <= self._clock():
            self._forget(key)
            entry = None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry.answer

    def keep(self, key: bytes, answers: list[Answer]) -> None:
        """Remember a result; its arrays are copied so that the batch they are part of can go."""
        result = collect_result(answers)
        answer = Answer(result, 0, len(next(iter(result.outputs.values()))), 0)
        found = result.predictions
        arrays = [found.classes, found.probabilities, found.confidence, found.values] if found is not None else []
        arrays += result.outputs.values()
        size = _ENTRY_BYTES + sum(array.nbytes for array in arrays if array is not None)
        self._forget(key)
        if size > self._limit:
            return
        self._entries[key] = _Entry(answer, size, self._clock() + self._seconds)
        self.size += size
        while self.size > self._limit:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size


def content_key(digest: str, inputs: Tensors) -> bytes:
    """SHA-256 over the digest of an artifact and the names, datatypes, shapes and bytes of tensors."""
    hashed = hashlib.sha256(digest.encode())
    for name, array in inputs.items():
        hashed.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        contiguous = np.ascontiguousarray(array)
        hashed.update(encode_tensor(array) if array.dtype.hasobject else contiguous.data)
    return hashed.digest()
