"""A sample of real requests and answers, for debugging and retraining: opt-in, redacted, never in the way.

Payloads are personal data more often than not, so nothing is written unless a file was named, only a sample is,
and named features never leave the process. Writing happens on a thread of its own; when it cannot keep up, samples
are dropped, not requests.
"""

from __future__ import annotations

import logging
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

logger = logging.getLogger(__name__)

REDACTED: Final = "[redacted]"
_WAITING: Final = 256
_MAX_VALUES: Final = 4096
"""Tensors with more values are described, not written."""


class PayloadLog:
    """Appends JSON lines to a file."""

    def __init__(self, path: Path, *, per_mille: int, redact: tuple[str, ...]) -> None:
        self._path = path
        self._per_mille = per_mille
        self._redact = frozenset(redact)
        self._lines: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self.dropped = 0
        self._thread = threading.Thread(target=self._write, name="payload-log", daemon=True)
        self._thread.start()

    def offer(self, call: Call, job: Job, model: ServedModel) -> None:
        """Sample an answered request."""
        if random.random() * 1000 >= self._per_mille:  # noqa: S311 - a sample, not a secret
            return
        line = {
            "time": round(time.time(), 3),
            "revision": model.revision,
            "route": call.route.name,
            "requestId": call.headers.get(b"x-request-id", b"").decode("latin-1"),
            "lane": call.lane,
            "latencyMillis": round((time.perf_counter() - call.received) * 1e3, 3),
            "inputs": {name: self._tensor(name, array, model) for name, array in job.inputs.items()},
            "predictions": collect_predictions(job.answers or ()) or _plain(collect_outputs(job.answers or ())),
        }
        try:
            self._lines.put_nowait(orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits."""
        self._lines.put(None)
        self._thread.join(5)

    def _tensor(self, name: str, array: Any, model: ServedModel) -> Any:
        if name in self._redact:
            return REDACTED
        features = model.artifact.spec.input(name).feature_names
        if features and len(features) * len(array) <= _MAX_VALUES:
            rows = array.reshape(len(array), -1).tolist()
            return [
                {key: REDACTED if key in self._redact else value for key, value in zip(features, row, strict=True)}
                for row in rows
            ]
        return {"shape": list(array.shape), "datatype": str(array.dtype)}

    def _write(self) -> None:
        try:
            with self._path.open("ab") as file:
                while (line := self._lines.get()) is not None:
                    file.write(line + b"\n")
                    if self._lines.empty():
                        file.flush()
        except OSError as error:
            logger.error("the payload log ends: %s", error)  # noqa: TRY400 - the reason is all there is to say


def _plain(outputs: dict[str, Any]) -> dict[str, Any]:
    return {name: array.tolist() if array.size <= _MAX_VALUES else list(array.shape) for name, array in outputs.items()}
