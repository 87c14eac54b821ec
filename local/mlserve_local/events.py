"""Events tell a person what a controller did. A repeated one counts up instead of filling the store.

Writing an event must never hold up or fail the work it reports: they go through a queue of their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final

from mlserve_local.client import NETWORK_ERRORS, ApiClient, ApiError
from mlserve_local.objects import EVENTS, Obj, name_of, namespace_of, timestamp, uid_of

log = logging.getLogger(__name__)
_REMEMBERED: Final = 2048
_MAX_PENDING: Final = 1000


class EventRecorder:
    """Records core/v1 events in the name of one component."""

    def __init__(self, client: ApiClient, component: str, host: str = "") -> None:
        self._client = client
        self._source = {"component": component, **({"host": host} if host else {})}
        self._queue: asyncio.Queue[tuple[Obj, tuple[str, ...]]] = asyncio.Queue(_MAX_PENDING)
        self._known: OrderedDict[tuple[str, ...], tuple[str, int]] = OrderedDict()

    def __call__(self, obj: Obj, kind: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Record an event of `kind` Normal or Warning about `obj`; dropped if the queue is full."""
        now = timestamp(time.time())
        namespace = namespace_of(obj) or "default"
        event: Obj = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name_of(obj)}.{time.time_ns():x}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj.get("apiVersion", "v1"),
                "kind": obj.get("kind", "Pod"),
                "name": name_of(obj),
                "namespace": namespace_of(obj),
                "uid": uid_of(obj),
                "resourceVersion": obj["metadata"].get("resourceVersion", ""),
                **({"fieldPath": field_path} if field_path else {}),
            },
            "reason": reason,
            "message": message[:1024],
            "type": kind,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._queue.put_nowait((event, (uid_of(obj), kind, reason, field_path, message)))
        except asyncio.QueueFull:
            log.warning("dropped event %s of %s: %s", reason, name_of(obj), message)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            event, identity = await self._queue.get()
            try:
                await self._write(event, identity)
            except (ApiError, *NETWORK_ERRORS) as error:
                log.debug("event %s not written: %s", event["reason"], error)

    async def _write(self, event: Obj, identity: tuple[str, ...]) -> None:
        namespace = event["metadata"]["namespace"]
        known = self._known.get(identity)
        if known is not None:
            name, count = known
            body = {"count": count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._client.patch(EVENTS, namespace, name, body)
                self._known[identity] = (name, count + 1)
                return
            except ApiError as error:
                if error.code != 404:
                    raise
        await self._client.create(EVENTS, event)
        self._known[identity] = (event["metadata"]["name"], 1)
        self._known.move_to_end(identity)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
