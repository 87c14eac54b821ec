"""How far apart are two histograms on the same bins? Effect sizes, never p-values.

All take counts of equal length and return 0 for empty ones. A distance between two samples of the *same*
distribution is not 0: it has a floor that falls with the sample sizes, given where a formula is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def shares(counts: ArrayLike) -> Floats:
    """Counts over their sum; zeros when there are none."""
    values = np.asarray(counts, dtype=np.float64)
    total = values.sum()
    result: Floats = values / total if total > 0 else np.zeros_like(values)
    return result


def kolmogorov(current: ArrayLike, reference: ArrayLike) -> float:
    """D = max |F − G| over the edges (Kolmogorov 1933, Smirnov 1939). On bins it is at most the exact one.

    >>> kolmogorov([1, 1, 0], [0, 1, 1])
    0.5
    """
    return float(np.abs(np.cumsum(shares(current) - shares(reference))).max(initial=0.0))


def total_variation(current: ArrayLike, reference: ArrayLike) -> float:
    """TV = ½ Σ |p − q|: the largest difference of probability of any event.

    >>> total_variation([1, 1, 0], [0, 1, 1])
    0.5
    """
    return float(np.abs(shares(current) - shares(reference)).sum() / 2)


def population_stability_index(current: ArrayLike, reference: ArrayLike) -> float:
    """PSI = Σ (p − q) ln(p/q) less its mean under no drift, (B − 1)(1/n + 1/m), and at least 0.

    Empty bins get half a count. (Yurdakul, "Statistical properties of population stability index", 2018.)
    """
    p, q = np.asarray(current, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    n, m = p.sum(), q.sum()
    if n == 0 or m == 0:
        return 0.0
    ps, qs = shares(np.maximum(p, 0.5)), shares(np.maximum(q, 0.5))
    null_mean = (np.count_nonzero((p > 0) | (q > 0)) - 1) * (1 / n + 1 / m)
    return max(float(((ps - qs) * np.log(ps / qs)).sum() - null_mean), 0.0)


def jensen_shannon(current: ArrayLike, reference: ArrayLike) -> float:
    """Jensen–Shannon distance, the square root of the divergence in bits, in 0..1 (Lin 1991).

    >>> jensen_shannon([1, 0], [0, 1])
    1.0
    """
    p, q = shares(current), shares(reference)
    if not p.any() or not q.any():
        return 0.0
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def _relative_entropy(p: Floats, q: Floats) -> float:
    """KL(p‖q) in bits, with 0 ln 0 = 0."""
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())


def wasserstein(current: ArrayLike, reference: ArrayLike, edges: ArrayLike, std: float) -> float:
    """Wasserstein-1 distance over the reference's standard deviation, from bins.

    ∫ |F − G| dx over the edges: mass outside of the edges moves by at least that, so it is a lower bound.
    0 when std is 0 (a constant feature has no scale).
    """
    if std <= 0:
        return 0.0
    gaps = np.diff(np.asarray(edges, dtype=np.float64))
    difference = np.abs(np.cumsum(shares(current) - shares(reference)))[1:-1]
    return float((difference * gaps).sum() / std)
