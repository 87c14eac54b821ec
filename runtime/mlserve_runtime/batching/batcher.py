"""The asyncio shell of the batch queue: starts the next pass the moment the model is free.

Work-conserving and pull-based. Nothing waits for a timer while the model idles; a batch is formed as late as
possible, when the model can take it, so that everything the event loop has decoded until then is in it.

A forward pass that takes longer than a moment runs on a worker thread and never holds up the event loop. Handing a
batch to a thread and back costs six context switches and a fight for the interpreter lock, though: several times
what a small model needs. So a pass that is known to be shorter than the hand-off (measured: the fitted cost of the
passes so far) runs in place, and the first one that takes longer sends its successors back to the thread.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.execution import Outcome, Run, execute
from mlserve_runtime.batching.limits import LatencyTarget
from mlserve_runtime.batching.queue import Answer, Batch, BatchQueue, Job
from mlserve_runtime.errors import DeadlineExceededError, ModelFailedError, ServingError, UnavailableError

logger = logging.getLogger(__name__)

IN_PLACE_SECONDS: Final = 0.0005
"""Passes expected to be shorter run on the event loop: it is held up less than by decoding one large request."""

_KNOWN_PASSES: Final = 8
"""Passes that must have been measured (on the worker) before one is trusted to be short."""


class Observer(Protocol):
    """Who wants to hear of every pass (telemetry)."""

    def batch_done(self, batch: Batch, outcome: Outcome) -> None:
        """Called on the event loop after the answers of the batch were handed out."""


@dataclass(slots=True)
class _Task:
    batch: Batch
    done: Callable[[Batch, Outcome], None]


class Worker:
    """The thread that runs the model. A batch that kills the thread is answered, and the thread replaced."""

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, name: str = "model") -> None:
        self._run = run
        self._loop = loop
        self._name = name
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self.restarts = 0
        """Threads that ended and were replaced."""
        self._thread = self._start()

    def submit(self, task: _Task) -> None:
        """Run a batch; `task.done` is called on the event loop."""
        self._tasks.put(task)

    def close(self) -> None:
        """Let the thread end after what it has."""
        self._tasks.put(None)

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._main, name=self._name, daemon=True)
        thread.start()
        return thread

    def _main(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                outcome = execute(task.batch.slices, self._run)
            except BaseException as error:  # a model must not leave its callers waiting, whatever it raises
                # Before the answer: the loop may hand over the next batch while this thread still ends.
                self.restarts += 1
                self._thread = self._start()
                self._answer(task, _failed(task.batch, error))
                raise
            self._answer(task, outcome)
            del task, outcome

    def _answer(self, task: _Task, outcome: Outcome) -> None:
        try:
            self._loop.call_soon_threadsafe(task.done, task.batch, outcome)
        except RuntimeError:
            # The loop was closed while a pass ran: nobody waits for its answer any more.
            logger.debug("a batch ended after the event loop")


class Batcher:
    """Queue, worker and the moments at which the first hands a batch to the second. Lives on the event loop."""

    def __init__(
        self,
        run: Run,
        batches: BatchQueue,
        *,
        loop: asyncio.AbstractEventLoop,
        max_delay: float = 0.0,
        in_place_seconds: float = IN_PLACE_SECONDS,
        observer: Observer | None = None,
        target: LatencyTarget | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.queue = batches
        self.cost = CostModel()
        """What a forward pass takes. The queue's own model is of what a pass takes out of the day, from one to the
        next: the event loop's work beside it counts there, and there alone."""
        self.worker = Worker(run, loop)
        self._run = run
        self._in_place_seconds = in_place_seconds
        self.arriving = 0
        """Requests whose body is still being received; with a maximum delay a batch may wait for them."""
        self.in_flight = 0
        """Jobs accepted and not yet answered."""
        self._observer = observer
        self._target = target
        self._loop = loop
        self._max_delay = max_delay
        self._clock = clock
        self._busy = False
        self._scheduled = False
        self._running: Batch | None = None
        self._busy_since = 0.0
        """When the model got its present batch: at once after the last one, or when the batch came to an idle model."""
        self._waiting: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._expiry_at = float("inf")
        self._closed = False

    def submit(self, job: Job, *, alone: bool = False) -> None:
        """Accept a job; `job.on_done` follows.

        Args:
            job: The request.
            alone: Nobody else can ask before this is answered, so there is no company to wait for.

        Raises:
            ServingError: It is refused (see BatchQueue.admit).
        """
        if self._closed:
            raise UnavailableError("the server is draining", elsewhere=True)
        now = self._clock()
        self.queue.admit(job, now)
        self.in_flight += 1
        if self._max_delay:
            self.cost.arrived(now)
        if job.deadline < self._expiry_at:
            self._arm_expiry(job.deadline, now)
        if not self._busy and not self._scheduled:
            self._busy_since = 0.0  # it was idle, though something may have waited when the last pass ended
        if alone and not self._busy:
            self._dispatch()
        elif not self._busy and not self._scheduled:
            # Not at once: whatever else this turn of the loop decodes shares the pass.
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def check_room(self, seconds: float) -> None:
        """Refuse early: whether even one row with `seconds` to live would be refused by `submit`.

        Reading a request costs more than refusing it, and under overload most are refused.

        Raises:
            OverloadedError: It would.
        """
        self.queue.check_room(1, seconds)

    def cancel(self, job: Job) -> None:
        """Drop a job whose client is gone; its `on_done` is not called."""
        if not job.done:
            self.queue.cancel(job)
            self.in_flight -= 1
            self._end_if_done()

    def close(self) -> None:
        """Take nothing more; what is queued still runs."""
        self._closed = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        """Let the worker go once nobody waits any more: it holds the model, which may have been replaced."""
        if self._closed and not self.in_flight:
            self.worker.close()

    def _dispatch(self) -> None:
        self._scheduled = False
        if self._busy:
            return
        now = self._clock()
        if self._max_delay and self._wait_for_company(now):
            self._busy_since = 0.0
            return
        batch = self.queue.take(now)
        if batch is None:
            return
        self._busy = True
        self._running = batch
        self._busy_since = self._busy_since or now
        if self._fits_in_place(batch.rows):
            try:
                outcome = execute(batch.slices, self._run)
            except BaseException as error:  # noqa: BLE001 - no more than on the worker may it leave anybody waiting
                outcome = _failed(batch, error)
            self._completed(batch, outcome)
            return
        self.worker.submit(_Task(batch, self._completed))

    def _fits_in_place(self, rows: int) -> bool:
        """Whether a pass of `rows` is known to be shorter than a hand-off to the worker."""
        cost = self.cost
        return cost.weight >= _KNOWN_PASSES and cost.pass_seconds(rows) < self._in_place_seconds

    def _wait_for_company(self, now: float) -> bool:
        """Whether to hold the batch back; if so, a timer is set. Bounded by the delay and by the deadlines' slack."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self.queue.full() or not (self.arriving or self.cost.waiting_pays(self.queue.rows)):
            return False
        oldest = self.queue.oldest()
        if oldest is None:
            return False
        deadline = self.queue.next_deadline() or now
        slack = deadline - self.cost.pass_seconds(self.queue.max_rows)
        until = min(oldest + self._max_delay, slack)
        if until <= now:
            return False
        self._waiting = self._loop.call_later(until - now, self._dispatch)
        return True

    def _completed(self, batch: Batch, outcome: Outcome) -> None:
        now = self._clock()
        self._busy = False
        self._running = None
        if outcome.passes == 1:
            self.cost.observe(batch.rows, outcome.seconds)
            self.queue.cost.observe(batch.rows, now - self._busy_since)
            if self._target is not None:
                self.queue.max_rows = self._target.adjust(batch.rows, outcome.seconds)
        self._busy_since = now if self.queue.rows else 0.0
        self._answer(batch, outcome, now)
        if self.queue.rows and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)
        self._end_if_done()
        if self._observer is not None:
            try:
                self._observer.batch_done(batch, outcome)
            except Exception:  # the answers are out: no mistake in counting them may reach those who asked
                logger.exception("counting a batch failed")

    def _answer(self, batch: Batch, outcome: Outcome, now: float) -> None:
        for piece, result in zip(batch.slices, outcome.results, strict=True):
            job = piece.job
            if job.done:
                continue
            if isinstance(result, ServingError):
                job.error = result
                self._finish(job, now)
            elif piece.stop - piece.start == job.rows:
                job.answers = [result]
                self._finish(job, now)
            elif _collect(job, result):
                self._finish(job, now)

    def _finish(self, job: Job, now: float) -> None:
        self.queue.cancel(job)  # slices of a failed job that still wait must not run
        self._hand_out(job, now)

    def _hand_out(self, job: Job, now: float) -> None:
        job.finished = now
        self.in_flight -= 1
        try:
            job.on_done(job)
        except Exception:
            logger.exception("answering a request failed")

    def _arm_expiry(self, deadline: float, now: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry_at = deadline
        self._expiry = self._loop.call_later(max(0.0, deadline - now) + 0.001, self._expire)

    def _expire(self) -> None:
        """Answer what is late, queued or running; whatever the model still returns for it is dropped."""
        now = self._clock()
        self._expiry = None
        self._expiry_at = float("inf")
        late = self.queue.expire(now)
        running = [piece.job for piece in self._running.slices if not piece.job.done] if self._running else []
        for job in running:
            if job.deadline <= now:
                self.queue.cancel(job)
                job.error = DeadlineExceededError(
                    f"the model took longer than the request's {now - job.enqueued:.3f} s"
                )
                late.append(job)
        for job in late:
            self._hand_out(job, now)
        self._end_if_done()
        deadlines = [job.deadline for job in running if not job.done]
        following = self.queue.next_deadline()
        if following is not None:
            deadlines.append(following)
        if deadlines:
            self._arm_expiry(min(deadlines), now)


def _failed(batch: Batch, error: BaseException) -> Outcome:
    """What is said of a batch whose model raised what is no Exception."""
    logger.error("the model raised what is no Exception: %s", type(error).__name__)
    return Outcome(
        results=[ModelFailedError(f"the model ended its thread: {type(error).__name__}") for _ in batch.slices]
    )


def _collect(job: Job, answer: Answer) -> bool:
    """Keep the answer of one slice; True once the last has come and all stand in order."""
    answers = job.answers = [*(job.answers or ()), answer]
    answers.sort(key=lambda part: part.offset)
    return sum(part.stop - part.start for part in answers) == job.rows
