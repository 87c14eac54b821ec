"""The work queue: keys, never events. A key that is added many times is worked on once, and never twice at a time.

Everything that may matter (a changed resource, a changed child, a timer, the slow resync) only adds a key; what to
do is decided from the state of the world when the key's turn comes. Failures come back with exponential back-off.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Key = TypeVar("Key", bound="Hashable")


@dataclass
class WorkQueue(Generic[Key]):
    """Delayed, de-duplicating queue of keys.

    Attributes:
        clock: monotonic seconds.
        debounce: seconds a key waits for more of the same news.
        backoff_base: seconds before the first repetition of a failed key; doubles each time.
        backoff_limit: longest back-off, in seconds.
    """

    clock: Callable[[], float]
    debounce: float = 0.05
    backoff_base: float = 0.2
    backoff_limit: float = 60.0
    _heap: list[tuple[float, int, Key]] = field(default_factory=list)
    _due: dict[Key, float] = field(default_factory=dict)
    _active: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _counter: itertools.count[int] = field(default_factory=itertools.count)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: Key, delay: float | None = None) -> None:
        """Ask for a key to be worked on after a delay (default: the debounce); an earlier wish stands."""
        due = self.clock() + (self.debounce if delay is None else delay)
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._counter), key))
        self._changed.set()

    def forget(self, key: Key) -> None:
        """Nothing is wanted for this key any more; a worker that has it finishes."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def take(self) -> Key:
        """The next key that is due and that no other worker has. Give it back with `done` or `failed`."""
        while True:
            self._changed.clear()
            now = self.clock()
            key = self._pop_due(now)
            if key is not None:
                self._active.add(key)
                return key
            wait = max(self._heap[0][0] - now, 0.001) if self._heap else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def done(self, key: Key) -> None:
        """The key was worked on; news that came meanwhile is worked on next."""
        self._failures.pop(key, None)
        self._release(key)

    def failed(self, key: Key) -> float:
        """The work failed: the key comes back, at once if there is news of it. Returns the back-off in seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay = float(min(self.backoff_base * 2**count, self.backoff_limit))
        self._release(key)
        self.add(key, delay)
        return delay

    def oldest_overdue(self) -> float:
        """Seconds the most overdue key has been waiting; 0 if none is due."""
        now = self.clock()
        waiting = [now - due for key, due in self._due.items() if key not in self._active]
        return max([0.0, *waiting])

    def __len__(self) -> int:
        """Keys that are waiting, due or not."""
        return len(self._due)

    def _pop_due(self, now: float) -> Key | None:
        postponed: list[tuple[float, int, Key]] = []
        found: Key | None = None
        while self._heap and self._heap[0][0] <= now and found is None:
            entry = heapq.heappop(self._heap)
            due, _, key = entry
            if self._due.get(key) != due:
                continue  # superseded by an earlier wish, or forgotten
            if key in self._active:
                postponed.append(entry)
                continue
            del self._due[key]
            found = key
        for due, _, key in postponed:  # comes back when the worker that has it is done
            self._due[key] = due
        return found

    def _release(self, key: Key) -> None:
        self._active.discard(key)
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], next(self._counter), key))
            self._changed.set()
