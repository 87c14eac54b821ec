"""One question at a time, old answers for a failing store, and who gets which error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlserve_runtime.errors import NotFoundError, UnavailableError
from mlserve_runtime.features.cache import FeatureCache, Features
from mlserve_runtime.features.lookup import FeatureLookup, StoreError


class Store:
    """A store in memory that can be held up and broken."""

    def __init__(self, **entities: Features) -> None:
        self.entities = entities
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.closed = False

    async def get(self, entity: str) -> Features | None:
        self.asked.append(entity)
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return self.entities.get(entity)

    async def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lookup_for(store: Store, clock: Clock | None = None, **options: Any) -> FeatureLookup:
    clock = clock or Clock()
    cache = FeatureCache(clock, ttl=60, negative_ttl=5, stale=300)
    return FeatureLookup(store, cache, **({"timeout": 5} | options))


async def test_a_hit_asks_nobody() -> None:
    store = Store(u1={"a": 1})
    lookup = lookup_for(store)
    assert await lookup("u1") == {"a": 1}
    assert await lookup("u1") == {"a": 1}
    assert store.asked == ["u1"]
    assert (lookup.counts["miss"], lookup.counts["hit"]) == (1, 1)


async def test_what_a_caller_does_to_its_answer_is_its_own_affair() -> None:
    lookup = lookup_for(Store(u1={"a": 1}))
    (await lookup("u1"))["a"] = 2
    assert await lookup("u1") == {"a": 1}


async def test_many_questions_at_once_are_one() -> None:
    store = Store(u1={"a": 1})
    store.gate.clear()
    lookup = lookup_for(store)
    waiting = [asyncio.create_task(lookup("u1")) for _ in range(50)]
    while not store.asked:
        await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(*waiting) == [{"a": 1}] * 50
    assert store.asked == ["u1"]
    assert (lookup.counts["miss"], lookup.counts["shared"]) == (1, 49)


async def test_a_client_that_leaves_does_not_take_the_answer_with_it() -> None:
    store = Store(u1={"a": 1})
    store.gate.clear()
    lookup = lookup_for(store)
    first, second = asyncio.create_task(lookup("u1")), asyncio.create_task(lookup("u1"))
    while not store.asked:
        await asyncio.sleep(0)
    first.cancel()
    store.gate.set()
    assert await second == {"a": 1}
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_unknown_entity_is_404_and_remembered() -> None:
    store = Store()
    lookup = lookup_for(store)
    for _ in range(3):
        with pytest.raises(NotFoundError, match="'u9'"):
            await lookup("u9")
    assert store.asked == ["u9"]
    assert (lookup.counts["unknown"], lookup.counts["negative_hit"]) == (1, 2)


async def test_an_unknown_entity_is_asked_for_again_later() -> None:
    store, clock = Store(), Clock()
    lookup = lookup_for(store, clock)
    with pytest.raises(NotFoundError):
        await lookup("u1")
    store.entities["u1"] = {"a": 1}
    clock.now += 5
    assert await lookup("u1") == {"a": 1}


@pytest.mark.parametrize("failure", [StoreError("broken"), OSError("refused"), RuntimeError("bug")], ids=repr)
async def test_a_failing_store_is_covered_by_what_it_said(failure: Exception) -> None:
    store, clock = Store(u1={"a": 1}), Clock()
    lookup = lookup_for(store, clock)
    await lookup("u1")
    store.failure = failure
    clock.now += 100
    assert await lookup("u1") == {"a": 1}
    assert lookup.counts["stale"] == 1


async def test_a_failing_store_is_not_asked_with_every_request() -> None:
    store, clock = Store(u1={"a": 1}), Clock()
    lookup = lookup_for(store, clock, retry_seconds=1)
    await lookup("u1")
    store.failure = StoreError("broken")
    clock.now += 100
    for _ in range(10):
        await lookup("u1")
    assert len(store.asked) == 2
    clock.now += 1
    await lookup("u1")
    assert len(store.asked) == 3


async def test_too_old_is_too_old() -> None:
    store, clock = Store(u1={"a": 1}), Clock()
    lookup = lookup_for(store, clock)
    await lookup("u1")
    store.failure = StoreError("broken")
    clock.now += 361
    with pytest.raises(UnavailableError, match="feature store"):
        await lookup("u1")
    assert lookup.counts["error"] == 1


async def test_a_slow_store_is_a_failing_store() -> None:
    store = Store(u1={"a": 1})
    store.gate.clear()
    lookup = lookup_for(store, timeout=0.01)
    with pytest.raises(UnavailableError):
        await lookup("u1")
    store.gate.set()
    assert await lookup("u1") == {"a": 1}, "the next question is asked anew"


async def test_closing_ends_what_is_under_way() -> None:
    store = Store(u1={"a": 1})
    store.gate.clear()
    lookup = lookup_for(store)
    waiting = asyncio.create_task(lookup("u1"))
    while not store.asked:
        await asyncio.sleep(0)
    await lookup.close()
    assert store.closed
    with pytest.raises(asyncio.CancelledError):
        await waiting
