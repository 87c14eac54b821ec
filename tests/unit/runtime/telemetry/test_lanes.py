"""Lanes, units and histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_core.wire import HEADER_MIRROR, HEADER_PREVIEW, HEADER_UNIT, LATENCY_EDGES_MICROS, latency_bucket
from mlserve_runtime.errors import (
    BadOutputError,
    CancelledError,
    DeadlineExceededError,
    InvalidInputError,
    ModelFailedError,
    OverloadedError,
    ServingError,
    UnavailableError,
)
from mlserve_runtime.telemetry.histogram import Histogram
from mlserve_runtime.telemetry.lanes import Lane, Lanes, Units, is_mirrored


@pytest.mark.parametrize(
    ("host", "mirrored"),
    [
        (b"digits", False),
        (b"digits-shadow", True),
        (b"digits-shadow:8080", True),
        (b"digits:8080", False),
        (b"", False),
    ],
)
def test_mirrored_hosts(host: bytes, mirrored: bool) -> None:
    assert is_mirrored(host) is mirrored


@pytest.mark.parametrize(
    ("headers", "lane"),
    [
        ({}, "live"),
        ({b"host": b"m-shadow"}, "mirror"),
        ({HEADER_MIRROR.encode(): b"true"}, "mirror"),
        ({HEADER_MIRROR.encode(): b"false", b"host": b"a-model-that-is-called-shadow"}, "live"),
        ({HEADER_MIRROR.encode(): b"true", HEADER_UNIT.encode(): b"u1"}, "mirror"),
        ({HEADER_PREVIEW.encode(): b"canary"}, None),
        ({HEADER_PREVIEW.encode(): b"canary", b"host": b"m-shadow"}, None),
        ({HEADER_UNIT.encode(): b"u1"}, "live"),
    ],
    ids=[
        "plain",
        "mirrored-by-gateway",
        "mirrored",
        "called-so",
        "mirrored-unit",
        "preview",
        "mirrored-preview",
        "first-of-unit",
    ],
)
def test_assignment(headers: dict[bytes, bytes], lane: str | None) -> None:
    assert Lanes().assign(headers) == lane


def test_a_unit_is_judged_once_until_a_rollout_begins() -> None:
    units = Units(limit=2)
    assert [units.first(b"a"), units.first(b"a"), units.first(b"b")] == [True, False, True]
    assert units.first(b"a") is False  # seen again: now the youngest
    assert units.first(b"c") is True  # pushes out b
    assert units.first(b"b") is True
    units.reset()
    assert units.first(b"c") is True


@pytest.mark.parametrize(
    ("error", "counters"),
    [
        (InvalidInputError("x"), {"requests": 1, "client_errors": 1}),
        (OverloadedError("x", 1.0), {"requests": 1, "rejected": 1}),
        (ModelFailedError("x"), {"requests": 1, "server_errors": 1}),
        (BadOutputError("x"), {"requests": 1, "server_errors": 1, "bad_outputs": 1}),
        (DeadlineExceededError("x"), {"requests": 1, "timeouts": 1}),
        (UnavailableError("x", elsewhere=True), {}),
        (CancelledError("x"), {}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ServingError) else "",
)
def test_failures_are_counted_by_whose_fault_they_are(error: ServingError, counters: dict[str, int]) -> None:
    lane = Lane()
    lane.failed(error, 1000.0)
    counts = lane.counts()
    names = ("requests", "client_errors", "rejected", "server_errors", "timeouts", "bad_outputs")
    assert {name: getattr(counts, name) for name in names} == dict.fromkeys(names, 0) | counters
    assert sum(counts.latency) == (1 if error.status in {500, 504} else 0)


@given(st.lists(st.integers(1, 10**8), max_size=50))
def test_the_peoples_histogram_agrees_with_the_wires(latencies: list[int]) -> None:
    lanes = Lanes()
    for index, name in enumerate(("live", "mirror", None)):
        micros = np.array(latencies[index::3], dtype=np.float64)
        lanes.of(name).answered(len(micros), micros, np.zeros(len(micros)))  # type: ignore[arg-type]
    people = lanes.latency()
    assert people.count == len(latencies)
    for edge, upto in people.cumulative()[:-1]:
        assert upto == sum(latency <= float(edge) * 1e6 + 1e-6 for latency in latencies)
    for index, lane in enumerate((lanes.live, lanes.mirror)):
        mine = latencies[index::3]
        assert (lane.requests, lane.latency_sum_micros) == (len(mine), sum(mine))
        assert lane.latency.tolist() == [sum(latency_bucket(m) == b for m in mine) for b in range(len(lane.latency))]
    assert people.sum == pytest.approx(sum(latencies) / 1e6)
    assert len(lanes.live.counts().latency) == len(LATENCY_EDGES_MICROS) + 1


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
def test_many_at_once_is_one_after_the_other(values: list[float]) -> None:
    together, apart = Histogram.fractions(), Histogram.fractions()
    together.observe_many(np.array([*values, np.nan]))
    for value in values:
        apart.observe(value)
    assert together.counts == apart.counts
    assert together.sum == pytest.approx(apart.sum)


def test_quantiles_are_upper_edges() -> None:
    histogram = Histogram([1, 2, 4])
    assert histogram.quantile(0.5) == 0
    for value in (0.5, 1.5, 1.6, 3):
        histogram.observe(value)
    assert (histogram.quantile(0.25), histogram.quantile(0.5), histogram.quantile(0.99)) == (1, 2, 4)
