"""Which requests run together, and which are refused before they cost anything.

A forward pass costs a fixed part and a part per row, so requests that wait anyway should run together; but requests
can only share a pass when their tensors fit into one, a patient request must not run before an urgent one, and a
request that cannot be answered in time should hear so at once. This queue decides all of it and does nothing else:
it has no clock, no thread and no event loop (`now` is an argument, in seconds of any monotonic clock).

Requests wait in buckets by signature (names, datatypes, shape of a row). Within a bucket they run by priority, then
by deadline; the bucket with the most urgent head runs next. Rows are counted, not requests, and a request with more
rows than a pass takes runs in several slices.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.errors import DeadlineExceededError, OverloadedError, ServingError, TooLargeError

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
Key: TypeAlias = Hashable


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


Entry: TypeAlias = tuple[int, float, int, Slice]


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
        self._buckets: dict[Key, list[Entry]] = {}
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
        if self.rows:
            wait = self.cost.drain_seconds(self.rows, self.max_rows)
            if self.rows + job.rows > self.queue_rows:
                raise OverloadedError(f"the queue is full ({self.rows} rows wait)", max(wait, 0.001))
            if now + wait > job.deadline:
                raise OverloadedError(f"no answer possible in time: {self.rows} rows wait for {wait:.3f} s", wait)
        job.enqueued = now
        job.waiting = job.rows
        self.rows += job.rows
        bucket = self._buckets.get(job.key)
        if bucket is None:
            bucket = self._buckets[job.key] = []
        start = 0
        while start < job.rows:
            stop = min(job.rows, start + self.max_rows)
            self._sequence += 1
            heapq.heappush(bucket, (job.priority, job.deadline, self._sequence, Slice(job, start, stop)))
            start = stop

    def take(self, now: float) -> Batch | None:
        """The next batch, or None if nothing waits. Expired jobs must have been taken out by `expire` before."""
        while self._buckets:
            key = self._most_urgent() if len(self._buckets) > 1 else next(iter(self._buckets))
            if key not in self._buckets:
                break
            batch = self._fill(key, now)
            if not self._buckets[key]:
                del self._buckets[key]
            if batch.slices:
                return batch
        return None

    def cancel(self, job: Job) -> None:
        """Mark a job as done and take what waits of it out of the queue; does nothing to one that is done."""
        if not job.done:
            job.done = True
            self.rows -= job.waiting
            job.waiting = 0

    def expire(self, now: float) -> list[Job]:
        """Take out the jobs whose deadline has passed, with their error set."""
        late: dict[int, Job] = {}
        for bucket in self._buckets.values():
            for _, deadline, _, piece in bucket:
                if deadline <= now and not piece.job.done:
                    late[id(piece.job)] = piece.job
        for job in late.values():
            self.cancel(job)
            job.error = DeadlineExceededError(f"expired after {now - job.enqueued:.3f} s in the queue")
        return list(late.values())

    def next_deadline(self) -> float | None:
        """The earliest deadline of what waits."""
        deadlines = [entry[1] for bucket in self._buckets.values() for entry in bucket if not entry[3].job.done]
        return min(deadlines, default=None)

    def oldest(self) -> float | None:
        """When the job was queued that has waited longest in the most urgent bucket; None if nothing waits."""
        if not self.rows:
            return None
        return min(e[3].job.enqueued for e in self._buckets[self._most_urgent()] if not e[3].job.done)

    def full(self) -> bool:
        """Whether a whole batch waits."""
        return self.rows >= self.max_rows

    def _most_urgent(self) -> Key:
        for key in [key for key, bucket in self._buckets.items() if not self._prune(bucket)]:
            del self._buckets[key]
        return min(self._buckets, key=lambda key: self._buckets[key][0][:3], default=None)

    @staticmethod
    def _prune(bucket: list[Entry]) -> list[Entry]:
        while bucket and bucket[0][3].job.done:
            heapq.heappop(bucket)
        return bucket

    def _fill(self, key: Key, now: float) -> Batch:
        bucket = self._buckets.get(key, [])
        slices: list[Slice] = []
        rows = 0
        while bucket:
            piece = bucket[0][3]
            if piece.job.done:
                heapq.heappop(bucket)
                continue
            size = piece.stop - piece.start
            if slices and rows + size > self.max_rows:
                break
            heapq.heappop(bucket)
            if not piece.job.started:
                piece.job.started = now
            piece.job.waiting -= size
            slices.append(piece)
            rows += size
        self.rows -= rows
        return Batch(slices, rows, key)
