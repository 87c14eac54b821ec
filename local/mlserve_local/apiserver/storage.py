"""The state of the cluster: objects in memory for reading, in SQLite for surviving.

Every write takes the next number of one global, increasing ``resourceVersion``, goes to SQLite first (WAL, one
transaction per write, so an acknowledged write outlives a SIGKILL of the process) and then into memory, where it is
appended to a bounded history that watches read with a cursor. A watcher that falls behind the history is told 410 and
lists again: a slow reader costs nobody memory.

Objects are kept without ``apiVersion`` and ``kind`` together with their JSON bytes, so a list of a thousand objects is
a join of bytes and an event for fifty watchers is encoded once.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

Obj = dict[str, Any]

FIRST_REVISION: Final = 100
HISTORY_EVENTS: Final = 4096
HISTORY_BYTES: Final = 16 * 1024 * 1024

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (resource TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
"""


class Stored:
    """An object as stored. ``data`` is never changed in place: readers may hold it."""

    __slots__ = ("data", "raw", "revision")

    def __init__(self, data: Obj, revision: int, raw: bytes | None = None) -> None:
        self.data = data
        self.revision = revision
        self.raw = raw if raw is not None else orjson.dumps(data)

    @property
    def namespace(self) -> str:
        """Empty for cluster-scoped objects."""
        return str(self.data["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self.data["metadata"]["name"])

    @property
    def uid(self) -> str:
        """metadata.uid."""
        return str(self.data["metadata"].get("uid", ""))


@dataclass(slots=True)
class Event:
    """One change. ``after`` of a DELETED event is the last state under the revision of the deletion."""

    type: str
    revision: int
    after: Stored
    before: Stored | None


class Collection:
    """All objects of one resource (``apps/deployments``) and the recent history of their changes."""

    def __init__(self, key: str, floor: int) -> None:
        self.key = key
        self.objects: dict[str, dict[str, Stored]] = {}
        self.history: deque[Event] = deque()
        self.floor = floor  # changes up to here are no longer known
        self.next_sequence = 0
        self.closed = False
        self._bytes = 0
        self._changed = asyncio.Event()

    def get(self, namespace: str, name: str) -> Stored | None:
        """The object of that name, if any."""
        return self.objects.get(namespace, {}).get(name)

    def list(self, namespace: str | None = None) -> list[Stored]:
        """Objects by ascending key, of one namespace or of all."""
        spaces = sorted(self.objects) if namespace is None else [namespace]
        found: list[Stored] = []
        for space in spaces:
            named = self.objects.get(space, {})
            found.extend(named[name] for name in sorted(named))
        return found

    def __iter__(self) -> Iterator[Stored]:
        for named in list(self.objects.values()):
            yield from list(named.values())

    def __len__(self) -> int:
        return sum(len(named) for named in self.objects.values())

    def put(self, stored: Stored) -> None:
        """Place an object in memory only: no event, no write."""
        self.objects.setdefault(stored.namespace, {})[stored.name] = stored

    def record(self, event: Event) -> None:
        """Apply a change to memory and wake the watchers."""
        if event.type == "DELETED":
            named = self.objects.get(event.after.namespace, {})
            named.pop(event.after.name, None)
            if not named:
                self.objects.pop(event.after.namespace, None)
        else:
            self.put(event.after)
        self.history.append(event)
        self.next_sequence += 1
        self._bytes += len(event.after.raw)
        while len(self.history) > HISTORY_EVENTS or self._bytes > HISTORY_BYTES:
            oldest = self.history.popleft()
            self.floor = oldest.revision
            self._bytes -= len(oldest.after.raw)
        self.wake()

    def wake(self) -> None:
        """Let waiting watches look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """No more changes will come: watches end after what they have not sent yet."""
        self.closed = True
        self.wake()

    async def wait(self, sequence: int, seconds: float) -> bool:
        """Wait until there is an event from ``sequence`` on; False after ``seconds``."""
        if self.next_sequence > sequence or self.closed:
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def since(self, sequence: int) -> Sequence[Event] | None:
        """Events from ``sequence`` on; None if some of them are already gone."""
        missing = self.next_sequence - sequence
        if missing > len(self.history):
            return None
        return list(islice(self.history, len(self.history) - missing, None))

    def sequence_after(self, revision: int) -> int | None:
        """Where a watch that has seen ``revision`` goes on; None if that history is gone."""
        if revision < self.floor:
            return None
        sequence = self.next_sequence
        for event in reversed(self.history):
            if event.revision <= revision:
                break
            sequence -= 1
        return sequence

    def snapshot(self, revision: int, namespace: str | None) -> Sequence[Stored] | None:
        """The objects as they were at ``revision``: the present with later changes undone. None if unknown."""
        if revision < self.floor:
            return None
        state = {(s.namespace, s.name): s for s in self.list(namespace)}
        for event in reversed(self.history):
            if event.revision <= revision:
                break
            key = (event.after.namespace, event.after.name)
            if namespace is not None and key[0] != namespace:
                continue
            if event.before is None:
                state.pop(key, None)
            else:
                state[key] = event.before
        return [state[key] for key in sorted(state)]


class Store:
    """All collections and the file behind them. Used from one event loop only."""

    def __init__(self, directory: Path | None = None) -> None:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(directory / "state.db" if directory else ":memory:", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)
        self._revisions: dict[str, int] = dict(self._db.execute("SELECT resource, revision FROM revisions"))
        self.revision = max(self._revisions.values(), default=FIRST_REVISION)
        self._collections: dict[str, Collection] = {}
        self.listeners: list[Callable[[Collection, Event], None]] = []

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def collection(self, key: str) -> Collection:
        """The collection of a resource, read from the file on first use."""
        found = self._collections.get(key)
        if found is None:
            found = self._collections[key] = Collection(key, self._revisions.get(key, self.revision))
            for (raw,) in self._db.execute("SELECT data FROM objects WHERE resource = ?", (key,)):
                data = orjson.loads(raw)
                found.put(Stored(data, int(data["metadata"]["resourceVersion"]), raw))
        return found

    def collections(self) -> list[Collection]:
        """Those in use so far."""
        return list(self._collections.values())

    def drop(self, key: str) -> None:
        """Forget a collection that is empty: the next one of that name starts a new history."""
        collection = self._collections.pop(key, None)
        if collection is not None:
            collection.close()

    def write(self, collection: Collection, data: Obj) -> Stored:
        """Create or replace an object; it gets the next revision."""
        before = collection.get(str(data["metadata"].get("namespace", "")), str(data["metadata"]["name"]))
        stored = self._stamped(data)
        self._persist(collection, stored, delete=False)
        self._publish(collection, Event("MODIFIED" if before else "ADDED", stored.revision, stored, before))
        return stored

    def delete(self, collection: Collection, before: Stored, last: Obj | None = None) -> Stored:
        """Remove an object; ``last`` is its final state if that differs from what is stored."""
        stored = self._stamped(last if last is not None else before.data)
        self._persist(collection, stored, delete=True)
        self._publish(collection, Event("DELETED", stored.revision, stored, before))
        return stored

    def _publish(self, collection: Collection, event: Event) -> None:
        collection.record(event)
        for listener in self.listeners:
            listener(collection, event)

    def _stamped(self, data: Obj) -> Stored:
        revision = self.revision + 1
        metadata = {**data["metadata"], "resourceVersion": str(revision)}
        return Stored({**data, "metadata": metadata}, revision)

    def _persist(self, collection: Collection, stored: Stored, *, delete: bool) -> None:
        key = (collection.key, stored.namespace, stored.name)
        execute = self._db.execute
        execute("BEGIN IMMEDIATE")
        try:
            if delete:
                execute("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", key)
            else:
                execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, stored.raw))
            execute("INSERT OR REPLACE INTO revisions VALUES (?, ?)", (collection.key, stored.revision))
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise
        self.revision = stored.revision
