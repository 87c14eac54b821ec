"""From an entity to its features: through a cache, once at a time, and for a while without the store.

However many requests ask for the same entity at once, the store is asked once. When it fails or is too slow, what
it said before serves until it is too old; without that the request fails with 503, and the model is not to blame.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any, Final, Protocol

from mlserve_runtime.errors import NotFoundError, UnavailableError
from mlserve_runtime.features.cache import Entry, FeatureCache, Features

logger = logging.getLogger(__name__)

RESULTS: Final = ("hit", "negative_hit", "miss", "shared", "stale", "unknown", "error")
"""Values of the label `result`: answered from the cache; known to be unknown; asked; waited for another's question;
answered with an old value after a failure; asked in vain; failed."""


class StoreError(Exception):
    """The store failed, or said something that is no features."""


class FeatureStore(Protocol):
    """Where features lie."""

    async def get(self, entity: str) -> Features | None:
        """Features by name, None for an entity it does not know. Raises StoreError, or what its client raises."""

    async def close(self) -> None:
        """Give connections back."""


class FeatureLookup:
    """Callable for the prediction route: `await lookup("u42")` gives features by name."""

    def __init__(
        self,
        store: FeatureStore,
        cache: FeatureCache,
        *,
        timeout: float = 0.5,
        retry_seconds: float = 1.0,
    ) -> None:
        self._store = store
        self._cache = cache
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._asking: dict[str, asyncio.Task[Entry]] = {}
        self.counts: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))
        """How often each of RESULTS happened; read by the metrics."""

    async def __call__(self, entity: str) -> dict[str, Any]:
        """Features of an entity.

        Raises:
            NotFoundError: The store knows no such entity.
            UnavailableError: The store fails, and nothing recent enough is remembered.
        """
        entry = self._cache.fresh(entity)
        if entry is not None:
            self.counts["hit" if entry.features is not None else "negative_hit"] += 1
            return self._answer(entity, entry)
        asking = self._asking.get(entity)
        self.counts["miss" if asking is None else "shared"] += 1
        if asking is None:
            asking = asyncio.create_task(self._ask(entity))
            self._asking[entity] = asking
            asking.add_done_callback(lambda task: self._done(entity, task))
        # A client that goes away must not cancel what others wait for.
        return self._answer(entity, await asyncio.shield(asking))

    async def close(self) -> None:
        """Stop asking and close the store."""
        pending = list(self._asking.values())
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._store.close()

    async def _ask(self, entity: str) -> Entry:
        try:
            async with asyncio.timeout(self._timeout):
                features = await self._store.get(entity)
        except Exception as error:
            stale = self._cache.stale(entity)
            logger.warning(
                "feature store failed (%s); %s", _reason(error), "using an old value" if stale else "no value"
            )
            if stale is None:
                self.counts["error"] += 1
                raise UnavailableError("the feature store does not answer; send features, or try again") from error
            self.counts["stale"] += 1
            self._cache.defer(entity, self._retry_seconds)
            return stale
        if features is None:
            self.counts["unknown"] += 1
        return self._cache.put(entity, features)

    def _done(self, entity: str, task: asyncio.Task[Entry]) -> None:
        del self._asking[entity]
        if not task.cancelled():
            task.exception()  # Everybody who waited may have gone; then nobody else would look at it.

    @staticmethod
    def _answer(entity: str, entry: Entry) -> dict[str, Any]:
        if entry.features is None:
            raise NotFoundError(f"the feature store knows no entity {entity!r}")
        return dict(entry.features)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200] if str(error) else type(error).__name__
