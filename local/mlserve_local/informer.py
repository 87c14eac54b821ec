"""Controllers must not poll: an informer keeps a local copy of a collection by list and watch.

It lists once, follows the watch from there, resumes after a break at the last version seen, lists again on 410, and
tells its handlers what changed. `remember` takes the answer to the controller's own write into the copy at once, so
that a controller never acts twice because its watch lags behind its writes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Final

from mlserve_local.client import NETWORK_ERRORS, ApiClient, ApiError
from mlserve_local.objects import Obj, Resource, key_of, uid_of, version_of

log = logging.getLogger(__name__)

Handler = Callable[[Obj | None, Obj | None], None]
"""Called with (old, new): old is None for a new object, new is None for a deleted one."""
Indexer = Callable[[Obj], Iterable[str]]

_TOMBSTONES: Final = 4096
_PAGE: Final = 500
_MAX_BACKOFF_SECONDS: Final = 10.0


class Informer:
    """The local copy of one collection. Objects in it are shared: never change them in place."""

    def __init__(
        self,
        client: ApiClient,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        indexers: Mapping[str, Indexer] | None = None,
    ) -> None:
        self.resource = resource
        self._client = client
        self._path = resource.path(namespace or None)
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._params = {name: value for name, value in selectors.items() if value}
        self._objects: dict[str, Obj] = {}
        self._indexers = indexers or {}
        self._indices: dict[str, defaultdict[str, set[str]]] = {name: defaultdict(set) for name in self._indexers}
        self._handlers: list[Handler] = []
        self._gone: OrderedDict[str, None] = OrderedDict()
        self.synced = asyncio.Event()

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Obj | None:
        """The object of `namespace/name`."""
        return self._objects.get(key)

    def __iter__(self) -> Iterator[Obj]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    def by_index(self, index: str, value: str) -> list[Obj]:
        """Objects for which the indexer yields `value`, ordered by key."""
        return [self._objects[key] for key in sorted(self._indices[index].get(value, ()))]

    # --- changing ---------------------------------------------------------------------------------------------------

    def on_change(self, handler: Handler) -> None:
        """Call `handler` for every change; register before `run`."""
        self._handlers.append(handler)

    def remember(self, obj: Obj) -> None:
        """Take the answer to an own write, unless the watch already knew better."""
        if obj.get("kind") not in (None, self.resource.kind) or uid_of(obj) in self._gone:
            return
        known = self._objects.get(key_of(obj))
        if known is None or version_of(known) < version_of(obj):
            self._store(obj)

    def forget(self, obj: Obj) -> None:
        """Take an own delete that ended the object at once."""
        self._remove(obj)

    def _store(self, obj: Obj) -> None:
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None:
            if uid_of(old) != uid_of(obj):
                self._remove(old)
                old = None
            else:
                self._unindex(key, old)
        self._objects[key] = obj
        for name, indexer in self._indexers.items():
            for value in indexer(obj):
                self._indices[name][value].add(key)
        self._notify(old, obj)

    def _remove(self, obj: Obj) -> None:
        self._gone[uid_of(obj)] = None
        if len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)
        key = key_of(obj)
        old = self._objects.get(key)
        if old is None or uid_of(old) != uid_of(obj):
            return
        del self._objects[key]
        self._unindex(key, old)
        self._notify(old, None)

    def _unindex(self, key: str, obj: Obj) -> None:
        for name, indexer in self._indexers.items():
            for value in indexer(obj):
                keys = self._indices[name][value]
                keys.discard(key)
                if not keys:
                    del self._indices[name][value]

    def _notify(self, old: Obj | None, new: Obj | None) -> None:
        for handler in self._handlers:
            try:
                handler(old, new)
            except Exception:
                log.exception("handler of %s failed", self.resource.plural)

    # --- following --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """List and watch until cancelled."""
        version: str | None = None
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self._list()
                    self.synced.set()
                async for seen in self._follow(version):
                    version, failures = seen, 0
                delay = 0.0
            except ApiError as error:
                if error.code == 410 or error.reason == "Expired":
                    version = None
                else:
                    log.warning("watch of %s: %s", self.resource.plural, error)
                failures += 1
                delay = self._backoff(failures)
            except NETWORK_ERRORS as error:
                failures += 1
                delay = self._backoff(failures)
                if failures > 1:
                    log.warning("watch of %s broke off: %r; again in %.1f s", self.resource.plural, error, delay)
            await asyncio.sleep(max(delay, 0.02))

    @staticmethod
    def _backoff(failures: int) -> float:
        return min(_MAX_BACKOFF_SECONDS, 0.05 * 2.0 ** min(failures, 10)) * random.uniform(0.8, 1.2)  # noqa: S311

    async def _list(self) -> str:
        found: dict[str, Obj] = {}
        params = {**self._params, "limit": str(_PAGE)}
        while True:
            answer = await self._client.request("GET", self._path, params=params)
            for item in answer.get("items") or ():
                # Items of a list come without their type; handlers and events want it.
                typed = {"apiVersion": self.resource.group_version, "kind": self.resource.kind}
                found[key_of(item)] = {**typed, **item}
            token = answer["metadata"].get("continue")
            if not token:
                break
            params["continue"] = token
        for key in [key for key in self._objects if key not in found]:
            self._remove(self._objects[key])
        for key, obj in found.items():
            known = self._objects.get(key)
            if known is None or uid_of(known) != uid_of(obj) or version_of(known) < version_of(obj):
                self._store(obj)
        return str(answer["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> AsyncIterator[str]:
        params = {**self._params, "resourceVersion": version}
        async for event in self._client.watch(self._path, params):
            obj = event["object"]
            if event["type"] == "DELETED":
                self._remove(obj)
            elif event["type"] != "BOOKMARK" and uid_of(obj) not in self._gone:
                known = self._objects.get(key_of(obj))
                if known is None or uid_of(known) != uid_of(obj) or version_of(known) < version_of(obj):
                    self._store(obj)
            yield str(obj["metadata"]["resourceVersion"])


async def run_all(informers: Iterable[Informer]) -> None:
    """Follow several collections until one fails or the task is cancelled."""
    async with asyncio.TaskGroup() as group:
        for informer in informers:
            group.create_task(informer.run())
