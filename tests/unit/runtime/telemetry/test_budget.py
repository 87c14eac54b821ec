"""A budget bounds what is spent over any stretch of time, and never looks at what it pays for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.telemetry.budget import Budget


class Worker:
    """Time that passes, and the processor's time spent on pieces of work."""

    def __init__(self, share: float, burst: float) -> None:
        self.now = 1_000.0
        self.spent = 0.0
        self.budget = Budget(share, burst, clock=lambda: self.now, spent=lambda: self.spent)

    def offer(self, seconds: float) -> bool:
        if not self.budget.allows():
            return False
        with self.budget.charged():
            self.spent += seconds
            self.now += seconds
        return True


@pytest.mark.parametrize(
    ("cost", "every", "done"),
    [
        pytest.param(0.0001, 0.1, 1_000, id="little work is done whole"),
        pytest.param(0.0001, 0.005, 710, id="work for 5.1 s: 20 ms ahead, then one per cent of them"),
        pytest.param(1.0, 0.5, 5, id="pieces larger than the budget: one, then one in a hundred seconds"),
    ],
)
def test_how_much_of_a_thousand_pieces_is_done(cost: float, every: float, done: int) -> None:
    worker = Worker(0.01, 0.02)
    count = 0
    for _ in range(1_000):
        count += worker.offer(cost)
        worker.now += every
    assert count == pytest.approx(done, abs=5)


@given(
    share=st.floats(0.001, 0.5),
    burst=st.floats(0.0, 0.1),
    pieces=st.lists(st.tuples(st.floats(0, 0.05), st.floats(0, 1)), max_size=60),
)
def test_never_more_is_spent_than_the_share_the_burst_and_one_piece(
    share: float, burst: float, pieces: list[tuple[float, float]]
) -> None:
    worker = Worker(share, burst)
    began, largest = worker.now, 0.0
    for seconds, pause in pieces:
        if worker.offer(seconds):
            largest = max(largest, seconds)
        assert worker.spent <= share * (worker.now - began) + burst + largest + 1e-9
        worker.now += pause


def test_what_fails_is_paid_for_too() -> None:
    worker = Worker(0.01, 0.0)

    def fail() -> None:
        with worker.budget.charged():
            worker.spent += 1.0
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert not worker.budget.allows()
    worker.now += 100.0
    assert worker.budget.allows()
