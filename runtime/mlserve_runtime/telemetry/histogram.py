"""A histogram that costs one binary search per observation.

The client library's takes a lock per observation and label set, several microseconds on the hot path; these are
owned by the event loop and turned into Prometheus samples only when somebody scrapes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np

_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FRACTIONS: Final = tuple(i / 10 for i in range(1, 11))


class Histogram:
    """Counts per bucket (upper edges inclusive), and the sum."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = tuple(edges)
        self.counts = [0] * (len(self.edges) + 1)
        self.sum = 0.0

    @classmethod
    def seconds(cls) -> Self:
        """Latencies from 100 us to 10 s."""
        return cls(_SECONDS)

    @classmethod
    def rows(cls) -> Self:
        """Sizes of batches."""
        return cls(_ROWS)

    @classmethod
    def fractions(cls) -> Self:
        """Values from 0 to 1."""
        return cls(_FRACTIONS)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def observe_many(self, values: Any) -> None:
        """Count an array of values; those that are no number are left out."""
        if len(values) == 1:
            value = float(values[0])
            if value == value:  # noqa: PLR0124 - only NaN differs from itself
                self.observe(value)
            return
        values = values[np.isfinite(values)]
        places = np.bincount(np.searchsorted(self.edges, values), minlength=len(self.counts))
        self.counts = [count + extra for count, extra in zip(self.counts, places.tolist(), strict=True)]
        self.sum += float(values.sum())

    @property
    def count(self) -> int:
        """Values counted."""
        return sum(self.counts)

    def quantile(self, fraction: float) -> float:
        """The upper edge of the bucket in which that fraction of the values lies; 0 without values."""
        wanted = fraction * self.count
        seen = 0
        for edge, count in zip(self.edges, self.counts, strict=False):
            seen += count
            if seen >= wanted and seen:
                return edge
        return self.edges[-1] if seen or self.counts[-1] else 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper edge, count up to it) as Prometheus writes them, ending with +Inf."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for edge, count in zip([*map(str, self.edges), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((edge, total))
        return buckets
