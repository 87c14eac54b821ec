"""Held-out rows from a file: what a reference profile is computed from.

.csv     a header with the names of the features, and optionally a column of labels
.jsonl   one object per line as `POST /predict` takes it, optionally with "label"
.npz     an array per input tensor under its name, and optionally `labels`
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlserve_core.artifact import ArtifactError
from mlserve_runtime.processing import DTYPES, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from mlserve_runtime.processing import Pipeline, Tensors
    from mlserve_runtime.processing.tensors import Array

LABEL: Final = "label"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows a model was not trained on."""

    inputs: Tensors
    """Raw tensors of n rows, as the signature names them."""
    labels: Array | None = None
    """Names of the true classes, or true values of a regression [n]."""
    outputs: Array | None = None
    """First output of each row [n, c], if it was computed elsewhere (out of fold); else the model is asked."""

    @property
    def rows(self) -> int:
        """How many."""
        return len(next(iter(self.inputs.values())))


def read_held_out(path: Path, pipeline: Pipeline, label: str = LABEL) -> HeldOut:
    """Read rows in any of the formats. Raises ArtifactError naming file, row and what was expected."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ArtifactError(f"{path.name}: held-out data must be one of {', '.join(readers)}")
    try:
        return reader(path, pipeline, label)
    except (InputError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path.name}: {error}") from error
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read: {error.strerror}") from error


def _read_csv(path: Path, pipeline: Pipeline, label: str) -> HeldOut:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, strict=True)
        header = reader.fieldnames or []
        names = pipeline.feature_names
        missing = [name for name in names if name not in header]
        if missing:
            raise ValueError(f"no column named {', '.join(missing[:8])}; there are {', '.join(header[:12])}")
        rows = list(reader)
    text = {
        feature for tensor in pipeline.spec.inputs if tensor.datatype == "BYTES" for feature in tensor.feature_names
    }
    payloads = [
        {"features": {name: row[name] if name in text else _number(row[name], name, line) for name in names}}
        for line, row in enumerate(rows, start=2)
    ]
    labels = np.asarray([row[label] for row in rows], dtype=np.object_) if label in header else None
    return HeldOut(pipeline.from_json_batch(payloads), labels)


def _number(value: str | None, name: str, line: int) -> float | None:
    if value is None or not value.strip():
        return None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"line {line}, column {name}: {value[:40]!r} is no number") from None


def _read_jsonl(path: Path, pipeline: Pipeline, label: str) -> HeldOut:
    payloads = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    labelled = bool(payloads) and all(isinstance(payload, dict) and label in payload for payload in payloads)
    labels = np.asarray([str(payload[label]) for payload in payloads], dtype=np.object_) if labelled else None
    return HeldOut(pipeline.from_json_batch(payloads), labels)


def _read_npz(path: Path, pipeline: Pipeline, label: str) -> HeldOut:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    labels = arrays.pop("labels", arrays.pop(label, None))
    specs = {tensor.name: tensor for tensor in pipeline.spec.inputs}
    inputs = {
        name: array.astype(DTYPES[specs[name].datatype], copy=False) if name in specs else array
        for name, array in arrays.items()
    }
    return HeldOut(pipeline.check(inputs), labels)
