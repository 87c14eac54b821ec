"""Making a reference profile from held-out rows and what the model answered on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlserve_core.statistics.counter import (
    CategoryBins,
    NumericBins,
    as_float,
    category_name,
    class_index,
    normalised_entropy,
    unit_histogram,
)
from mlserve_core.statistics.profile import (
    MAX_CATEGORIES,
    MAX_RARE,
    UNIT_BINS,
    CategoricalFeature,
    NumericFeature,
    PredictionProfile,
    ProfileError,
    Projection,
    ReferenceProfile,
    as_binned_type,
    numeric_edges,
)
from mlserve_core.wire import FeatureCounts

MIN_CATEGORY_SHARE: Final = 0.005
NOISE_SPLITS: Final = 8

Rows = NDArray[Any] | Mapping[str, Sequence[Any]]


def build_profile(
    rows: Rows,
    *,
    feature_names: Sequence[str] | None = None,
    categorical: Collection[str] = (),
    predictions: Sequence[Any] | NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    probabilities: NDArray[Any] | None = None,
    confidence: Sequence[float] | NDArray[Any] | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    projections: int = 0,
    seed: int = 0,
    model_name: str = "",
    model_digest: str = "",
    created_at: str = "",
) -> ReferenceProfile:
    """Profile held-out rows.

    Args:
        rows: n x features, or a mapping of columns. With `projections`: n x anything (images, embeddings).
        feature_names: names of an array's columns; default `feature_0`, ...
        categorical: features to treat as categories; columns of text always are.
        predictions: n class indices or names (with `classes`), or n scores of a regression (without).
        classes: names of the classes, in the order of the model's outputs.
        probabilities: n x classes; gives predictions, confidence and entropy.
        confidence: n largest probabilities, where probabilities are not at hand.
        labels: n true classes (indices or names): adds the calibration table for accuracy without labels.
        projections: profile that many random projections instead of the columns themselves.
        seed: of the projections and of the splits for the noise floor.
        model_name: whose predictions these are.
        model_digest: digest of that model.
        created_at: ISO 8601 time, for people.

    Raises:
        ProfileError: no rows, columns of different lengths, a column named in `categorical` that is not there.
    """
    names, columns = _columns(rows, feature_names)
    projection = None
    if projections:
        flat = np.column_stack([np.asarray(column, dtype=np.float32) for column in columns])
        projection = Projection(inputs=flat.shape[1], outputs=projections, seed=seed)
        table = projection.apply(flat, projection.matrix())
        names, columns = projection.names, [table[:, i] for i in range(table.shape[1])]
    unknown = set(categorical) - set(names)
    if unknown:
        raise ProfileError(f"no column named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    n = len(columns[0])
    random = np.random.RandomState(seed)
    halves = [random.permutation(n) for _ in range(NOISE_SPLITS)]
    features = [
        _categorical(name, column, halves)
        if name in categorical or _is_text(column)
        else _numeric(name, column, halves)
        for name, column in zip(names, columns, strict=True)
    ]
    return ReferenceProfile(
        model_name=model_name,
        model_digest=model_digest,
        created_at=created_at,
        rows=n,
        features=features,
        projection=projection,
        predictions=_predictions(
            n,
            predictions=predictions,
            classes=classes,
            probabilities=probabilities,
            confidence=confidence,
            labels=labels,
            halves=halves,
        ),
    )


def _columns(rows: Rows, feature_names: Sequence[str] | None) -> tuple[list[str], list[NDArray[Any]]]:
    if isinstance(rows, Mapping):
        names = list(feature_names) if feature_names is not None else list(rows)
        absent = [name for name in names if name not in rows]
        if absent:
            raise ProfileError(f"no column named {', '.join(absent)}; there are {', '.join(rows)}")
        columns = [_array(rows[name]) for name in names]
    else:
        table = np.asarray(rows)
        table = table.reshape(len(table), -1) if table.ndim != 2 else table
        names = list(feature_names) if feature_names is not None else [f"feature_{i}" for i in range(table.shape[1])]
        if len(names) != table.shape[1]:
            raise ProfileError(f"{len(names)} feature names for {table.shape[1]} columns")
        columns = [table[:, i] for i in range(table.shape[1])]
    lengths = {len(column) for column in columns}
    if not columns or lengths == {0}:
        raise ProfileError("there are no rows to build a profile from")
    if len(lengths) > 1:
        raise ProfileError(f"columns have different lengths: {', '.join(map(str, sorted(lengths)))}")
    return names, columns


def _array(values: Sequence[Any]) -> NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values
    if all(isinstance(value, int | float) for value in values):
        # Long whole numbers may be names of categories, of which single digits count.
        if all(isinstance(value, int) and abs(value) < 2**63 for value in values):
            return np.asarray(values, dtype=np.int64)
        return np.array([as_float(value) for value in values])
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _is_text(column: NDArray[Any]) -> bool:
    """A column with anything in it that is no number (and not missing) holds categories."""
    if column.dtype.kind in "fiub":
        return False
    for value in column.tolist():
        if category_name(value) is None:
            continue
        try:
            as_float(value)
        except (TypeError, ValueError):
            return True
    return False


def _numeric(name: str, column: NDArray[Any], halves: list[NDArray[np.intp]]) -> NumericFeature:
    if column.dtype.kind not in "fiub":
        column = np.array([np.nan if category_name(v) is None else as_float(v) for v in column.tolist()])
    values = as_binned_type(column)
    finite = values[np.isfinite(values)].astype(np.float64)
    edges = numeric_edges(finite)
    bare = NumericFeature(name=name, edges=edges, counts=[0] * (len(edges) + 1))
    counted, noise = _binned(bare, values, halves)
    return bare.model_copy(
        update={
            "counts": counted.counts,
            "missing": counted.missing,
            "non_finite": counted.non_finite,
            "mean": float(finite.mean()) if finite.size else 0.0,
            "std": float(finite.std()) if finite.size else 0.0,
            "min": float(finite.min()) if finite.size else 0.0,
            "max": float(finite.max()) if finite.size else 0.0,
            "noise": noise,
        }
    )


def _binned(bare: NumericFeature, values: NDArray[Any], halves: list[NDArray[np.intp]]) -> tuple[FeatureCounts, float]:
    """Counts of values on a feature's edges, and their noise."""
    bins = NumericBins([bare])
    bins.count(values.reshape(-1, 1))
    binned = as_binned_type(values)
    valid = np.isfinite(binned)
    noise = 0.0
    if bare.edges and valid.sum() >= 2:
        places = np.searchsorted(np.array(bare.edges, dtype=np.float32), binned)
        noise = _noise(places, valid, len(bare.edges) + 1, halves, ordered=True)
    return bins.counts()[bare.name], noise


def _categorical(name: str, column: NDArray[Any], halves: list[NDArray[np.intp]]) -> CategoricalFeature:
    values = [category_name(value) for value in column.tolist()]
    present = [value for value in values if value is not None]
    distinct, counts = np.unique(np.array(present, dtype=object), return_counts=True)
    order = np.lexsort((np.arange(len(distinct)), -counts))
    frequent = [i for i in order if counts[i] >= MIN_CATEGORY_SHARE * len(present)][:MAX_CATEGORIES]
    chosen = set(frequent)
    rare = [str(distinct[i]) for i in order if i not in chosen]
    bare = CategoricalFeature(
        name=name,
        categories=[str(distinct[i]) for i in frequent],
        counts=[0] * (len(frequent) + 1),
        rare=rare[:MAX_RARE],
        rare_is_complete=len(rare) <= MAX_RARE,
    )
    bins = CategoryBins(bare)
    bins.count(column)
    counted = bins.counts()
    index = {category: i for i, category in enumerate(bare.categories)}
    places = np.array([index.get(value, len(frequent)) if value is not None else 0 for value in values], dtype=np.intp)
    valid = np.array([value is not None for value in values])
    noise = _noise(places, valid, len(bare.counts), halves, ordered=False) if len(present) > 1 else 0.0
    return bare.model_copy(update={"counts": counted.counts, "missing": counted.missing, "noise": noise})


def _noise(
    places: NDArray[np.intp], valid: NDArray[np.bool_], n_bins: int, halves: list[NDArray[np.intp]], *, ordered: bool
) -> float:
    """Median distance between random halves: Kolmogorov's for ordered bins, total variation otherwise."""
    distances = []
    for order in halves:
        kept = places[order[valid[order]]]
        first, second = kept[: len(kept) // 2], kept[len(kept) // 2 :]
        p = np.bincount(first, minlength=n_bins) / max(len(first), 1)
        q = np.bincount(second, minlength=n_bins) / max(len(second), 1)
        distances.append(np.abs(np.cumsum(p - q)).max() if ordered else np.abs(p - q).sum() / 2)
    return float(np.median(distances))


def _predictions(
    n: int,
    *,
    predictions: Sequence[Any] | NDArray[Any] | None,
    classes: Sequence[str] | None,
    probabilities: NDArray[Any] | None,
    confidence: Sequence[float] | NDArray[Any] | None,
    labels: Sequence[Any] | NDArray[Any] | None,
    halves: list[NDArray[np.intp]],
) -> PredictionProfile:
    if probabilities is not None:
        probabilities = np.asarray(probabilities, dtype=np.float64)
        classes = classes or [str(i) for i in range(probabilities.shape[1])]
        predictions = probabilities.argmax(axis=1) if predictions is None else predictions
        confidence = probabilities.max(axis=1) if confidence is None else confidence
    if predictions is None:
        return PredictionProfile()
    for name, values in (("predictions", predictions), ("confidence", confidence), ("labels", labels)):
        if values is not None and len(values) != n:
            raise ProfileError(f"{len(values)} {name} for {n} rows")
    sure = unit_histogram(np.asarray(confidence, dtype=np.float64)).tolist() if confidence is not None else []
    if classes is None:
        scores = np.asarray(predictions, dtype=np.float64)
        edges = numeric_edges(scores[np.isfinite(scores)])
        bare = NumericFeature(name="score", edges=edges, counts=[0] * (len(edges) + 1))
        counted, noise = _binned(bare, scores, halves)
        return PredictionProfile(edges=edges, counts=counted.counts, confidence=sure, noise=noise)
    indices = _class_indices(predictions, classes, "prediction")
    correct: list[int] = []
    if labels is not None and confidence is not None:
        right = indices == _class_indices(labels, classes, "label")
        correct = unit_histogram(np.asarray(confidence, dtype=np.float64)[right]).tolist()
    entropy = unit_histogram(normalised_entropy(probabilities)).tolist() if probabilities is not None else []
    return PredictionProfile(
        classes=list(classes),
        counts=np.bincount(indices, minlength=len(classes)).tolist(),
        confidence=sure or ([0] * UNIT_BINS if correct else []),
        entropy=entropy,
        correct=correct,
        noise=_noise(indices, np.ones(n, dtype=np.bool_), len(classes), halves, ordered=False),
    )


def _class_indices(values: Sequence[Any] | NDArray[Any], classes: Sequence[str], what: str) -> NDArray[np.intp]:
    """Class indices of names or indices; a name wins where the names are numbers themselves."""
    by_name = {str(name): i for i, name in enumerate(classes)}
    known = ", ".join(list(by_name)[:10]) + (f" and {len(by_name) - 10} more" if len(by_name) > 10 else "")
    indices = np.empty(len(values), dtype=np.intp)
    for place, value in enumerate(values):
        indices[place] = class_index(category_name(value), by_name)
        if indices[place] < 0:
            raise ProfileError(f"{what} {value!r} in row {place} is no class; there are {known}")
    return indices
