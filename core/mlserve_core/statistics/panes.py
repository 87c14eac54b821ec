"""Adding and subtracting counts on one profile: exact, associative, and in any order.

Scores of pods cannot be averaged, and a detector per pod multiplies the false alarms. Counts of all pods are added
first and tested once, so a verdict does not depend on how rows were spread over pods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final

from mlserve_core.wire import FeatureCounts, ProfileCounts

Combine = Callable[[int, int], int]
LISTS: Final = ("predictions", "confidence", "entropy")


def add(a: ProfileCounts | None, b: ProfileCounts | None) -> ProfileCounts | None:
    """A + b; counts of nothing are `None`.

    Raises:
        ValueError: when both were counted on different profiles.
    """
    if a is None or b is None:
        return a or b
    return _combine(a, b, int.__add__)


def subtract(new: ProfileCounts, old: ProfileCounts | None) -> ProfileCounts | None:
    """New − old, what was counted in between; `None` when a count went back, which cumulative counts cannot."""
    if old is None or old.profile_digest != new.profile_digest:
        return new
    difference = _combine(new, old, int.__sub__)
    return None if difference.rows < 0 or any(_negative(difference)) else difference


def _combine(a: ProfileCounts, b: ProfileCounts, combine: Combine) -> ProfileCounts:
    if a.profile_digest != b.profile_digest:
        raise ValueError(f"counts on different profiles: {a.profile_digest} and {b.profile_digest}")
    nothing = FeatureCounts()
    names = dict.fromkeys([*a.features, *b.features])
    features = {}
    for name in names:
        x, y = a.features.get(name, nothing), b.features.get(name, nothing)
        features[name] = FeatureCounts.model_construct(
            counts=_zip(x.counts, y.counts, combine),
            missing=combine(x.missing, y.missing),
            non_finite=combine(x.non_finite, y.non_finite),
            unseen=combine(x.unseen, y.unseen),
        )
    return ProfileCounts.model_construct(
        profile_digest=a.profile_digest,
        rows=combine(a.rows, b.rows),
        features=features,
        predictions=_zip(a.predictions, b.predictions, combine),
        confidence=_zip(a.confidence, b.confidence, combine),
        entropy=_zip(a.entropy, b.entropy, combine),
    )


def _zip(a: Sequence[int], b: Sequence[int], combine: Combine) -> list[int]:
    return [combine(x, y) for x, y in zip_longest(a, b, fillvalue=0)]


def _negative(counts: ProfileCounts) -> list[bool]:
    lists = [getattr(counts, name) for name in LISTS] + [feature.counts for feature in counts.features.values()]
    single = [(f.missing, f.non_finite, f.unseen) for f in counts.features.values()]
    return [min(values, default=0) < 0 for values in [*lists, *single]]
