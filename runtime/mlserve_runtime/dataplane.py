"""From a call to its reply, whatever protocol it came by.

Decode, queue, answer: the three steps every prediction takes, the places where it can be refused, and the counting
of what became of it. Knows no sockets; protocols hand in calls and get replies back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final

from mlserve_core.wire import HEADER_DRAINING, HEADER_REVISION
from mlserve_runtime.batching.batcher import Batcher
from mlserve_runtime.batching.queue import Job
from mlserve_runtime.cache import ResponseCache, content_key
from mlserve_runtime.calls import Call, Prepared, Reply, error_body
from mlserve_runtime.errors import BadOutputError, CancelledError, OverloadedError, ServingError, UnavailableError
from mlserve_runtime.features.lookup import FeatureLookup
from mlserve_runtime.feedback.tokens import Prediction, new_nonce
from mlserve_runtime.model import ServedModel, first_bad_row, predicted_classes
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.payloads import open_payload_log
from mlserve_runtime.telemetry.recorder import Recorder

logger = logging.getLogger(__name__)

_MISCOUNTED: Final = "counting a request failed"
"""Said in the log and nowhere else: a call that was answered must end, or the process would never be idle again."""
_DRAINING: Final = (HEADER_DRAINING.encode(), b"true")


class Phase(Enum):
    """Where the process is in its life."""

    LOADING = "loading"
    READY = "ready"
    LEAVING = "leaving"
    """Asked to go: not ready any more, but still answering until routers have heard of it."""
    DRAINING = "draining"
    """Refusing what is new, finishing what is in flight."""
    FAILED = "failed"


class DataPlane:
    """The prediction path of one process. Lives on the event loop."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self.settings = settings
        self.recorder = recorder
        self._phase = Phase.LOADING
        self.on_phase: Callable[[Phase], None] = _nobody_waits
        """Called with every new phase; for those who must tell others instead of being asked."""
        self.model: ServedModel | None = None
        self.batcher: Batcher | None = None
        self.in_flight = 0
        """Calls that were not answered yet."""
        self.idle = asyncio.Event()
        """Set while nothing is in flight."""
        self.idle.set()
        self.cache: ResponseCache | None = None
        if settings.response_cache_bytes:
            self.cache = ResponseCache(settings.response_cache_bytes, settings.response_cache_seconds)
        self.lookup: FeatureLookup | None = None
        """Features by entity, where a store is configured."""
        self.payloads = open_payload_log(settings)
        self.revision_header = (HEADER_REVISION.encode(), settings.revision.encode())
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def phase(self) -> Phase:
        """Where the process is in its life."""
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase
        self.on_phase(phase)

    @property
    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.phase is Phase.READY

    @property
    def draining(self) -> bool:
        """Whether the process was asked to go."""
        return self.phase in {Phase.LEAVING, Phase.DRAINING}

    def open(self, model: ServedModel, batcher: Batcher) -> None:
        """The model is warm: answer from now on."""
        self.model, self.batcher = model, batcher
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    def handle(self, call: Call) -> None:
        """Begin a call; its `reply` is called exactly once, unless it is abandoned before."""
        self.in_flight += 1
        if self.in_flight == 1:
            self.idle.clear()
        try:
            model, batcher = self._serving()
            call.lane = self.recorder.lanes.assign(call.headers)
            if self.cache is None:
                batcher.check_room(self.settings.timeout)
            prepared = call.route.decode(call, model)
            if isinstance(prepared, Prepared):
                self._submit(call, prepared, model, batcher)
            else:
                self._later(call, prepared, model, batcher)
        except ServingError as error:
            self._fail(call, error)
        except Exception:
            logger.exception("decoding a request failed")
            self._fail(call, ServingError("internal error; the server's log has the details"))

    def abandon(self, call: Call) -> None:
        """The client is gone: stop working for it."""
        if call.abandoned:
            return
        call.abandoned = True
        if call.job is not None and not call.job.done and call.batcher is not None:
            call.batcher.cancel(call.job)
            self._count_failure(call, CancelledError("the client went away"))
            self._ended(call)

    def _serving(self) -> tuple[ServedModel, Batcher]:
        if self.phase is Phase.DRAINING:
            raise UnavailableError("the server is draining; another replica answers", elsewhere=True)
        if self.model is None or self.batcher is None:
            raise UnavailableError("the model is still loading; try again in a moment", elsewhere=True)
        return self.model, self.batcher

    def _later(self, call: Call, decoding: Awaitable[Prepared], model: ServedModel, batcher: Batcher) -> None:
        task = asyncio.ensure_future(self._decode(call, decoding, model, batcher))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _decode(self, call: Call, decoding: Awaitable[Prepared], model: ServedModel, batcher: Batcher) -> None:
        try:
            prepared = await decoding
            if call.abandoned:
                self._ended(call)
                return
            if self._serving()[0] is not model:
                raise UnavailableError(
                    "the model was replaced while the request was read; send it again", elsewhere=True
                )
            self._submit(call, prepared, model, batcher)
        except asyncio.CancelledError:  # of whom it waited for: a feature lookup that was closed
            self._fail(call, UnavailableError("the server stopped reading the request; send it again", elsewhere=True))
        except ServingError as error:
            self._fail(call, error)
        except Exception:
            logger.exception("decoding a request failed")
            self._fail(call, ServingError("internal error; the server's log has the details"))

    def _submit(self, call: Call, prepared: Prepared, model: ServedModel, batcher: Batcher) -> None:
        now = call.decoded = time.perf_counter()
        inputs = prepared.inputs
        timeout = self.settings.timeout if prepared.timeout is None else min(prepared.timeout, self.settings.timeout)

        key = content_key(model.artifact.digest, inputs) if self.cache is not None else b""

        def done(job: Job) -> None:
            self._done(call, prepared, job, model, key)

        job = call.job = Job(
            inputs=inputs,
            rows=len(next(iter(inputs.values()))),
            deadline=now + timeout,
            on_done=done,
            key=model.bucket(inputs),
            priority=prepared.priority,
            lane=call.lane,
        )
        if self.cache is not None and (known := self.cache.find(key)) is not None:
            job.answers = [known]
            job.enqueued = job.started = job.finished = now
            job.done = True
            self._done(call, prepared, job, model, b"")
            try:
                self.recorder.cached(call, known, inputs)
            except Exception:
                logger.exception(_MISCOUNTED)
            return
        call.batcher = batcher
        batcher.submit(job, alone=call.alone)

    def _done(self, call: Call, prepared: Prepared, job: Job, model: ServedModel, key: bytes) -> None:
        if job.error is not None:
            self._fail(call, job.error)
            return
        bad = first_bad_row(job.answers or ())
        if bad is not None:
            self._fail(call, BadOutputError(f"row {bad}: the model answered with NaN or infinity"))
            return
        if key and self.cache is not None and job.answers:
            self.cache.keep(key, job.answers)
        try:
            if self.recorder.signer.active and job.rows <= prepared.max_ids:
                job.ids = self._issue_ids(call, job)
            reply = prepared.encode(model, job)
        except Exception:
            logger.exception("encoding an answer failed")
            self._fail(call, ServingError("internal error; the server's log has the details"))
            return
        self._send(call, reply)
        try:
            self.recorder.answered(call, time.perf_counter())
            if self.payloads is not None:
                self.payloads.offer(call, job, model)
        except Exception:
            logger.exception(_MISCOUNTED)
        self._ended(call)

    def _issue_ids(self, call: Call, job: Job) -> list[str]:
        issued, revision = int(time.time()), self.settings.revision
        return [
            self.recorder.signer.issue(Prediction(revision, call.lane, issued, index, new_nonce()))
            for index in predicted_classes(job.answers or ())
        ]

    def _fail(self, call: Call, error: ServingError) -> None:
        if error.status == 500:
            logger.warning("a request failed: %s", error, exc_info=error.__cause__, extra=self._identify(call))
        if call.refuse is not None:
            if not call.abandoned:
                call.refuse(error)
            self._count_failure(call, error)
            self._ended(call)
            return
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if isinstance(error, OverloadedError):
            headers = ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))),)
        elif isinstance(error, UnavailableError):
            headers = (_DRAINING, (b"retry-after", b"1")) if error.elsewhere else ((b"retry-after", b"1"),)
        self._send(call, Reply(error.status, error_body(str(error)), headers=headers))
        self._count_failure(call, error)
        self._ended(call)

    def _count_failure(self, call: Call, error: ServingError) -> None:
        try:
            self.recorder.failed(call, error, time.perf_counter())
        except Exception:
            logger.exception(_MISCOUNTED)

    @staticmethod
    def _identify(call: Call) -> dict[str, str]:
        """What finds a request in the logs of others: its id and its W3C trace."""
        trace = call.headers.get(b"traceparent", b"").decode("latin-1").split("-")
        return {
            "route": call.route.name,
            "requestId": call.headers.get(b"x-request-id", b"").decode("latin-1")[:128],
            "traceId": trace[1] if len(trace) == 4 else "",
        }

    @staticmethod
    def _send(call: Call, reply: Reply) -> None:
        if call.abandoned:
            return
        try:
            call.reply(reply)
        except Exception:
            logger.exception("an answer could not be written")

    def _ended(self, call: Call) -> None:
        # A call, its job and their callbacks refer to each other; left so, they would wait for the garbage collector,
        # a thousand requests at a time.
        call.reply = call.refuse = _nobody_waits
        if call.job is not None:
            call.job.on_done = _nobody_waits
        self.in_flight -= 1
        if self.in_flight == 0:
            self.idle.set()


def _nobody_waits(_: object) -> None:
    """What a call that has ended tells its client, and a phase where nobody follows."""
