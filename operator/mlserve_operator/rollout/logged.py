"""Logged rows of one version, read from columns of unknown origin.

A log is made by people: a number may be a word, a clock may have no zone, and the profile at hand may be of another
model. What cannot be understood is refused with its place; read as something else it would change a verdict unseen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlserve_core.statistics import ProfileError, ReferenceProfile
from mlserve_core.statistics.counter import category_name, class_index
from mlserve_core.statistics.profile import CategoricalFeature, PredictionProfile, numeric_edges

Columns = Mapping[str, Sequence[Any]]

RESERVED: Final = ("prediction", "score", "label", "latency_ms", "status", "timestamp", "request_lane")
"""Columns that tell about the answer, not about the input."""
MAX_CLASSES: Final = 64
"""Different predictions up to which they are taken for classes, where the profile says nothing of them."""
LATEST_SECONDS: Final = 1e11
"""The year 5138; larger numbers are milliseconds, or nothing."""
EXACT: Final = 2**53
"""Whole numbers beyond it are not all different as floating point numbers."""


@dataclass
class Arm:
    """Rows of one version, with what is needed to count a slice of them."""

    name: str
    features: NDArray[Any]
    predictions: NDArray[Any] | None
    scores: NDArray[np.float64] | None
    labels: list[str | None]
    names: list[str | None]
    """Predictions by name."""
    latency: NDArray[np.float64] | None
    status: NDArray[np.int64]
    bad: NDArray[np.bool_]
    """Answers without a usable prediction."""
    times: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def span(self) -> tuple[float, float] | None:
        """Between when the rows were logged, but for a tenth: a single clock that jumps is no other time."""
        if self.times is None:
            return None
        first, last = np.quantile(self.times, [0.05, 0.95])
        return float(first), float(last)


def judged(columns: Columns) -> dict[str, list[Any]]:
    """Rows that count. Those that the runtime logged in no lane were previews, or a user's second request."""
    rows = {name: list(cells) for name, cells in columns.items()}
    keep = [category_name(lane) is not None for lane in rows.get("request_lane", [])]
    if all(keep) or any(len(cells) != len(keep) for cells in rows.values()):
        return rows
    return {name: list(itertools.compress(cells, keep)) for name, cells in rows.items()}


def read_arm(profile: ReferenceProfile, name: str, columns: Columns) -> Arm:
    """Rows as the counters of a profile take them.

    Args:
        profile: whose features and classes are read; see `with_predictions`.
        name: of the arm, for messages.
        columns: by name; the profile's features and any of RESERVED.

    Raises:
        ProfileError: when there are no rows, a feature's column is missing, columns differ in length, or a cell is not
            what its column holds; says where.
    """
    lengths = {column: len(values) for column, values in columns.items()}
    n = max(lengths.values(), default=0)
    if n == 0:
        raise ProfileError(f"{name} has no rows")
    if len(set(lengths.values())) > 1:
        raise ProfileError(f"columns of {name} differ in length: {lengths}")
    absent = [feature for feature in profile.feature_names if feature not in columns]
    if absent and profile.projection is None:
        raise ProfileError(f"{name} has no column {', '.join(absent[:5])}; it has {', '.join(columns)}")
    answers, given = profile.predictions, columns.get("prediction")
    names: list[str | None] = [category_name(value) for value in given] if given is not None else [None] * n
    status = statuses(columns, name, n)
    bad = np.array([given is not None and value is None for value in names]) & (status < 400)
    predictions: NDArray[Any] | None = None
    if given is not None and answers.classes:
        index = {name: i for i, name in enumerate(answers.classes)}
        predictions = np.array([class_index(value, index) for value in names])
    elif given is not None and answers.edges:
        predictions = numbers(columns, "prediction", name)
    labels = columns.get("label") if not answers.edges else None  # equality says nothing of a regression
    return Arm(
        name=name,
        features=_features(profile, columns, n, name),
        predictions=predictions,
        scores=probabilities(columns, name) if "score" in columns and answers.classes else None,
        labels=[category_name(value) for value in labels or [None] * n],
        names=names,
        latency=numbers(columns, "latency_ms", name) if "latency_ms" in columns else None,
        status=status,
        bad=bad,
        times=times(columns, name) if "timestamp" in columns else None,
    )


def with_predictions(profile: ReferenceProfile, arms: Mapping[str, Columns]) -> ReferenceProfile:
    """The profile, able to hold every prediction that was logged.

    A profile of data alone says nothing of predictions: then stable's own answers (the first arm's) are what to compare
    with. Classes that the profile does not know are added, with no reference rows: nothing that was predicted is lost.

    Raises:
        ProfileError: when no prediction of an arm is of the profile's classes: it is the profile of another model.
    """
    given = {name: columns["prediction"] for name, columns in arms.items() if "prediction" in columns}
    answers = profile.predictions
    if not given or answers.edges:
        return profile
    distinct = {name: {text for value in values if (text := category_name(value))} for name, values in given.items()}
    everything = sorted(set().union(*distinct.values()))
    if not answers.counts:
        return profile.model_copy(update={"predictions": _unprofiled(everything, next(iter(given.values())))})
    index = {name: i for i, name in enumerate(answers.classes)}
    new = [name for name in everything if class_index(name, index) < 0]
    for name, seen in distinct.items():
        if seen and seen <= set(new):
            raise ProfileError(
                f"no prediction of {name} ({_some(sorted(seen))}) is a class of the profile "
                f"({_some(answers.classes)}): it is the profile of another model; "
                "leave the column out to compare the features alone"
            )
    grown = {"classes": [*answers.classes, *new], "counts": [*answers.counts, *[0] * len(new)]}
    return profile.model_copy(update={"predictions": answers.model_copy(update=grown)}) if new else profile


def _unprofiled(distinct: list[str], reference: Sequence[Any]) -> PredictionProfile:
    """Bins for predictions without a reference."""
    if len(distinct) <= MAX_CLASSES:
        return PredictionProfile(classes=distinct, counts=[0] * len(distinct))
    try:
        scores = np.array([math.nan if category_name(value) is None else float(value) for value in reference])
    except (TypeError, ValueError):
        raise ProfileError(
            f"column 'prediction' has {len(distinct)} different values ({_some(distinct)}): neither numbers nor "
            f"up to {MAX_CLASSES} classes; leave the column out to compare the features alone"
        ) from None
    edges = numeric_edges(scores[np.isfinite(scores)])
    return PredictionProfile(edges=edges, counts=[0] * (len(edges) + 1)) if edges else PredictionProfile()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


# --- columns ------------------------------------------------------------------------------------------------------


def numbers(columns: Columns, column: str, where: str, *, missing: float = math.nan) -> NDArray[np.float64]:
    """A column of numbers; empty cells become `missing`. Raises ProfileError for anything else, with its place."""
    found = np.empty(len(columns[column]))
    for row, value in enumerate(columns[column]):
        try:
            found[row] = missing if category_name(value) is None else float(value)
        except (TypeError, ValueError, OverflowError):
            raise ProfileError(
                f"column {column!r} of {where} has {value!r} in row {row + 1}, where a number belongs"
            ) from None
    return found


def probabilities(columns: Columns, where: str) -> NDArray[np.float64]:
    """The column `score`: how sure the model was, in 0..1."""
    found = numbers(columns, "score", where)
    outside = np.flatnonzero((found < 0) | (found > 1))
    if outside.size:
        raise ProfileError(
            f"column 'score' of {where} has {found[outside[0]]:g} in row {outside[0] + 1}; "
            "a score is the probability of the predicted class, in 0..1"
        )
    return found


def statuses(columns: Columns, where: str, n: int) -> NDArray[np.int64]:
    """The column `status`: HTTP status per row; 200 where nothing is said."""
    if "status" not in columns:
        return np.full(n, 200)
    found = numbers(columns, "status", where, missing=200)
    odd = np.flatnonzero(~((found >= 100) & (found < 600) & (found == np.floor(found))))
    if odd.size:
        raise ProfileError(
            f"column 'status' of {where} has {found[odd[0]]:g} in row {odd[0] + 1}, where an HTTP status belongs"
        )
    return found.astype(np.int64)


def times(columns: Columns, where: str) -> NDArray[np.float64]:
    """The column `timestamp` in seconds since the epoch; a time without a zone is UTC."""
    found = np.empty(len(columns["timestamp"]))
    for row, value in enumerate(columns["timestamp"]):
        try:
            found[row] = _seconds(value)
        except ValueError:
            raise ProfileError(
                f"timestamp {value!r} in row {row + 1} of {where} is neither ISO 8601 nor seconds since the epoch; "
                "leave the column out to compare rows in their order"
            ) from None
    return found


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        moment = datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    if not abs(seconds) < LATEST_SECONDS:
        raise ValueError(value)
    return seconds


def _features(profile: ReferenceProfile, columns: Columns, n: int, where: str) -> NDArray[Any]:
    if profile.projection is not None:
        names = [name for name in columns if name not in RESERVED]
        return np.column_stack([numbers(columns, name, where) for name in names]) if names else np.empty((n, 0))
    table = np.empty((n, len(profile.features)), dtype=object)
    exact = False
    for place, feature in enumerate(profile.features):
        table[:, place] = list(columns[feature.name])
        is_name = isinstance(feature, CategoricalFeature)
        exact |= is_name and any(isinstance(v, int) and abs(v) >= EXACT for v in columns[feature.name])
    try:
        return table if exact else table.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return table
