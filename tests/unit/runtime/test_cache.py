"""Remembered answers: exact, bounded in memory, and forgotten in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.batching.queue import Answer
from mlserve_runtime.cache import ResponseCache, content_key
from mlserve_runtime.processing.predictions import Outcome


def answer(value: float, count: int = 2) -> list[Answer]:
    outcome = Outcome({"y": np.full((count, 3), value, np.float32)}, lambda: None, all_finite=True)
    return [Answer(outcome, 0, count, 0)]


def value(found: Answer | None) -> float | None:
    return None if found is None else float(found.result.outputs["y"][0, 0])


def test_what_was_kept_is_found() -> None:
    cache = ResponseCache(100_000, 60)
    assert cache.find(b"a") is None
    cache.keep(b"a", answer(1))
    cache.keep(b"b", answer(2))
    assert (value(cache.find(b"a")), value(cache.find(b"b"))) == (1, 2)
    assert (cache.hits, cache.misses) == (2, 1)


def test_an_answer_is_a_copy() -> None:
    cache, batch = ResponseCache(100_000, 60), answer(1)
    cache.keep(b"a", batch)
    batch[0].result.outputs["y"][:] = 9
    assert value(cache.find(b"a")) == 1


def test_answers_are_forgotten_in_time() -> None:
    now = 0.0
    cache = ResponseCache(100_000, 60, clock=lambda: now)
    cache.keep(b"a", answer(1))
    now = 59.9
    assert value(cache.find(b"a")) == 1
    now = 60.0  # being asked for does not make an answer younger
    assert cache.find(b"a") is None
    assert (len(cache), cache.size) == (0, 0)


def test_the_least_recently_used_goes_first() -> None:
    cache = ResponseCache(100_000, 60)
    cache.keep(b"a", answer(1))
    cache = ResponseCache(2 * cache.size, 60)
    for key, number in ((b"a", 1), (b"b", 2)):
        cache.keep(key, answer(number))
    cache.find(b"a")
    cache.keep(b"c", answer(3))
    assert [value(cache.find(key)) for key in (b"a", b"b", b"c")] == [1, None, 3]


def test_one_answer_does_not_empty_the_cache() -> None:
    cache = ResponseCache(10_000, 60)
    cache.keep(b"a", answer(1))
    cache.keep(b"large", answer(2, count=10_000))
    assert [value(cache.find(key)) for key in (b"a", b"large")] == [1, None]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 400)), max_size=40))
def test_memory_is_never_exceeded_nor_lost(kept: list[tuple[int, int]]) -> None:
    cache = ResponseCache(10_000, 60)
    for key, count in kept:
        cache.keep(b"%d" % key, answer(key, count))
        assert cache.size <= 10_000
        assert cache.size == sum(entry.size for entry in cache._entries.values())


ONES: Any = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("digest", "inputs"),
    [
        ("sha256:b", {"x": ONES}),
        ("sha256:a", {"z": ONES}),
        ("sha256:a", {"x": ONES.reshape(1, 4)}),
        ("sha256:a", {"x": ONES.astype(np.float64)}),
        ("sha256:a", {"x": ONES.view(np.int32)}),
        ("sha256:a", {"x": ONES, "y": ONES}),
        ("sha256:a", {"x": np.nextafter(ONES, 2, dtype=np.float32)}),
        ("sha256:a", {"x": np.array([["1", "1"], ["1", "1"]], dtype=object)}),
    ],
    ids=["model", "name", "shape", "datatype", "same-bytes", "more", "bit", "text"],
)
def test_a_key_is_of_everything_that_matters(digest: str, inputs: dict[str, Any]) -> None:
    assert content_key(digest, inputs) != content_key("sha256:a", {"x": ONES})
    assert content_key(digest, inputs) == content_key(digest, {name: array.copy() for name, array in inputs.items()})


def test_a_key_is_of_values_not_of_their_place_in_memory() -> None:
    assert content_key("d", {"x": np.asfortranarray(np.arange(6.0).reshape(2, 3))}) == content_key(
        "d", {"x": np.arange(6.0).reshape(2, 3)}
    )
