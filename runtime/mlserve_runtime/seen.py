"""What was seen before, remembered once for all serving processes of a pod.

A user is judged once in a rollout and a label is counted once. With several processes the next request of the same
user may be answered by another one, so the memory is shared: a table of 64-bit hashes in a file without a name that
the parent makes and its processes inherit. It outlives a process that crashes.

There is no lock. Two processes that see the same key within the same microsecond may both call it the first; a table
that is full forgets some old key for every new one.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from typing import Final

UNITS: Final = 0
"""Part of the memory for units of evidence (telemetry.lanes)."""
REPORTS: Final = 1
"""Part of the memory for reported predictions (feedback.ledger)."""

_SLOTS: Final = 2**18
_PART_BYTES: Final = _SLOTS * 8
_PARTS: Final = 2
_PROBES: Final = 8


def create_memory() -> int:
    """A file descriptor of empty memory, to be inherited; pages are taken only once they are written to."""
    descriptor = os.memfd_create("mlserve-seen", 0)
    os.ftruncate(descriptor, _PART_BYTES * _PARTS)
    return descriptor


class SharedSeen:
    """A set of keys in one part of the memory behind a file descriptor."""

    def __init__(self, descriptor: int, part: int) -> None:
        self._slots = memoryview(mmap.mmap(descriptor, _PART_BYTES, offset=part * _PART_BYTES)).cast("Q")

    def first(self, key: bytes) -> bool:
        """Whether no process has asked for this key before; it is remembered."""
        mark = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") or 1
        slots = self._slots
        start = mark % (_SLOTS - _PROBES)
        for place in range(start, start + _PROBES):
            held = slots[place]
            if held == mark:
                return False
            if held == 0:
                slots[place] = mark
                return True
        slots[start + (mark >> 32) % _PROBES] = mark
        return True
