"""The shell around the queue: a real event loop and worker, models that are controlled by the test."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from mlserve_runtime.batching.batcher import Batcher
from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.queue import BatchQueue, Job
from mlserve_runtime.errors import DeadlineExceededError, ModelFailedError, OverloadedError, UnavailableError


class Gate:
    """A model that waits for the test before every pass, and remembers the rows of each."""

    def __init__(self, *, open_: bool = False) -> None:
        self.passes: list[int] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.open = open_

    def __call__(self, inputs: dict[str, Any]) -> Any:
        self.passes.append(len(inputs["x"]))
        self.started.release()
        if not self.open:
            assert self.go.acquire(timeout=10)
        return inputs["x"]


def make(model: Any, *, max_rows: int = 8, queue_rows: int = 64, **options: Any) -> Batcher:
    queue = BatchQueue(max_rows=max_rows, queue_rows=queue_rows, cost=CostModel())
    return Batcher(model, queue, loop=asyncio.get_running_loop(), **options)


def submit(batcher: Batcher, rows: int = 1, *, timeout: float = 10.0, value: float = 0.0) -> asyncio.Future[Job]:
    future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
    one = Job(
        inputs={"x": np.full((rows, 1), value, dtype=np.float32)},
        rows=rows,
        deadline=time.perf_counter() + timeout,
        on_done=future.set_result,
    )
    batcher.submit(one)
    future.job = one  # type: ignore[attr-defined]
    return future


async def started(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.started.acquire, True, 10)


async def test_what_arrives_during_a_pass_shares_the_next() -> None:
    gate = Gate()
    batcher = make(gate)
    first = submit(batcher)
    await started(gate)
    rest = [submit(batcher) for _ in range(5)]
    gate.go.release()
    await first
    gate.go.release()
    await asyncio.gather(*rest)
    assert gate.passes == [1, 5]
    assert batcher.in_flight == 0
    batcher.close()


async def test_requests_of_one_turn_of_the_loop_share_a_pass() -> None:
    gate = Gate(open_=True)
    batcher = make(gate)
    await asyncio.gather(*[submit(batcher) for _ in range(6)])
    assert gate.passes == [6]
    batcher.close()


async def test_oversize_answers_come_back_in_order() -> None:
    batcher = make(lambda inputs: inputs["x"], max_rows=4)
    done = submit(batcher, 11)
    done.job.inputs["x"][:, 0] = range(11)  # type: ignore[attr-defined]
    job = await done
    assert job.answers is not None
    values = np.concatenate([part.result[part.start : part.stop, 0] for part in job.answers])
    assert values.tolist() == list(range(11))
    batcher.close()


async def test_a_queued_request_expires_in_time_while_the_model_is_busy() -> None:
    gate = Gate()
    batcher = make(gate)
    first = submit(batcher)
    await started(gate)
    began = time.perf_counter()
    late = await submit(batcher, timeout=0.05)
    assert isinstance(late.error, DeadlineExceededError)
    assert time.perf_counter() - began < 1.0
    gate.go.release()
    assert (await first).error is None
    batcher.close()


async def test_a_request_expires_in_a_model_that_hangs() -> None:
    gate = Gate()
    batcher = make(gate)
    job = await submit(batcher, timeout=0.05)
    assert isinstance(job.error, DeadlineExceededError)
    gate.go.release()
    batcher.close()


async def test_an_abandoned_request_never_runs() -> None:
    gate = Gate()
    batcher = make(gate)
    first = submit(batcher)
    await started(gate)
    gone = submit(batcher)
    batcher.cancel(gone.job)  # type: ignore[attr-defined]
    stays = submit(batcher)
    gate.go.release()
    await first
    gate.go.release()
    await stays
    assert gate.passes == [1, 1]
    assert not gone.done()
    assert batcher.in_flight == 0
    batcher.close()


async def test_idle_time_after_an_abandoned_request_is_no_part_of_a_pass() -> None:
    gate, later = Gate(), [0.0]
    batcher = make(gate, clock=lambda: time.perf_counter() + later[0])
    first = submit(batcher)
    await started(gate)
    second = submit(batcher)
    first.job.on_done = lambda job: (batcher.cancel(second.job), first.set_result(job))  # type: ignore[attr-defined]
    gate.go.release()
    await first
    await asyncio.sleep(0)
    later[0] = 100.0
    third = submit(batcher, timeout=1000.0)
    gate.go.release()
    await third
    assert gate.passes == [1, 1]
    assert batcher.queue.cost.pass_seconds(1) < 10
    batcher.close()


async def test_a_full_queue_refuses() -> None:
    gate = Gate()
    batcher = make(gate, queue_rows=4)
    first = submit(batcher)
    await started(gate)
    waiting = [submit(batcher) for _ in range(4)]
    with pytest.raises(OverloadedError):
        submit(batcher)
    gate.open = True
    gate.go.release()
    await asyncio.gather(first, *waiting)
    batcher.close()


async def test_short_passes_run_in_place_and_long_ones_on_the_worker() -> None:
    threads: list[str] = []
    nap = 0.0

    def model(inputs: dict[str, Any]) -> Any:
        threads.append(threading.current_thread().name)
        if nap:
            threading.Event().wait(nap)
        return inputs["x"]

    batcher = make(model, in_place_seconds=0.005)
    for _ in range(12):
        await submit(batcher)
    assert threads[0] == "model"
    assert threads[-1] == "MainThread"
    nap = 0.05
    while threads[-1] == "MainThread":  # one slow pass in place teaches the cost model
        await submit(batcher)
        assert len(threads) < 60
    batcher.close()


async def test_a_worker_that_dies_answers_and_is_replaced() -> None:
    deadly = True

    def model(inputs: dict[str, Any]) -> Any:
        if deadly:
            raise KeyboardInterrupt
        return inputs["x"]

    caught = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        batcher = make(model)
        job = await submit(batcher)
        assert isinstance(job.error, ModelFailedError)
        deadly = False
        assert (await submit(batcher)).error is None  # at once: the old thread may still be ending
        assert batcher.worker.restarts == 1
        batcher.close()
    finally:
        threading.excepthook = caught


async def test_what_is_no_exception_ends_nothing_in_place_either() -> None:
    error: type[BaseException] | None = None

    def model(inputs: dict[str, Any]) -> Any:
        if error is not None:
            raise error
        return inputs["x"]

    batcher = make(model, in_place_seconds=10.0)
    for _ in range(10):
        await submit(batcher)
    error = GeneratorExit
    assert isinstance((await submit(batcher)).error, ModelFailedError)
    error = None
    assert (await submit(batcher)).error is None
    assert batcher.worker.restarts == 0
    batcher.close()


async def test_an_observer_that_fails_harms_nobody() -> None:
    class Broken:
        def batch_done(self, *_: Any) -> None:
            raise ValueError

    batcher = make(lambda inputs: inputs["x"], observer=Broken(), in_place_seconds=10.0)
    for _ in range(10):
        await submit(batcher)
    done: list[Job] = []
    job = Job({"x": np.zeros((1, 1))}, 1, time.perf_counter() + 10, done.append)
    batcher.submit(job, alone=True)  # runs within submit, so an error would be taken for a refusal of the request
    assert done == [job]
    batcher.close()


async def test_an_answer_that_fails_does_not_keep_others_from_expiring() -> None:
    gate = Gate()
    batcher = make(gate)
    first = submit(batcher)
    await started(gate)

    def fail(_: Job) -> None:
        raise ValueError

    deadline = time.perf_counter() + 0.05
    batcher.submit(Job({"x": np.zeros((1, 1))}, 1, deadline, fail))
    late = [submit(batcher, timeout=0.05), submit(batcher, timeout=0.1)]
    assert [type(job.error) for job in await asyncio.gather(*late)] == [DeadlineExceededError] * 2
    gate.go.release()
    await first
    batcher.close()


@pytest.mark.parametrize("end", ["cancelled", "expired"])
async def test_a_closed_batcher_lets_the_model_go_whatever_became_of_the_last_request(end: str) -> None:
    others = set(threading.enumerate())
    batcher = make(Gate(open_=True), max_delay=0.2)
    (thread,) = set(threading.enumerate()) - others
    batcher.arriving = 1  # so that the request waits
    waiting = submit(batcher, timeout=0.05 if end == "expired" else 10.0)
    batcher.close()
    if end == "expired":
        await waiting
    else:
        batcher.cancel(waiting.job)  # type: ignore[attr-defined]
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_a_closed_batcher_finishes_and_takes_nothing() -> None:
    gate = Gate()
    batcher = make(gate)
    first = submit(batcher)
    await started(gate)
    batcher.close()
    with pytest.raises(UnavailableError):
        submit(batcher)
    gate.go.release()
    assert (await first).error is None


async def test_a_bounded_wait_collects_company_and_ends() -> None:
    gate = Gate(open_=True)
    batcher = make(gate, max_delay=0.2)
    batcher.arriving = 1  # a body is on its way
    first = submit(batcher)
    await asyncio.sleep(0.02)
    assert gate.passes == []
    batcher.arriving = 0
    second = submit(batcher)
    await asyncio.gather(first, second)
    assert gate.passes == [2]
    batcher.arriving = 1
    began = time.perf_counter()
    await submit(batcher)
    assert 0.15 < time.perf_counter() - began < 2.0
    batcher.close()
