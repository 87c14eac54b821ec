"""Are two histograms samples of one distribution? Tests at one time, for windows against a reference.

They answer "significant?"; `distances` answers "large?". A decision needs both: with a million rows everything is
significant, and with fifty rows every distance is large.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from mlserve_core.statistics.distances import kolmogorov

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def ks_p_value(distance: float, n: float, m: float) -> float:
    """Bound 2 exp(−2 D² nm/(n + m)) of the two-sample Kolmogorov–Smirnov test, at most 1.

    It is the first term of Kolmogorov's series, never below the series itself; on bins the test is conservative
    besides, since D on bins is at most D.
    """
    if n <= 0 or m <= 0:
        return 1.0
    return min(1.0, 2 * math.exp(-2 * distance**2 * n * m / (n + m)))


def ks_factor(alpha: float) -> float:
    """C of D_crit = c √(1/n + 1/m): √(½ ln(2/α))."""
    return math.sqrt(math.log(2 / alpha) / 2)


def ks_test(current: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """D and its p-value, from counts on the same bins."""
    distance = kolmogorov(current, reference)
    return distance, ks_p_value(distance, float(np.sum(current)), float(np.sum(reference)))


MIN_EXPECTED: Final = 5.0
"""Least expected count of a bin in either sample: below it χ² of the bin is no χ² (Cochran 1954)."""


def homogeneity_test(current: ArrayLike, reference: ArrayLike) -> float:
    """p-value of "both are samples of the same categories", sound for rare and new categories too.

    Frequent categories: Pearson's χ². All rare ones together: Chernoff's bound 2 exp(−K·KL(x/K‖ρ)) on the share x
    of their K counts that fell into `current`, with ρ = n/(n + m). The smaller of both, doubled (Bonferroni).
    """
    p, q = np.asarray(current, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    n, m = float(p.sum()), float(q.sum())
    if n == 0 or m == 0:
        return 1.0
    frequent = (p + q) * min(n, m) / (n + m) >= MIN_EXPECTED
    rare_p, rare_q = float(p[~frequent].sum()), float(q[~frequent].sum())
    rare = _chernoff(rare_p, rare_p + rare_q, n / (n + m))
    common = chi_square_test(np.append(p[frequent], rare_p), np.append(q[frequent], rare_q))[2]
    return min(1.0, 2 * min(rare, common))


def chi_square_test(current: ArrayLike, reference: ArrayLike) -> tuple[float, int, float]:
    """Pearson's homogeneity test of two samples: statistic, degrees of freedom, p-value.

    Bins in which either sample is expected to have fewer than MIN_EXPECTED counts are left out.
    """
    p, q = np.asarray(current, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    n, m = p.sum(), q.sum()
    expected = (p + q) / max(n + m, 1)
    used = expected * min(n, m) >= MIN_EXPECTED
    degrees = int(used.sum()) - (1 if used.all() else 0)
    if degrees < 1 or (used.all() and len(p) < 2):
        return 0.0, 0, 1.0
    p, q, expected = p[used], q[used], expected[used]
    statistic = float((((p - n * expected) ** 2) / (n * expected) + ((q - m * expected) ** 2) / (m * expected)).sum())
    return statistic, degrees, chi_square_tail(statistic, degrees)


def _chernoff(successes: float, trials: float, probability: float) -> float:
    """Two-sided bound on a binomial tail: 2 exp(−trials·KL(successes/trials‖probability))."""
    if trials == 0:
        return 1.0
    share = successes / trials
    divergence = sum(a * math.log(a / b) for a, b in ((share, probability), (1 - share, 1 - probability)) if a > 0)
    return min(1.0, 2 * math.exp(-trials * divergence))


def excess_p_value(bad: int, n: int, reference_bad: int, m: int) -> float:
    """Bound on the chance that `bad` of n are so many when both rates are alike; 1 where the rate is no higher.

    Given all bad events K, those among the n are hypergeometric, for which Chernoff's bound exp(−K·KL(bad/K‖n/(n+m)))
    holds as it does for the binomial (Hoeffding 1963). So the reference need not be taken for exact.

    >>> excess_p_value(5, 100, 50, 1000), excess_p_value(30, 100, 50, 1000) < 1e-6
    (1.0, True)
    """
    total = bad + reference_bad
    if n == 0 or m == 0 or bad * m <= reference_bad * n:
        return 1.0
    return min(1.0, _chernoff(bad, total, n / (n + m)) / 2)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(χ²_k > x), exactly: for whole degrees of freedom a finite sum (Abramowitz and Stegun 26.4.4–5).

    >>> round(chi_square_tail(3.841458820694124, 1), 6)
    0.05
    """
    if statistic <= 0 or degrees <= 0:
        return 1.0
    half = statistic / 2
    if degrees % 2 == 0:
        term, start, total = math.exp(-half), 1.0, math.exp(-half)
    else:
        total = math.erfc(math.sqrt(half))
        term, start = math.sqrt(4 * half / math.pi) * math.exp(-half) / (2 * half), 0.5
    power = start
    while power < degrees / 2:
        term *= half / power
        total += term
        power += 1
    return min(total, 1.0)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (q-values) that bound the false discovery rate (Benjamini and Hochberg 1995).

    >>> [round(q, 3) for q in benjamini_hochberg([0.01, 0.04, 0.03, 0.2])]
    [0.04, 0.053, 0.053, 0.2]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return []
    order = np.argsort(p)[::-1]
    scaled = p[order] * p.size / np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return [float(value) for value in adjusted]
