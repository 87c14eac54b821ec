"""A sample of real requests and answers, for debugging and retraining: opt-in, redacted, never in the way.

Payloads are personal data more often than not, so nothing is written unless a file was named, only a sample is,
and named features never leave the process. Writing happens on a thread of its own; when it cannot keep up, samples
are dropped, not requests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import threading
import time
from pathlib import Path
from typing import Any, Final

import orjson

from mlserve_runtime.batching.queue import Job
from mlserve_runtime.calls import Call
from mlserve_runtime.model import ServedModel, collect_outputs, collect_predictions
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.sink import Sample, Sink

logger = logging.getLogger(__name__)

REDACTED: Final = "[redacted]"
MAX_VALUES: Final = 4096
"""Tensors with more values are described, not written."""
_WAITING: Final = 256
_IDLE_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 5.0


class JsonLines:
    """A line of JSON for every request, appended to a file that several processes may share."""

    def __init__(self, path: Path, redact: frozenset[str]) -> None:
        self._path = path
        self._redact = redact
        self._file: int | None = None

    def write(self, sample: Sample) -> None:
        """One system call a line, so that lines of several processes do not mix."""
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        answers = sample.answers
        line = {
            "time": round(sample.time, 3),
            "revision": sample.model.revision,
            "route": sample.route,
            "requestId": sample.request_id,
            "lane": sample.lane,
            "latencyMillis": round(sample.latency_millis, 3),
            "inputs": {name: self._tensor(name, array, sample.model) for name, array in sample.inputs.items()},
            "predictions": collect_predictions(answers) or _plain(collect_outputs(answers)),
        }
        os.write(
            self._file, orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        )

    def tick(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)

    def _tensor(self, name: str, array: Any, model: ServedModel) -> Any:
        if name in self._redact:
            return REDACTED
        features = model.artifact.spec.input(name).feature_names
        if features and len(features) * len(array) <= MAX_VALUES:
            rows = array.reshape(len(array), -1).tolist()
            return [
                {key: REDACTED if key in self._redact else value for key, value in zip(features, row, strict=True)}
                for row in rows
            ]
        return {"shape": list(array.shape), "datatype": str(array.dtype)}


class PayloadLog:
    """Samples answered requests into a sink, on a thread of its own."""

    def __init__(self, sink: Sink, per_mille: int) -> None:
        self.written = 0
        self.dropped = 0
        self._sink = sink
        self._per_mille = per_mille
        self._waiting: queue.Queue[Sample | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, name="payload-log", daemon=True)
        self._thread.start()

    def offer(self, call: Call, job: Job, model: ServedModel) -> None:
        """Sample an answered request."""
        if random.random() * 1000 >= self._per_mille:  # noqa: S311 - a sample, not a secret
            return
        sample = Sample(
            time=time.time(),
            route=call.route.name,
            request_id=call.headers.get(b"x-request-id", b"").decode("latin-1"),
            lane=call.lane,
            latency_millis=(time.perf_counter() - call.received) * 1e3,
            inputs=job.inputs,
            answers=job.answers or (),
            model=model,
        )
        try:
            self._waiting.put_nowait(sample)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits; a sink that hangs is not waited for without end."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=_CLOSE_SECONDS)
            self._thread.join(_CLOSE_SECONDS)

    def _write(self) -> None:
        ended = False
        ticked = time.monotonic()
        try:
            while not ended:
                with contextlib.suppress(queue.Empty):
                    sample = self._waiting.get(timeout=_IDLE_SECONDS)
                    if sample is None:
                        ended = True
                        self._sink.close()
                        break
                    self._sink.write(sample)
                    self.written += 1
                if time.monotonic() - ticked >= _IDLE_SECONDS:
                    self._sink.tick()
                    ticked = time.monotonic()
        except Exception as error:
            logger.exception("the payload log ends: %s", error)  # noqa: TRY401 - the text is for people
        while not ended:  # whoever closes the log still waits for its thread
            ended = self._waiting.get() is None
            self.dropped += not ended


def open_payload_log(settings: Settings) -> PayloadLog | None:
    """The log the settings ask for; None where they ask for none, or (said in the log) it cannot be had."""
    if not settings.payload_log:
        return None
    path, redact = Path(settings.payload_log), frozenset(settings.payload_redact)
    sink: Sink
    if settings.payload_format == "parquet":
        try:
            from mlserve_runtime.telemetry.parquet import ParquetFiles
        except ImportError:
            logger.error("payloads are not logged: format parquet needs pyarrow, install mlserve[parquet]")  # noqa: TRY400
            return None
        sink = ParquetFiles(path, redact)
    else:
        sink = JsonLines(path, redact)
    return PayloadLog(sink, settings.payload_sample_per_mille)


def _plain(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array.tolist() if array.size <= MAX_VALUES else list(array.shape) for name, array in outputs.items()}
