"""Sampled rows as Parquet: a row for every prediction, in the columns that `mlserve drift` and `mlserve profile` read.

A Parquet file can only be read once it is finished, so rows are gathered in memory, written under a hidden name and
renamed: whoever lists the directory sees whole files and nothing else. Files are kept small in rows, bytes and time,
because what is gathered is lost with the process.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlserve_runtime.model import ServedModel, predicted_classes
from mlserve_runtime.telemetry.sink import Sample

_ROWS: Final = 10_000
_BYTES: Final = 16 * 2**20
_SECONDS: Final = 60.0


class ParquetFiles:
    """Files of a directory, one after the other. See sink.Sink.

    Args:
        directory: Created if absent.
        redact: Features and tensors that have no column.
        rows, size, seconds: A file is finished when it has so many rows or bytes (in memory), or is so old.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        directory: Path,
        redact: frozenset[str],
        *,
        rows: int = _ROWS,
        size: int = _BYTES,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._redact = redact
        self._limits = (rows, size, seconds)
        self._clock = clock
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._size = 0
        self._began = 0.0

    def write(self, sample: Sample) -> None:
        """Gather the rows of a request; a file is finished when there are enough."""
        table = self._table(sample)
        if self._tables and not table.schema.equals(self._tables[0].schema, check_metadata=True):
            self._finish()
        if not self._tables:
            self._began = self._clock()
        self._tables.append(table)
        self._rows += table.num_rows
        self._size += table.nbytes
        rows, size, _ = self._limits
        if self._rows >= rows or self._size >= size:
            self._finish()

    def tick(self) -> None:
        """Finish a file that is old enough."""
        if self._tables and self._clock() - self._began >= self._limits[2]:
            self._finish()

    def close(self) -> None:
        """Finish the last file."""
        if self._tables:
            self._finish()

    def _finish(self) -> None:
        table = pa.concat_tables(self._tables).combine_chunks()
        self._tables, self._rows, self._size = [], 0, 0
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:12]}.parquet"
        partial = self._directory / f".{name}.partial"
        try:
            pq.write_table(table, partial, compression="zstd")
            partial.rename(self._directory / name)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    def _table(self, sample: Sample) -> pa.Table:
        """The features and the prediction of every row, and where it came from."""
        model, rows = sample.model, len(next(iter(sample.inputs.values())))
        columns: dict[str, pa.Array] = {
            "timestamp": pa.array([round(sample.time * 1e3)] * rows, pa.timestamp("ms", tz="UTC")),
            "latency_ms": pa.array([sample.latency_millis] * rows, pa.float64()),
            "status": pa.array([200] * rows, pa.int16()),
            "request_lane": pa.array([sample.lane] * rows, pa.string()),
            **_predictions(sample),
        }
        for name, array in sample.inputs.items():
            columns |= self._features(name, array, model)
        metadata = {
            "revision": model.revision,
            "digest": model.artifact.digest,
            "redacted": ",".join(sorted(self._redact)),
        }
        return pa.table(columns, metadata=metadata)

    def _features(self, name: str, array: Any, model: ServedModel) -> dict[str, pa.Array]:
        if name in self._redact:
            return {}
        features = model.artifact.spec.input(name).feature_names
        flat = array.reshape(len(array), -1)
        return {
            feature: _column(flat[:, index]) for index, feature in enumerate(features) if feature not in self._redact
        }


def _predictions(sample: Sample) -> dict[str, pa.Array]:
    """`prediction` and, of a classifier, `score`: the probability of the predicted class."""
    found = [part.result.predictions for part in sample.answers]
    if not found or found[0] is None:
        return {}
    if found[0].values is not None:
        values = np.concatenate([part.values[a.start : a.stop] for part, a in zip(found, sample.answers, strict=True)])
        return {"prediction": pa.array(values.reshape(len(values), -1)[:, 0], pa.float64())}
    labels = sample.model.classes
    scores = np.concatenate([part.confidence[a.start : a.stop] for part, a in zip(found, sample.answers, strict=True)])
    return {
        "prediction": pa.array([labels[index] for index in predicted_classes(sample.answers)], pa.string()),
        "score": pa.array(scores, pa.float64()),
    }


def _column(values: Any) -> pa.Array:
    if values.dtype.hasobject:
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
        return pa.array([None if text is None else str(text) for text in texts], pa.string())
    return pa.array(np.ascontiguousarray(values))
