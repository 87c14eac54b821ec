"""Counting what the model is asked and what it answers, on the bins of reference profiles.

Every batch is counted on the model's own profile, and during a rollout also on stable's, so that both arms have
counts on the same bins. Inputs are counted raw, before preprocessing: a broken preprocessing step then shows as a
difference of predictions, not of inputs.

A window of drift needs some hundred rows, a busy server has as many in a moment. So counting has a budget of time: who
hands in batches asks it first, and leaves those beyond it out whole.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlserve_core.statistics.counter import ProfileCounter
from mlserve_core.statistics.profile import ProfileError, ReferenceProfile
from mlserve_core.wire import COMPARISON_FILE, ProfileCounts
from mlserve_runtime.processing import Pipeline, Predictions, Tensors
from mlserve_runtime.processing.predictions import read_predictions
from mlserve_runtime.telemetry.budget import Budget
from mlserve_runtime.telemetry.histogram import Histogram

logger = logging.getLogger(__name__)

_GATHERED_ROWS: Final = 512
_GATHERED_BYTES: Final = 256 * 2**10


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the operator asks to compare with during a rollout."""

    rollout: str
    profile: ReferenceProfile


class LaneProfiles:
    """Counters of one lane on one profile each; a profile that does not fit the model is dropped with a warning.

    Rows are gathered and counted together: the arithmetic of a batch of one costs almost as much as that of a hundred.
    """

    def __init__(
        self, own: ReferenceProfile | None, pipeline: Pipeline, confidence: Histogram, budget: Budget | None = None
    ) -> None:
        self._pipeline = pipeline
        self._confidence = confidence
        self._budget = budget or Budget()
        self._own = _counter(own)
        self._comparison: ProfileCounter | None = None
        self._inputs: list[Tensors] = []
        self._scores: list[npt.NDArray[Any]] = []
        self._rows = 0
        self._bytes = 0

    def compare(self, comparison: Comparison | None) -> None:
        """Begin counting on another profile from zero, or stop."""
        self.flush()
        self._comparison = _counter(comparison.profile if comparison else None)

    def update(self, inputs: Tensors, scores: npt.NDArray[Any]) -> None:
        """Gather a batch of raw inputs and the model's first output."""
        self._scores.append(scores)
        self._rows += len(scores)
        if self._own is not None or self._comparison is not None:
            self._inputs.append(inputs)
            self._bytes += sum(array.nbytes for array in inputs.values())
        if self._rows >= _GATHERED_ROWS or self._bytes >= _GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Count what was gathered."""
        if not self._rows:
            return
        with self._budget.charged():
            self._count_gathered()

    def _count_gathered(self) -> None:
        parts, scores = self._inputs, self._scores
        self._inputs, self._scores, self._rows, self._bytes = [], [], 0, 0
        predictions = read_predictions(self._pipeline.spec, np.concatenate(scores))
        if predictions is not None and predictions.confidence is not None:
            self._confidence.observe_many(predictions.confidence)
        if self._own is None and self._comparison is None:
            return
        inputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if self._own is not None and not self._count(self._own, inputs, predictions):
            self._own = None
        if self._comparison is not None and not self._count(self._comparison, inputs, predictions):
            self._comparison = None

    def counts(self) -> tuple[ProfileCounts | None, ProfileCounts | None]:
        """Snapshots on the own and the comparison profile, gathered rows included."""
        self.flush()
        return (
            self._own.counts() if self._own else None,
            self._comparison.counts() if self._comparison else None,
        )

    def _count(self, counter: ProfileCounter, inputs: Tensors, predictions: Predictions | None) -> bool:
        try:
            rows = feature_rows(inputs, counter.profile, self._pipeline)
            if predictions is None:
                counter.update(rows)
            elif predictions.values is not None:
                counter.update(rows, predictions=predictions.values)
            else:
                counter.update(rows, predictions=predictions.classes, probabilities=predictions.probabilities)
        except (ProfileError, KeyError, ValueError, TypeError) as error:
            logger.warning("the profile does not fit the model, nothing is counted on it: %s", error)
            return False
        return True


def feature_rows(inputs: Tensors, profile: ReferenceProfile, pipeline: Pipeline) -> npt.NDArray[Any]:
    """Raw values [n, features] in the order of the profile. Raises KeyError for a feature the model does not have."""
    if len(inputs) == 1:
        (array,) = inputs.values()
        flat = array.reshape(len(array), -1)
        if profile.projection is not None or tuple(profile.feature_names) == pipeline.feature_names:
            return flat
    if profile.projection is not None:
        return np.concatenate([array.reshape(len(array), -1) for array in inputs.values()], axis=1)
    columns = pipeline.columns(inputs)
    return np.stack([columns[name] for name in profile.feature_names], axis=1)


def read_profile(path: Path | None) -> ReferenceProfile | None:
    """The profile of an artifact; None where it has none or it cannot be used (said in the log)."""
    if path is None:
        return None
    try:
        return ReferenceProfile.from_json(path.read_bytes())
    except (ProfileError, OSError) as error:
        logger.warning("the artifact's profile.json is not used: %s", error)
        return None


class ComparisonFile:
    """`comparison.json` of a ConfigMap volume: read again only when its identity on disk changes."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / COMPARISON_FILE
        self._seen: tuple[int, int, int] | None = None

    def poll(self) -> tuple[bool, Comparison | None]:
        """Whether it changed since the last call, and what it says now; unreadable content counts as absent."""
        try:
            stat = self._path.stat()
            identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            identity = None
        if identity == self._seen:
            return False, None
        self._seen = identity
        return True, self._read() if identity else None

    def _read(self) -> Comparison | None:
        try:
            document = json.loads(self._path.read_bytes())
            profile = ReferenceProfile.model_validate(document["profile"])
            return Comparison(rollout=str(document.get("rolloutId", "")), profile=profile)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be used, nothing is compared: %s", COMPARISON_FILE, error)
            return None


def _counter(profile: ReferenceProfile | None) -> ProfileCounter | None:
    return ProfileCounter(profile) if profile is not None and (profile.features or profile.predictions.counts) else None
