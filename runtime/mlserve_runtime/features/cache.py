"""Remembered answers of a feature store, each with the two ages at which it stops being good.

An entry is *fresh* while it may be used without asking, and *stale* while it may still stand in for a store that
fails. Unknown entities are remembered too, for a shorter time: a client that asks for a wrong name again and again
must not reach the store each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Features = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the store said."""

    features: Features | None
    """None: the store knows no such entity."""
    fresh_until: float
    stale_until: float


class FeatureCache:
    """The most recently used entries, at most `capacity`. Times are those of `clock`, in seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        capacity: int = 10_000,
        ttl: float = 60.0,
        negative_ttl: float = 5.0,
        stale: float = 300.0,
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._ttl = ttl
        self._negative_ttl = negative_ttl
        self._stale = stale
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, entity: str) -> Entry | None:
        """The entry, if it may be used without asking."""
        entry = self._entries.get(entity)
        if entry is None or self._clock() >= entry.fresh_until:
            return None
        self._entries.move_to_end(entity)
        return entry

    def stale(self, entity: str) -> Entry | None:
        """The entry, if it may stand in while the store fails; never an unknown entity."""
        entry = self._entries.get(entity)
        if entry is None or entry.features is None or self._clock() >= entry.stale_until:
            return None
        return entry

    def put(self, entity: str, features: Features | None) -> Entry:
        """Remember an answer; the least recently used entry makes room."""
        now = self._clock()
        fresh_until = now + (self._negative_ttl if features is None else self._ttl)
        entry = Entry(features, fresh_until, fresh_until + self._stale)
        self._entries[entity] = entry
        self._entries.move_to_end(entity)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return entry

    def defer(self, entity: str, seconds: float) -> None:
        """Use a stale entry without asking for so long: a store that fails is not asked with every request."""
        entry = self._entries.get(entity)
        if entry is not None:
            fresh_until = min(self._clock() + seconds, entry.stale_until)
            self._entries[entity] = Entry(entry.features, fresh_until, entry.stale_until)
