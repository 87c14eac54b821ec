"""A watch is a cursor into the history of a collection, filtered and encoded for one client.

Nothing is queued per client: a slow reader simply moves its cursor late, and if the history has moved past it, it is
told 410 and ends. Encoded objects are shared by all watchers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import orjson

from mlserve_local.apiserver.errors import expired
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.selectors import FieldSelector, LabelSelector
from mlserve_local.apiserver.storage import Collection, Event, Stored

BOOKMARK_SECONDS: Final = 60.0
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


@dataclass(slots=True)
class Filter:
    """Which objects a list or watch is about."""

    namespace: str | None
    labels: LabelSelector
    fields: FieldSelector
    resource: Resource

    def matches(self, stored: Stored) -> bool:
        """Whether an object belongs to the selection."""
        if self.namespace is not None and stored.namespace != self.namespace:
            return False
        data = stored.data
        if self.labels.requirements and not self.labels.matches(data["metadata"].get("labels")):
            return False
        return not self.fields.terms or self.fields.matches(self.resource.view(stored))


Encoder = Callable[[Stored], bytes]


@dataclass(slots=True)
class Watch:
    """One watch request, ready to be streamed."""

    collection: Collection
    filter: Filter
    encode: Encoder
    encode_bookmark: Callable[[int, bool], bytes]
    revision: Callable[[], int]
    start: int | None  # revision to go on from; None: begin with what is there
    bookmarks: bool
    mark_initial_end: bool
    timeout: float

    async def stream(self) -> AsyncIterator[bytes]:
        """JSON lines until the timeout, the end of the resource, or the end of the known history."""
        deadline = time.monotonic() + self.timeout
        collection = self.collection
        sequence = collection.next_sequence if self.start is None else collection.sequence_after(self.start)
        for batch in self._initial():
            yield batch
        while sequence is not None:
            events = collection.since(sequence)
            if events is None:
                break
            sequence += len(events)
            lines = [line for event in events if (line := self._event(event))]
            for batch in _batches(lines):
                yield batch
            remaining = deadline - time.monotonic()
            if remaining <= 0 or (collection.closed and collection.next_sequence == sequence):
                if self.bookmarks and not collection.closed:
                    yield self._bookmark()
                return
            changed = await collection.wait(sequence, min(remaining, BOOKMARK_SECONDS))
            if not changed and self.bookmarks and time.monotonic() < deadline:
                yield self._bookmark()
        yield self._too_old()

    def _initial(self) -> list[bytes]:
        """What is there already, for a watch that starts without a revision."""
        if self.start is not None:
            return []
        found = [s for s in self.collection.list(self.filter.namespace) if self.filter.matches(s)]
        end = [self._bookmark(initial_end=True)] if self.mark_initial_end else []
        return _batches([self._line(b"ADDED", s) for s in found]) + end

    def _event(self, event: Event) -> bytes | None:
        """What a change means to this client: an object may come into or fall out of its selection."""
        before = event.before is not None and self.filter.matches(event.before)
        after = event.type != "DELETED" and self.filter.matches(event.after)
        if after:
            return self._line(b"MODIFIED" if before else b"ADDED", event.after)
        if not before or event.before is None:
            return None
        if event.type == "DELETED":
            return self._line(b"DELETED", event.after)
        metadata = {**event.before.data["metadata"], "resourceVersion": str(event.revision)}
        return self._line(b"DELETED", Stored({**event.before.data, "metadata": metadata}, event.revision))

    def _line(self, type_: bytes, stored: Stored) -> bytes:
        return b'{"type":"' + type_ + b'","object":' + self.encode(stored) + b"}\n"

    def _bookmark(self, *, initial_end: bool = False) -> bytes:
        return b'{"type":"BOOKMARK","object":' + self.encode_bookmark(self.revision(), initial_end) + b"}\n"

    def _too_old(self) -> bytes:
        error = expired(f"too old resource version: {self.start or 0} ({self.collection.floor})")
        return b'{"type":"ERROR","object":' + orjson.dumps(error.status()) + b"}\n"


def _batches(lines: list[bytes], size: int = 256 * 1024) -> list[bytes]:
    """Join lines into chunks: one write to the socket for many events."""
    chunks, pending, length = [], [], 0
    for line in lines:
        pending.append(line)
        length += len(line)
        if length > size:
            chunks.append(b"".join(pending))
            pending, length = [], 0
    if pending:
        chunks.append(b"".join(pending))
    return chunks
