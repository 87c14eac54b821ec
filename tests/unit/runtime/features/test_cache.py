"""What is remembered, and for how long, by a clock the test turns."""

from __future__ import annotations

import pytest

from mlserve_runtime.features.cache import FeatureCache


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> FeatureCache:
    return FeatureCache(clock, capacity=2, ttl=60, negative_ttl=5, stale=300)


@pytest.mark.parametrize(
    ("age", "fresh", "stale"),
    [(0, True, True), (59.9, True, True), (60, False, True), (359.9, False, True), (360, False, False)],
)
def test_ages_of_an_answer(age: float, fresh: bool, stale: bool, clock: Clock, cache: FeatureCache) -> None:
    cache.put("u1", {"a": 1})
    clock.now += age
    assert (cache.fresh("u1") is not None) is fresh
    assert (cache.stale("u1") is not None) is stale


@pytest.mark.parametrize(("age", "fresh"), [(4.9, True), (5, False)])
def test_an_unknown_entity_is_remembered_shortly_and_never_stands_in(
    age: float, fresh: bool, clock: Clock, cache: FeatureCache
) -> None:
    cache.put("u1", None)
    clock.now += age
    assert (cache.fresh("u1") is not None) is fresh
    assert cache.stale("u1") is None


def test_the_least_recently_used_makes_room(cache: FeatureCache) -> None:
    cache.put("u1", {})
    cache.put("u2", {})
    assert cache.fresh("u1")
    cache.put("u3", {})
    assert len(cache) == 2
    assert cache.fresh("u2") is None
    assert cache.fresh("u1")


def test_deferring_never_outlives_staleness(clock: Clock, cache: FeatureCache) -> None:
    cache.put("u1", {"a": 1})
    clock.now += 359.5
    cache.defer("u1", 10)
    assert cache.fresh("u1")
    clock.now += 0.5
    assert cache.fresh("u1") is None
