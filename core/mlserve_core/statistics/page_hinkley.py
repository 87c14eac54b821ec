"""Did the error rate of a stream of labels rise at some point? (Page 1954, Hinkley 1971)

m_T = Σ (x_t − p₀ − δ) is a walk that falls while the rate stays below p₀ + δ. A rise of the walk above its own
minimum by more than λ is an alarm. Counts arrive in batches, in which the order is unknown, so a batch is one move.
A walk that was let rise for weeks would alarm for weeks after the cause is gone: it rises to 2λ and no further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class PageHinkley:
    """The walk so far."""

    walk: float = 0.0
    lowest: float = 0.0
    units: int = 0

    def add(self, errors: int, units: int, *, expected: float, tolerance: float, limit: float) -> Self:
        """Add a batch of labels.

        Args:
            errors: wrong predictions among them.
            units: labels.
            expected: p₀, the reference's error rate.
            tolerance: δ, the rise that does not matter.
            limit: λ, see `threshold`.
        """
        walk = min(self.walk + errors - units * (expected + tolerance), self.lowest + 2 * limit)
        return replace(self, walk=walk, lowest=min(self.lowest, walk), units=self.units + units)

    @property
    def rise(self) -> float:
        """How far the walk is above its minimum, in wrong predictions."""
        return self.walk - self.lowest


def threshold(expected: float, tolerance: float, alpha: float) -> float:
    """λ with false alarms in a share of about α of streams: ln(1/α)/h, by Wald's bound (1947).

    h > 0 solves E[exp(h (x − p₀ − δ))] = 1 for x Bernoulli(p₀): the exponent under which the walk is a martingale.
    """
    p = min(max(expected, 1e-6), 1 - 1e-6)
    drift = min(p + tolerance, 1 - 1e-9)
    low, high = 1e-9, 700.0
    for _ in range(100):
        h = (low + high) / 2
        if math.log1p(p * math.expm1(h)) < h * drift:
            low = h
        else:
            high = h
    return math.log(1 / alpha) / low
