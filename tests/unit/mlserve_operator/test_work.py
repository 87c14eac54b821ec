"""Alive is who gets something done: an operator that is stuck is restarted, one that is behind is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mlserve_operator import metrics
from mlserve_operator.queue import WorkQueue
from mlserve_operator.reconcile import Key
from mlserve_operator.work import STUCK_SECONDS, Workers


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A reconcile that takes its time, on the clock; one of `stuck` never ends."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    async def reconcile(self, key: Key) -> None:
        if key.name == "stuck":
            await asyncio.Event().wait()
        self.clock.now += self.seconds


@asynccontextmanager
async def one_worker(clock: Clock, seconds: float, *names: str) -> AsyncIterator[Workers]:
    """A worker that has come to the key `stuck`, with those behind it waiting."""
    queue: WorkQueue[Key] = WorkQueue(clock, debounce=0)
    leads = asyncio.Event()
    leads.set()
    workers = Workers(queue, Slow(clock, seconds), leads, clock)  # type: ignore[arg-type]
    for name in names:
        queue.add(Key("ModelDeployment", "team", name))
    running = asyncio.ensure_future(workers.run(1))
    behind = len(names) - names.index("stuck") - 1
    async with asyncio.timeout(5):
        while len(queue) > behind:
            await asyncio.sleep(0)
    try:
        yield workers
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_an_operator_that_is_behind_and_works_is_alive() -> None:
    async with one_worker(Clock(), STUCK_SECONDS / 2, "a", "b", "c", "d", "stuck", "e") as workers:
        assert workers.queue.oldest_overdue() > STUCK_SECONDS
        assert workers.trouble() == ""


async def test_an_operator_that_gets_nothing_done_is_not() -> None:
    clock = Clock()
    async with one_worker(clock, 1, "a", "stuck", "b") as workers:
        assert workers.trouble() == ""
        clock.now += STUCK_SECONDS + 1
        assert "none was worked on" in workers.trouble()
        workers.is_leader.clear()
        assert workers.trouble() == "", "a replica that stands by is not asked to work"
        assert metrics.QUEUE_AGE.collect()[0].samples[0].value == 0, "nor is anybody alarmed"
