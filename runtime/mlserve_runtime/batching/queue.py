"""Which requests run together, and which are refused before they cost anything.

A forward pass costs a fixed part and a part per row, so requests that wait anyway should run together; but requests
can only share a pass when their tensors fit into one, a patient request must not run before an urgent one, and a
request that cannot be answered in time should hear so at once. This queue decides all of it and does nothing else:
it has no clock, no thread and no event loop (`now` is an argument, in seconds of any monotonic clock).

Requests wait in buckets by signature (names, datatypes, shape of a row). Within a bucket they run by priority, then
by deadline; the bucket with the most urgent head runs next. Rows are counted, not requests, and a request with more
rows than a pass takes runs in several slices.

Every step costs at most the logarithm of what waits. That matters most when most waits: under overload something
expires all the time, and a look at the whole queue for each would leave the model no time to answer anybody.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy.typing as npt

from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.errors import DeadlineExceededError, OverloadedError, ServingError, TooLargeError

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
Key: TypeAlias = Hashable

HOPEFUL_SHARE: Final = 0.5
"""Share of a request's time that may be expected to pass before its turn comes. The estimate errs to both sides: with
the whole of the time, every second request of a long queue would just miss its deadline, work for nobody. A longer
queue raises no throughput either, it only makes everybody wait."""


@dataclass(slots=True, eq=False)
class Answer:
    """Rows `start:stop` of what a pass returned, sliced only when somebody needs them."""

    result: Any
    start: int
    stop: int
    offset: int
    """Where these rows stand in their job."""


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the model.

    `on_done` is called exactly once, on the event loop, when `answers` or `error` is set; never for a cancelled job.
    """

    inputs: Tensors
    rows: int
    deadline: float
    on_done: Callable[[Job], None]
    key: Key = None
    priority: int = 0
    """Lower runs first."""
    lane: Any = None
    """Whatever the observer of batches wants to know about whose rows these are."""
    answers: list[Answer] | None = None
    """In the order of the rows; more than one only for a job that ran in several slices."""
    error: ServingError | None = None
    ids: list[str] = field(default_factory=list)
    """Prediction ids per row, where feedback is set up."""
    enqueued: float = 0.0
    started: float = 0.0
    """When its first slice began to run; 0 while it waits."""
    finished: float = 0.0
    done: bool = False
    """Answered, expired or cancelled: whatever still runs for it is thrown away."""
    waiting: int = 0
    """Rows still in the queue."""


@dataclass(slots=True, eq=False)
class Slice:
    """Rows `start:stop` of a job: what one pass takes of it."""

    job: Job
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.stop - self.start

    def inputs(self) -> Tensors:
        """The tensors of these rows."""
        job = self.job
        if self.start == 0 and self.stop == job.rows:
            return job.inputs
        return {name: array[self.start : self.stop] for name, array in job.inputs.items()}


@dataclass(slots=True)
class Batch:
    """Slices that run in one pass."""

    slices: list[Slice]
    rows: int
    key: Key


Entry: TypeAlias = tuple[float, int, Slice]
"""Deadline, number of arrival, slice: the order within a priority."""
Bucket: TypeAlias = dict[int, list[Entry]]
"""A heap of entries for each priority; none of them is empty."""


class BatchQueue:
    """Admission, order and forming of batches. Not thread safe: the event loop owns it."""

    def __init__(self, *, max_rows: int, queue_rows: int, cost: CostModel) -> None:
        if max_rows < 1 or queue_rows < 1:
            raise ValueError(f"max_rows {max_rows} and queue_rows {queue_rows} must be at least 1")
        self.max_rows = max_rows
        self.queue_rows = queue_rows
        self.cost = cost
        self.rows = 0
        """Rows waiting, without those of cancelled and expired jobs."""
        self._buckets: dict[Key, Bucket] = {}
        self._sequence = 0

    def admit(self, job: Job, now: float) -> None:
        """Queue a job.

        Raises:
            TooLargeError: It has more rows than the queue could ever hold.
            OverloadedError: The queue is full, or the job would expire before its turn.
            DeadlineExceededError: It has expired already.
        """
        if job.rows > self.queue_rows:
            raise TooLargeError(f"the request has {job.rows} rows, at most {self.queue_rows} are taken at once")
        if job.deadline <= now:
            raise DeadlineExceededError("the deadline had passed before the request was queued")
        self.check_room(job.rows, job.deadline - now)
        job.enqueued = now
        job.waiting = job.rows
        self.rows += job.rows
        heap = self._buckets.setdefault(job.key, {}).setdefault(job.priority, [])
        start = 0
        while start < job.rows:
            stop = min(job.rows, start + self.max_rows)
            self._sequence += 1
            heapq.heappush(heap, (job.deadline, self._sequence, Slice(job, start, stop)))
            start = stop

    def check_room(self, rows: int, seconds: float) -> None:
        """Whether `rows` more can be answered within `seconds`; an idle model always tries.

        Raises:
            OverloadedError: The queue is full, or what waits takes too long; it names the time to come back.
        """
        if not self.rows:
            return
        wait = self.cost.drain_seconds(self.rows, self.max_rows)
        if self.rows + rows > self.queue_rows:
            raise OverloadedError(f"the queue is full ({self.rows} rows wait)", max(wait, 0.001))
        if wait > HOPEFUL_SHARE * seconds:
            raise OverloadedError(f"no answer possible in time: {self.rows} rows wait for {wait:.3f} s", wait)

    def take(self, now: float) -> Batch | None:
        """The next batch, or None if nothing waits. Expired jobs must have been taken out by `expire` before."""
        key = self._most_urgent()
        bucket = self._buckets.get(key)
        return None if bucket is None else self._fill(key, bucket, now)

    def cancel(self, job: Job) -> None:
        """Mark a job as done and take what waits of it out of the queue; does nothing to one that is done."""
        if not job.done:
            job.done = True
            self.rows -= job.waiting
            job.waiting = 0

    def expire(self, now: float) -> list[Job]:
        """Take out the jobs whose deadline has passed, with their error set."""
        late: list[Job] = []
        for bucket in self._buckets.values():
            for heap in bucket.values():
                while heap and (heap[0][0] <= now or heap[0][2].job.done):
                    job = heapq.heappop(heap)[2].job
                    if not job.done:
                        self.cancel(job)
                        job.error = DeadlineExceededError(f"expired after {now - job.enqueued:.3f} s in the queue")
                        late.append(job)
        self._prune()
        return late

    def next_deadline(self) -> float | None:
        """The earliest deadline of what waits."""
        self._prune()
        return min((heap[0][0] for bucket in self._buckets.values() for heap in bucket.values()), default=None)

    def oldest(self) -> float | None:
        """When the job was queued that has waited longest in the most urgent bucket; None if nothing waits."""
        bucket = self._buckets.get(self._most_urgent())
        if bucket is None:
            return None
        return min(entry[2].job.enqueued for heap in bucket.values() for entry in heap if not entry[2].job.done)

    def full(self) -> bool:
        """Whether a whole batch waits."""
        return self.rows >= self.max_rows

    def _most_urgent(self) -> Key:
        """The bucket whose head runs next; a key of no bucket if nothing waits."""
        self._prune()
        if len(self._buckets) == 1:
            return next(iter(self._buckets))
        return min(self._buckets, key=lambda key: _head(self._buckets[key]), default=None)

    def _prune(self) -> None:
        """Drop what is done from the heads, so that every head that is left waits."""
        for key, bucket in list(self._buckets.items()):
            for priority, heap in list(bucket.items()):
                while heap and heap[0][2].job.done:
                    heapq.heappop(heap)
                if not heap:
                    del bucket[priority]
            if not bucket:
                del self._buckets[key]

    def _fill(self, key: Key, bucket: Bucket, now: float) -> Batch:
        slices: list[Slice] = []
        rows = 0
        for priority in sorted(bucket):
            heap = bucket[priority]
            while heap:
                piece = heap[0][2]
                job = piece.job
                size = piece.stop - piece.start
                if not job.done:
                    if slices and rows + size > self.max_rows:
                        break
                    if not job.started:
                        job.started = now
                    job.waiting -= size
                    slices.append(piece)
                    rows += size
                heapq.heappop(heap)
            if heap:
                break
            del bucket[priority]
        if not bucket:
            del self._buckets[key]
        self.rows -= rows
        return Batch(slices, rows, key)


def _head(bucket: Bucket) -> tuple[int, float, int]:
    """What decides between buckets: priority, deadline and arrival of the first in line."""
    priority = min(bucket)
    deadline, sequence, _ = bucket[priority][0]
    return priority, deadline, sequence
