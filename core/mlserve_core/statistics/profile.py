"""What a model saw and answered before it was released: the reference that live traffic is compared with.

Raw reference rows are large and often private, so a profile keeps only counts on fixed bins (about 0.7 kB per
feature). Counts on the same bins can be added over batches, pods and time without loss, which scores such as a
p-value cannot.

Numbers are binned in single precision, as models receive them: 0.1 read from a CSV file and 0.1 from a tensor of
float32 are the same value then. Rounding keeps order, so no bin is ever mixed up.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

SCHEMA_VERSION: Final = 1
MAX_EDGES: Final = 31
UNIT_BINS: Final = 32
"""Equal bins of [0, 1] for confidence and for entropy divided by ln(classes)."""
MAX_CATEGORIES: Final = 100
MAX_RARE: Final = 256
"""Rare categories remembered by name. With more, a value that is not remembered counts as rare, not as unseen."""

Floats = NDArray[np.float32]
Counts = list[Annotated[int, Field(ge=0)]]
Bins = list[Annotated[int, Field(ge=0)]]


class ProfileError(ValueError):
    """A profile or its data cannot be used; the message says where and what would work."""


class ProfileModel(BaseModel):
    """Base: camelCase JSON, immutable, unknown fields refused (a misspelt field must not pass for an absent one)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class NumericFeature(ProfileModel):
    """A number. Bin i holds edges[i-1] < x <= edges[i]; the first and last bins lie outside of the reference."""

    kind: Literal["numeric"] = "numeric"
    name: str
    edges: list[float] = Field(max_length=MAX_EDGES)
    """Ascending. Reference quantiles; a value that is frequent by itself has a bin of its own."""
    counts: Bins
    """Reference rows per bin; one more than edges."""
    missing: int = Field(0, ge=0)
    non_finite: int = Field(0, ge=0)
    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0
    noise: float = Field(0.0, ge=0)
    """Median Kolmogorov distance between random halves of the reference: what chance alone looks like."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"feature {self.name!r}: {len(self.edges)} edges need {len(self.edges) + 1} counts, "
                f"got {len(self.counts)}"
            )
        if any(not a < b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError(f"feature {self.name!r}: edges must ascend")
        if any(not math.isfinite(edge) for edge in self.edges):
            raise ValueError(f"feature {self.name!r}: edges must be finite")
        return self


class CategoricalFeature(ProfileModel):
    """A name out of many. Bins: one per category, then `other` for the rare ones."""

    kind: Literal["categorical"] = "categorical"
    name: str
    categories: list[str] = Field(max_length=MAX_CATEGORIES)
    counts: Bins
    """Reference rows per category, then of all rare ones."""
    rare: list[str] = Field(default_factory=list, max_length=MAX_RARE)
    """Names behind `other`."""
    rare_is_complete: bool = True
    """False: more rare names than are kept, so a new name cannot be told from a rare one."""
    missing: int = Field(0, ge=0)
    noise: float = Field(0.0, ge=0)
    """Median total variation between random halves of the reference."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.counts) != len(self.categories) + 1:
            raise ValueError(
                f"feature {self.name!r}: {len(self.categories)} categories need {len(self.categories) + 1} counts "
                f"(the last for all others), got {len(self.counts)}"
            )
        return self


Feature = Annotated[NumericFeature | CategoricalFeature, Field(discriminator="kind")]


class PredictionProfile(ProfileModel):
    """What the model answered on the reference rows."""

    classes: list[str] = Field(default_factory=list)
    """Names of classes; empty for a regression."""
    edges: list[float] = Field(default_factory=list, max_length=MAX_EDGES)
    """Bins of a regression's score, as in NumericFeature."""
    counts: Bins = Field(default_factory=list)
    """Per class, or per score bin."""
    confidence: Bins = Field(default_factory=list)
    """Largest probability, in UNIT_BINS equal bins."""
    entropy: Bins = Field(default_factory=list)
    """Entropy of the probabilities over ln(classes), in UNIT_BINS equal bins."""
    correct: Bins = Field(default_factory=list)
    """Of `confidence`, the rows whose prediction was right: the calibration table."""
    noise: float = Field(0.0, ge=0)

    @property
    def n_bins(self) -> int:
        """Bins of a prediction; 0 when predictions are not profiled."""
        return len(self.counts)

    @property
    def accuracy(self) -> float | None:
        """Share of right predictions, where labels were given."""
        rows = sum(self.confidence)
        return sum(self.correct) / rows if self.correct and rows else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted = len(self.classes) if self.classes else (len(self.edges) + 1 if self.edges else 0)
        if len(self.counts) != wanted:
            raise ValueError(f"predictions: expected {wanted} counts, got {len(self.counts)}")
        for name in ("confidence", "entropy", "correct"):
            if len(getattr(self, name)) not in {0, UNIT_BINS}:
                raise ValueError(f"predictions: {name} needs {UNIT_BINS} bins, got {len(getattr(self, name))}")
        return self


class Projection(ProfileModel):
    """How an image or an embedding becomes a few numbers: mean, spread, then seeded Gaussian projections.

    A pixel by itself says little. By Johnson and Lindenstrauss (1984) random projections keep distances, so a
    shifted distribution of vectors shows in the distributions of a few of them.
    """

    inputs: int = Field(ge=1)
    """Length of a flattened row."""
    outputs: int = Field(ge=1, le=64)
    """Projections beside mean and spread."""
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the resulting features."""
        return ["mean", "spread", *(f"projection_{i}" for i in range(self.outputs))]

    def matrix(self) -> Floats:
        """The outputs x inputs matrix; the same for a seed in every version of NumPy (legacy stream)."""
        draws = np.random.RandomState(self.seed).standard_normal((self.inputs, self.outputs))
        return np.ascontiguousarray((draws / math.sqrt(self.inputs)).T, dtype=np.float32)

    def apply(self, rows: NDArray[Any], matrix: Floats) -> Floats:
        """Features of flattened rows (n x inputs) as n x (2 + outputs)."""
        flat = np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)
        if flat.shape[1] != self.inputs:
            raise ProfileError(f"a row has {flat.shape[1]} values, the profile was built on {self.inputs}")
        features = np.empty((len(flat), 2 + self.outputs), dtype=np.float32)
        features[:, 0] = flat.mean(axis=1)
        deviations = flat - features[:, :1]
        # No matrix product: its library would wake a thread for every core of the node, far more than a container has.
        features[:, 1] = np.sqrt(np.einsum("ij,ij->i", deviations, deviations) / self.inputs)
        np.einsum("ij,kj->ik", flat, matrix, out=features[:, 2:])
        return features


class ReferenceProfile(ProfileModel):
    """The content of `profile.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model_name: str = ""
    model_digest: str = ""
    """Digest of the model the predictions come from; empty for a profile of data alone."""
    created_at: str = ""
    rows: int = Field(ge=1)
    features: list[Feature] = Field(default_factory=list)
    projection: Projection | None = None
    """When set, features are those of the projection and a row is a flattened image or embedding."""
    predictions: PredictionProfile = Field(default_factory=PredictionProfile)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"features named twice: {', '.join(twice)}")
        if self.projection is not None and names != self.projection.names:
            raise ValueError(f"a projection needs the features {', '.join(self.projection.names)}")
        return self

    @property
    def feature_names(self) -> list[str]:
        """Names in the order of a row's columns."""
        return [feature.name for feature in self.features]

    def feature(self, name: str) -> NumericFeature | CategoricalFeature:
        """The feature of a name."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise ProfileError(f"the profile has no feature {name!r}; it has {', '.join(self.feature_names)}")

    def to_json(self) -> str:
        """Compact canonical JSON, the same for equal profiles."""
        return self.model_dump_json(by_alias=True)

    def digest(self) -> str:
        """sha256 of the canonical JSON: counts are compared only under the same digest."""
        return "sha256:" + hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read `profile.json`.

        Raises:
            ProfileError: when it is no JSON, of another schema version, or inconsistent; says where.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ProfileError(f"this profile cannot be used: {_problems(error)}") from error


def _problems(error: ValidationError) -> str:
    """What is wrong with a profile, where, and what would have worked."""
    found = error.errors(include_url=False)
    first = found[0]
    if first["type"] == "json_invalid":
        return f"it is no JSON ({first['ctx']['error']}); `mlserve profile build` writes one"
    if first["loc"] == ("schemaVersion",):
        return (
            f"it has schema version {first['input']!r}, this release reads version {SCHEMA_VERSION}; "
            "build it again with `mlserve profile build`, or use the release that wrote it"
        )
    told = [f"{'.'.join(map(str, item['loc'])) or 'profile'}: {item['msg']}" for item in found[:3]]
    return "; ".join(told) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def as_binned_type(values: NDArray[Any]) -> Floats:
    """Values in the precision of the bins; what is too large for it becomes its largest number."""
    if values.dtype == np.float32:
        return values
    limit = np.finfo(np.float32).max
    # `clip` keeps NaN; infinities stay infinite so that they are counted as such.
    clipped = np.where(np.isinf(values), values, np.clip(values, -limit, limit)) if values.dtype.kind == "f" else values
    return clipped.astype(np.float32)


def numeric_edges(values: NDArray[Any], max_edges: int = MAX_EDGES) -> list[float]:
    """Edges for finite values: below the least, reference quantiles, both sides of every atom, the greatest.

    >>> numeric_edges(np.array([0.0, 0.0, 1.0]))[1:]
    [0.0, 1.0]
    """
    if values.size == 0:
        return []
    single = as_binned_type(values)
    distinct, counts = np.unique(single, return_counts=True)
    if distinct.size <= max_edges - 1:
        return [_below(distinct[0]), *(_short(value) for value in distinct)]
    edges = {_below(distinct[0]), _short(distinct[-1])}
    heavy = np.flatnonzero(counts >= single.size / max_edges)
    heaviest = heavy[np.argsort(-counts[heavy], kind="stable")][: max_edges // 3]
    for value in distinct[heaviest]:
        edges |= {_below(value), _short(value)}
    rest = single[~np.isin(single, distinct[heaviest])]
    free = max_edges - len(edges)
    if rest.size and free > 0:
        levels = np.arange(1, free + 1) / (free + 1)
        edges |= {_short(value) for value in np.quantile(rest, levels, method="inverted_cdf")}
    return sorted(edges)


def _below(value: np.float32) -> float:
    return _short(np.nextafter(value, np.float32(-np.inf)))


def _short(value: np.float32) -> float:
    """The number with the fewest digits that single precision reads as this value: half the size in JSON."""
    return float(str(np.float32(value)))
