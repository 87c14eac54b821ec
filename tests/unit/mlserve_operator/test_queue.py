from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_operator.queue import WorkQueue


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue[str]:
    return WorkQueue(clock, debounce=1.0, backoff_base=1.0, backoff_limit=8.0)


def due(queue: WorkQueue[str]) -> list[str]:
    """Everything that can be taken now."""
    taken = []
    while (key := queue._pop_due(queue.clock())) is not None:
        queue._active.add(key)
        taken.append(key)
    return taken


def test_many_additions_are_one_piece_of_work_after_the_debounce(queue: WorkQueue[str], clock: Clock) -> None:
    for _ in range(5):
        queue.add("a")
    assert due(queue) == []
    clock.now = 1.0
    assert due(queue) == ["a"]
    assert len(queue) == 0


def test_an_earlier_wish_stands_and_a_nearer_one_replaces_it(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", 10)
    queue.add("a", 60)
    queue.add("b", 60)
    queue.add("b", 5)
    clock.now = 5.0
    assert due(queue) == ["b"]
    clock.now = 10.0
    assert due(queue) == ["a"]


def test_a_key_is_never_worked_on_twice_at_a_time(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", 0)
    assert due(queue) == ["a"]
    queue.add("a", 0)
    assert due(queue) == []
    queue.done("a")
    assert due(queue) == ["a"]


def test_failures_back_off_and_success_forgets_them(queue: WorkQueue[str], clock: Clock) -> None:
    delays = []
    for _ in range(6):
        queue.add("a", 0)
        assert due(queue) == ["a"]
        delays.append(queue.failed("a"))
        clock.now += delays[-1]
        assert due(queue) == ["a"]
        queue._release("a")
    assert delays == [1, 2, 4, 8, 8, 8]
    queue.done("a")
    queue.add("a", 0)
    due(queue)
    assert queue.failed("a") == 1


def test_overdue_counts_only_what_no_worker_has(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", 0)
    queue.add("later", 100)
    clock.now = 7.0
    assert queue.oldest_overdue() == 7.0
    due(queue)
    queue.add("a", 0)
    clock.now = 20.0
    assert queue.oldest_overdue() == 0.0


def test_forgotten_keys_do_not_come_back(queue: WorkQueue[str], clock: Clock) -> None:
    queue.add("a", 0)
    queue.forget("a")
    clock.now = 100.0
    assert due(queue) == []


async def test_take_waits_for_news() -> None:
    queue: WorkQueue[str] = WorkQueue(asyncio.get_running_loop().time, debounce=0.0)
    waiting = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.add("a")
    assert await asyncio.wait_for(waiting, 5) == "a"


actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("take"), st.just(""), st.just(0)),
        st.tuples(st.just("done"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("failed"), st.sampled_from("abc"), st.just(0)),
        st.tuples(st.just("pass"), st.just(""), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(actions)
def test_nothing_is_lost_and_nothing_is_doubled(history: list[tuple[str, str, int]]) -> None:
    """Whatever happens, a key that was asked for is taken later, and by one worker at a time."""
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock, debounce=0.0, backoff_base=1.0, backoff_limit=4.0)
    active: set[str] = set()
    wanted: set[str] = set()
    for action, key, number in history:
        if action == "add":
            queue.add(key, number)
            wanted.add(key)
        elif action == "take" and (taken := queue._pop_due(clock.now)) is not None:
            queue._active.add(taken)
            assert taken not in active
            active.add(taken)
            wanted.discard(taken)
        elif action == "pass":
            clock.now += number
        elif key in active and action in {"done", "failed"}:
            active.discard(key)
            if action == "failed":
                queue.failed(key)
                wanted.add(key)
            else:
                queue.done(key)
    for key in active:
        queue.done(key)
    clock.now += 1000.0
    assert set(due(queue)) == wanted
