"""Counting live rows on the bins of a profile, at a cost the request path does not feel.

A loop over features would cost microseconds each. Here all features of a batch are binned together, by a binary search
whose five steps are array operations: no branch depends on the data, so fresh rows cost what repeated ones do. For a
single row even those steps are too many: it is compared with all edges at once, and the outcomes are added up as they
are, to become bins when somebody reads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlserve_core.statistics.profile import (
    UNIT_BINS,
    CategoricalFeature,
    Floats,
    NumericFeature,
    ProfileError,
    ReferenceProfile,
    as_binned_type,
)
from mlserve_core.wire import FeatureCounts, ProfileCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_STEPS: Final = (16, 8, 4, 2, 1)
_WIDTH: Final = 32
"""Edges of a feature, padded with infinity to a power of two."""
_FALSE: Final = np.False_.tobytes()
_MAX_SINGLE_ROWS: Final = np.iinfo(np.int16).max


class ProfileCounter:
    """Cumulative counts of rows and predictions on one profile. Not safe for use by several threads at once."""

    def __init__(self, profile: ReferenceProfile) -> None:
        self.profile = profile
        self._digest = profile.digest()
        self._rows = 0
        self._matrix = profile.projection.matrix() if profile.projection else None
        numeric = [(i, f) for i, f in enumerate(profile.features) if isinstance(f, NumericFeature)]
        self._numeric_columns = np.array([i for i, _ in numeric], dtype=np.intp)
        self._all_numeric = len(numeric) == len(profile.features)
        self._numeric = NumericBins([f for _, f in numeric])
        self._categorical = [
            (i, CategoryBins(f)) for i, f in enumerate(profile.features) if isinstance(f, CategoricalFeature)
        ]
        answers = profile.predictions
        self._scores = NumericBins([_score_feature(profile)]) if answers.edges else None
        self._classes = np.zeros(len(answers.classes), dtype=np.int64)
        self._confidence = np.zeros(UNIT_BINS, dtype=np.int64)
        self._entropy = np.zeros(UNIT_BINS, dtype=np.int64)

    @property
    def rows(self) -> int:
        """Rows counted so far."""
        return self._rows

    def update(
        self,
        rows: NDArray[Any],
        *,
        predictions: NDArray[Any] | None = None,
        probabilities: NDArray[Any] | None = None,
        confidence: NDArray[Any] | None = None,
        entropy: NDArray[Any] | None = None,
    ) -> None:
        """Count a batch.

        Args:
            rows: n x features, in the order of the profile; raw, before preprocessing. Of a numeric dtype, or
                object for mixed columns. With a projection: n x anything, flattened per row.
            predictions: n class indices, or n scores of a regression.
            probabilities: n x classes; gives whichever of predictions, confidence and entropy is not given.
            confidence: n largest probabilities.
            entropy: n entropies over ln(classes), in 0..1.

        Raises:
            ProfileError: when a row has another number of columns than the profile.
        """
        self._count_rows(rows)
        if probabilities is not None:
            if predictions is None:
                predictions = probabilities.argmax(axis=1)
            if confidence is None:
                confidence = probabilities.max(axis=1)
            if entropy is None:
                entropy = normalised_entropy(probabilities)
        if predictions is not None and self._classes.size:
            inside = predictions[(predictions >= 0) & (predictions < self._classes.size)]
            self._classes += np.bincount(inside.astype(np.intp), minlength=self._classes.size)
        elif predictions is not None and self._scores is not None:
            self._scores.count(np.asarray(predictions).reshape(-1, 1))
        if confidence is not None:
            self._confidence += unit_histogram(confidence)
        if entropy is not None:
            self._entropy += unit_histogram(entropy)
        self._rows += len(rows)

    def _count_rows(self, rows: NDArray[Any]) -> None:
        if self.profile.projection is not None and self._matrix is not None:
            rows = self.profile.projection.apply(rows, self._matrix)
        if rows.ndim != 2 or rows.shape[1] != len(self.profile.features):
            raise ProfileError(
                f"rows of shape {rows.shape} do not fit a profile of {len(self.profile.features)} features "
                f"({', '.join(self.profile.feature_names[:5])}, ...)"
            )
        if self._numeric.size:
            self._numeric.count(rows if self._all_numeric else rows[:, self._numeric_columns])
        for column, bins in self._categorical:
            bins.count(rows[:, column])

    def merge(self, other: ProfileCounter) -> None:
        """Add what another counter of the same profile counted."""
        if other._digest != self._digest:
            raise ProfileError("counts on different profiles cannot be added")
        self._rows += other._rows
        self._numeric.merge(other._numeric)
        for (_, mine), (_, theirs) in zip(self._categorical, other._categorical, strict=True):
            mine.flat += theirs.flat
        if self._scores is not None and other._scores is not None:
            self._scores.merge(other._scores)
        self._classes += other._classes
        self._confidence += other._confidence
        self._entropy += other._entropy

    def counts(self) -> ProfileCounts:
        """A snapshot for the wire."""
        features: dict[str, FeatureCounts] = self._numeric.counts()
        features |= {bins.feature.name: bins.counts() for _, bins in self._categorical}
        scores = self._scores.counts()["score"].counts if self._scores is not None else []
        return ProfileCounts(
            profile_digest=self._digest,
            rows=self._rows,
            features={name: features[name] for name in self.profile.feature_names},
            predictions=self._classes.tolist() if self._classes.size else scores,
            confidence=self._confidence.tolist(),
            entropy=self._entropy.tolist(),
        )


class NumericBins:
    """Counters of several numeric features: per feature its bins, then missing, not finite, no number.

    Edges and counters lie place by place (all features' first, all features' second, ...), so the index of the first
    edge that is not below a value is the index of its counter.
    """

    _EXTRA: Final = 3

    def __init__(self, features: list[NumericFeature]) -> None:
        self.features = features
        self.size = len(features)
        self._counters = np.zeros((_WIDTH + self._EXTRA, self.size), dtype=np.int64)
        self._edges = np.full((_WIDTH, self.size), np.inf, dtype=np.float32)
        for column, feature in enumerate(features):
            self._edges[: len(feature.edges), column] = feature.edges
        self._flat_edges = self._edges.ravel()
        self._columns = np.arange(self.size, dtype=np.int32)
        self._above = np.zeros((_WIDTH, self.size), dtype=np.int16)
        """Of the rows counted singly, how many lie above each edge; not in `_counters` yet."""
        self._single_rows = 0

    def count(self, columns: NDArray[Any]) -> None:
        """Add n rows (n x features)."""
        values, bad = _as_numbers(columns)
        finite = np.isfinite(values)
        all_finite = _FALSE not in finite.tobytes() if len(values) == 1 else bool(finite.all())
        if len(values) == 1 and all_finite and bad is None:
            self._above += self._edges < values[0]
            self._single_rows += 1
            if self._single_rows == _MAX_SINGLE_ROWS:
                self._fold()
            return
        slots = self._places(values)
        if not all_finite:
            slots = np.where(finite, slots, self._columns + (_WIDTH + np.isinf(values)) * self.size)
        if bad is not None:
            slots = np.where(bad, self._columns + (_WIDTH + 2) * self.size, slots)
        flat = self._counters.reshape(-1)
        flat += np.bincount(slots.ravel(), minlength=flat.size)

    def _places(self, values: Floats) -> NDArray[Any]:
        """Where in `_edges` the first edge of its feature is that is not below each value (n x features)."""
        place: NDArray[Any] = np.broadcast_to(self._columns, values.shape).copy()
        for step in _STEPS:
            above = self._flat_edges.take(place + (step - 1) * self.size) < values
            place += above * np.int32(step * self.size)
        return place

    def _fold(self) -> None:
        """Singly counted rows become bins: a value is in bin k when it lies above edge k - 1, but not above edge k."""
        everything = np.full((1, self.size), self._single_rows, dtype=np.int16)
        self._counters[:_WIDTH] -= np.diff(np.concatenate([everything, self._above]), axis=0)
        self._above[:] = 0
        self._single_rows = 0

    def merge(self, other: NumericBins) -> None:
        """Add what was counted for the same features elsewhere."""
        other._fold()
        self._counters += other._counters

    def counts(self) -> dict[str, FeatureCounts]:
        """Counts per feature, by name."""
        self._fold()
        return {
            feature.name: FeatureCounts(
                counts=column[: len(feature.edges) + 1],
                missing=column[_WIDTH],
                non_finite=column[_WIDTH + 1],
                unseen=column[_WIDTH + 2],
            )
            for feature, column in zip(self.features, self._counters.T.tolist(), strict=True)
        }


class CategoryBins:
    """Counters of one categorical feature: categories, other, missing, unseen."""

    def __init__(self, feature: CategoricalFeature) -> None:
        self.feature = feature
        n = len(feature.categories)
        self._other, self._missing, self._unseen = n, n + 1, n + 2
        self._index = {name: i for i, name in enumerate(feature.categories)} | dict.fromkeys(feature.rare, n)
        self._default = self._unseen if feature.rare_is_complete else self._other
        self.flat = np.zeros(n + 3, dtype=np.int64)

    def count(self, column: NDArray[Any]) -> None:
        """Add n values."""
        for value in column.tolist():
            name = category_name(value)
            slot = self._missing if name is None else self._index.get(name, self._default)
            self.flat[slot] += 1

    def counts(self) -> FeatureCounts:
        """Counts for the wire."""
        values: list[int] = self.flat.tolist()
        return FeatureCounts(counts=values[: self._missing], missing=values[self._missing], unseen=values[self._unseen])


def category_name(value: Any) -> str | None:
    """A value as the name of a category: `3`, `3.0` and `"3"` are one category; None, NaN and "" are missing.

    >>> category_name(3.0), category_name("3"), category_name(float("nan"))
    ('3', '3', None)
    """
    if value is None or value == "" or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def class_index(name: str | None, index: Mapping[str, int]) -> int:
    """Index of a class that is given by name or by index, by name where names are numbers themselves; -1 for neither.

    >>> class_index("cat", {"cat": 0, "dog": 1}), class_index("1", {"cat": 0, "dog": 1}), class_index("2", {"cat": 0})
    (0, 1, -1)
    """
    if name is None:
        return -1
    if name in index:
        return index[name]
    return int(name) if name.isdigit() and int(name) < len(index) else -1


def as_float(value: Any) -> float:
    """A value as a float; infinite for an integer that no float can hold. Raises TypeError or ValueError for others."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def unit_histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """Counts of values of [0, 1] in UNIT_BINS equal bins; values that are not finite are left out."""
    finite = values[np.isfinite(values)]
    bins = np.clip((finite * UNIT_BINS).astype(np.intp), 0, UNIT_BINS - 1)
    return np.bincount(bins, minlength=UNIT_BINS)


def normalised_entropy(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Entropy over ln(classes) per row of n x classes, in 0..1; 0 ln 0 = 0."""
    safe = np.where(probabilities > 0, probabilities, 1.0)
    entropy: NDArray[Any] = -(safe * np.log(safe)).sum(axis=1) / math.log(max(probabilities.shape[1], 2))
    return entropy


def _as_numbers(columns: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_] | None]:
    """Columns in the bins' precision, and where there is something that is no number at all."""
    if columns.dtype.kind in "fiub":
        return as_binned_type(columns), None
    numbers = np.empty(columns.shape, dtype=np.float64)
    bad = np.zeros(columns.shape, dtype=np.bool_)
    for place, value in np.ndenumerate(columns):
        if category_name(value) is None:
            numbers[place] = np.nan
            continue
        try:
            numbers[place] = as_float(value)
        except (TypeError, ValueError):
            numbers[place], bad[place] = 0.0, True
    return as_binned_type(numbers), bad


def _score_feature(profile: ReferenceProfile) -> NumericFeature:
    answers = profile.predictions
    return NumericFeature(name="score", edges=answers.edges, counts=answers.counts)
