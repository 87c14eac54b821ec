"""The batch queue with a clock that is an argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.queue import BatchQueue, Job
from mlserve_runtime.errors import DeadlineExceededError, OverloadedError, TooLargeError


def job(rows: int = 1, *, deadline: float = 100.0, priority: int = 0, key: Any = None, name: float = 0.0) -> Job:
    inputs = {"x": np.full((rows, 2), name, dtype=np.float32)}
    return Job(inputs=inputs, rows=rows, deadline=deadline, on_done=lambda _: None, key=key, priority=priority)


def make_queue(max_rows: int = 8, queue_rows: int = 100, cost: CostModel | None = None) -> BatchQueue:
    return BatchQueue(max_rows=max_rows, queue_rows=queue_rows, cost=cost or CostModel())


def drain(queue: BatchQueue, now: float = 0.0) -> list[list[tuple[Job, int, int]]]:
    batches = []
    while (batch := queue.take(now)) is not None:
        batches.append([(piece.job, piece.start, piece.stop) for piece in batch.slices])
    return batches


def test_everything_that_waits_and_fits_shares_a_pass() -> None:
    queue = make_queue(max_rows=8)
    jobs = [job(3), job(3), job(3)]
    for one in jobs:
        queue.admit(one, 0.0)
    assert drain(queue) == [[(jobs[0], 0, 3), (jobs[1], 0, 3)], [(jobs[2], 0, 3)]]
    assert queue.rows == 0


def test_urgent_runs_before_patient() -> None:
    queue = make_queue(max_rows=1)
    late, soon, important = job(deadline=50), job(deadline=10), job(deadline=90, priority=-1)
    for one in (late, soon, important):
        queue.admit(one, 0.0)
    assert [batch[0][0] for batch in drain(queue)] == [important, soon, late]


def test_equal_urgency_keeps_the_order_of_arrival() -> None:
    queue = make_queue(max_rows=1)
    jobs = [job() for _ in range(5)]
    for one in jobs:
        queue.admit(one, 0.0)
    assert [batch[0][0] for batch in drain(queue)] == jobs


def test_shapes_do_not_mix_and_the_bucket_with_the_urgent_head_runs_first() -> None:
    queue = make_queue()
    wide, narrow = job(key="wide", deadline=20), job(key="narrow", deadline=30)
    narrow_urgent = job(key="narrow", deadline=5)
    for one in (wide, narrow, narrow_urgent):
        queue.admit(one, 0.0)
    assert [[piece[0] for piece in batch] for batch in drain(queue)] == [[narrow_urgent, narrow], [wide]]


def test_an_oversize_request_runs_in_slices() -> None:
    queue = make_queue(max_rows=4)
    big = job(10)
    queue.admit(big, 0.0)
    assert drain(queue) == [[(big, 0, 4)], [(big, 4, 8)], [(big, 8, 10)]]


def test_a_slice_holds_exactly_its_rows() -> None:
    queue = make_queue(max_rows=4)
    big = job(6)
    big.inputs["x"][:, 0] = range(6)
    queue.admit(big, 0.0)
    first, second = queue.take(0.0), queue.take(0.0)
    assert first is not None
    assert second is not None
    assert first.slices[0].inputs()["x"][:, 0].tolist() == [0, 1, 2, 3]
    assert second.slices[0].inputs()["x"][:, 0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("rows", "deadline", "error"),
    [(101, 100.0, TooLargeError), (1, 5.0, DeadlineExceededError), (60, 100.0, OverloadedError)],
    ids=["larger-than-the-queue", "already-expired", "queue-full"],
)
def test_admission_refuses(rows: int, deadline: float, error: type[Exception]) -> None:
    queue = make_queue()
    queue.admit(job(50), 5.0)
    with pytest.raises(error):
        queue.admit(job(rows, deadline=deadline), 5.0)
    assert queue.rows == 50


def test_a_hopeless_deadline_is_refused_at_once_with_the_time_to_come_back() -> None:
    cost = CostModel()
    for rows in (1, 4, 8):
        cost.observe(rows, 0.1 * rows)
    queue = make_queue(cost=cost)
    queue.admit(job(50), 0.0)
    with pytest.raises(OverloadedError) as refused:
        queue.admit(job(deadline=2.0), 0.0)
    assert refused.value.retry_after == pytest.approx(5.0, rel=0.01)
    with pytest.raises(OverloadedError):
        queue.admit(job(deadline=9.0), 0.0)  # in time by the estimate, but with no room for its error
    queue.admit(job(deadline=11.0), 0.0)


def test_cancelled_jobs_make_room_and_never_run() -> None:
    queue = make_queue(queue_rows=4)
    gone, stays = job(3), job(1)
    queue.admit(gone, 0.0)
    queue.admit(stays, 0.0)
    queue.cancel(gone)
    queue.cancel(gone)
    assert queue.rows == 1
    later = job(3)
    queue.admit(later, 0.0)
    assert [[piece[0] for piece in batch] for batch in drain(queue)] == [[stays, later]]


def test_expired_jobs_come_out_with_an_error() -> None:
    queue = make_queue(max_rows=2)
    late, fine = job(3, deadline=1.0), job(deadline=9.0)
    queue.admit(late, 0.0)
    queue.admit(fine, 0.0)
    assert queue.next_deadline() == 1.0
    assert queue.expire(0.5) == []
    assert queue.expire(1.0) == [late]
    assert isinstance(late.error, DeadlineExceededError)
    assert [[piece[0] for piece in batch] for batch in drain(queue)] == [[fine]]
    assert queue.next_deadline() is None


class CountedDeadline(float):
    """A deadline that counts how often it is looked at."""

    looks = 0

    def __lt__(self, other: float) -> bool:
        CountedDeadline.looks += 1
        return float(self) < other

    def __le__(self, other: float) -> bool:
        CountedDeadline.looks += 1
        return float(self) <= other

    __hash__ = float.__hash__


def test_expiring_one_by_one_does_not_look_at_the_whole_queue_each_time() -> None:
    count = 2000
    queue = make_queue(queue_rows=count)
    for number in range(count):
        queue.admit(job(deadline=CountedDeadline(number + 1), priority=number % 3), 0.0)
    CountedDeadline.looks = 0
    for number in range(count):
        assert len(queue.expire(number + 1)) == 1
        queue.next_deadline()
    assert queue.rows == 0
    assert CountedDeadline.looks < 40 * count  # some multiple of log2(2000) = 11; the square would be 2000 each


def test_priorities_share_a_pass_in_their_order() -> None:
    queue = make_queue(max_rows=3)
    jobs = [job(priority=priority, deadline=deadline) for priority, deadline in ((1, 5), (0, 50), (1, 4), (2, 1))]
    for one in jobs:
        queue.admit(one, 0.0)
    assert [[piece[0] for piece in batch] for batch in drain(queue)] == [[jobs[1], jobs[2], jobs[0]], [jobs[3]]]


def test_take_from_nothing_but_cancelled_jobs() -> None:
    queue = make_queue()
    for key in ("a", "b"):
        one = job(key=key)
        queue.admit(one, 0.0)
        queue.cancel(one)
    assert queue.take(0.0) is None
    assert queue.rows == 0


operations = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 20), st.integers(0, 3), st.integers(0, 2)),
        st.tuples(st.just("take"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0), st.just(0)),
        st.tuples(st.just("expire"), st.integers(0, 30), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(operations)
def test_no_row_is_lost_or_run_twice(steps: list[tuple[str, int, int, int]]) -> None:  # noqa: C901 - one story
    queue = make_queue(max_rows=6, queue_rows=40)
    admitted: list[Job] = []
    dropped: set[int] = set()
    ran: dict[int, list[tuple[int, int]]] = {}

    def take() -> bool:
        batch = queue.take(0.0)
        if batch is None:
            return False
        assert 1 <= batch.rows <= 6
        assert len({piece.job.key for piece in batch.slices}) == 1
        for piece in batch.slices:
            assert not piece.job.done
            ran.setdefault(id(piece.job), []).append((piece.start, piece.stop))
        return True

    for kind, number, priority, key in steps:
        if kind == "admit":
            one = job(number, deadline=10.0 + number, priority=priority, key=key)
            try:
                queue.admit(one, 0.0)
                admitted.append(one)
            except (OverloadedError, TooLargeError):
                pass
        elif kind == "take":
            take()
        elif kind == "cancel" and admitted:
            one = admitted[number % len(admitted)]
            queue.cancel(one)
            dropped.add(id(one))
        elif kind == "expire":
            dropped |= {id(one) for one in queue.expire(float(number))}
    while take():
        pass
    assert queue.rows == 0
    for one in admitted:
        if id(one) not in dropped:
            pieces = sorted(ran[id(one)])
            assert [start for start, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])]
            assert pieces[-1][1] == one.rows
