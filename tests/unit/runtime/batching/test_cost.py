"""The fitted cost of a pass and the controller of its size."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlserve_runtime.batching.cost
import mlserve_runtime.batching.limits
from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.limits import LatencyTarget


@pytest.mark.parametrize("module", [mlserve_runtime.batching.cost, mlserve_runtime.batching.limits])
def test_examples_in_the_documentation(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@given(
    st.floats(1e-5, 1e-1),
    st.floats(1e-6, 1e-2),
    st.lists(st.integers(1, 64), min_size=3, max_size=50).filter(lambda sizes: len(set(sizes)) > 1),
)
def test_an_exact_line_is_recovered(fixed: float, per_row: float, sizes: list[int]) -> None:
    model = CostModel()
    for rows in sizes:
        model.observe(rows, fixed + per_row * rows)
    assert model.pass_seconds(10) == pytest.approx(fixed + 10 * per_row, rel=1e-4)


def test_an_unknown_model_refuses_nothing_and_waits_for_nobody() -> None:
    model = CostModel()
    assert model.drain_seconds(10_000, 8) == 0.0
    assert not model.waiting_pays(1)


def test_a_model_that_slows_down_is_believed() -> None:
    model = CostModel()
    for _ in range(500):
        model.observe(8, 0.001)
    for _ in range(500):
        model.observe(8, 0.010)
    assert model.pass_seconds(8) == pytest.approx(0.010, rel=0.05)


@pytest.mark.parametrize(
    ("gap", "rows", "pays"),
    [(0.0001, 1, True), (0.0001, 5, True), (0.0001, 50, False), (0.01, 1, False)],
    ids=["company-is-near", "still-near", "too-many-wait", "nobody-comes"],
)
def test_waiting_pays_while_it_delays_less_than_it_saves(gap: float, rows: int, pays: bool) -> None:
    model = CostModel()
    for size in (1, 8, 16):
        model.observe(size, 0.001 + 0.00001 * size)
    for step in range(200):
        model.arrived(step * gap + 1.0)
    assert model.waiting_pays(rows) is pays


def test_the_target_finds_the_largest_size_that_meets_it() -> None:
    target = LatencyTarget(seconds=0.010, ceiling=64, rows=1)
    sizes = []
    for _ in range(300):
        sizes.append(target.rows)
        target.adjust(target.rows, 0.001 * target.rows / 4)  # 40 rows fit
    settled = sizes[-100:]
    assert min(settled) >= 32
    assert max(settled) <= 41


def test_a_small_pass_proves_nothing() -> None:
    target = LatencyTarget(seconds=0.010, ceiling=64, rows=8)
    assert target.adjust(2, 0.001) == 8
