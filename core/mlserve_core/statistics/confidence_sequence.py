"""Does the canary earn more or less? Confidence bounds on a difference of means that hold at every look.

Rewards have no known distribution, so the bound is asymptotic: per look the difference of the arms' means is
normal in the limit, and a normal mixture over its possible sizes gives a sequence of intervals that covers at all
times (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory", 2021). Looks are strata:
only differences *within* a look enter, so a population that changes with the weights does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Rewards:
    """Sums of one arm in one look."""

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """Mean reward."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Unbiased variance."""
        return max(self.squares - self.total**2 / self.n, 0.0) / (self.n - 1)


@dataclass(frozen=True)
class RewardDifference:
    """Σ w·(mean_c − mean_s) over looks, with w = n_c n_s / (n_c + n_s), its variance, and Σ w."""

    weighted: float = 0.0
    variance: float = 0.0
    weight: float = 0.0
    scale: float = 0.0
    """Variance of one reward in the first look with data: sets where the bound is tightest."""

    TIGHT_AT = 100.0
    """Units of the smaller arm at which the bound is tightest."""

    def add(self, canary: Rewards, stable: Rewards) -> Self:
        """Add a look; one with fewer than two rewards in an arm says nothing about their spread and is left out."""
        if canary.n < 2 or stable.n < 2:
            return self
        w = canary.n * stable.n / (canary.n + stable.n)
        spread = canary.variance / canary.n + stable.variance / stable.n
        return replace(
            self,
            weighted=self.weighted + w * (canary.mean - stable.mean),
            variance=self.variance + w**2 * spread,
            weight=self.weight + w,
            scale=self.scale or (canary.variance + stable.variance) / 2,
        )

    @property
    def difference(self) -> float:
        """Estimate of mean_c − mean_s."""
        return self.weighted / self.weight if self.weight else 0.0

    def radius(self, alpha: float) -> float:
        """Half the width of the interval at level 1 − α: √(2 (Vρ² + 1)/ρ² · ln(√(Vρ² + 1)/α)) / Σw."""
        if self.weight == 0 or self.scale == 0:
            return math.inf
        rho2 = 1 / (self.TIGHT_AT * self.scale)
        spread = self.variance * rho2 + 1
        return math.sqrt(2 * spread / rho2 * math.log(math.sqrt(spread) / alpha)) / self.weight
