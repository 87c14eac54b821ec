"""Is one arm worse than the other? A test that may be looked at after every look, for ever.

A p-value that is computed again and again crosses 0.05 sooner or later although nothing is wrong. An *e-process* is
a bet against the null hypothesis: under the null its expected value never exceeds 1 at whatever time one stops, so
by Ville's inequality (1939) it reaches 1/α in at most a share α of all harmless rollouts, however often it is looked
at. References: Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference" (2023).

One look is an interval with constant weights. In it the canary answered n_c requests, x_c of them badly, stable n_s
and x_s. If both arms are alike, each bad event is the canary's with probability ρ = n_c / (n_c + n_s), whatever the
rate of bad events was in that look: a spike that hits everybody cancels out. The bet on "the odds are k times as
large" multiplies the wealth by

    (θ/ρ)^x_c · ((1 − θ)/(1 − ρ))^x_s,    θ = kρ / (1 − ρ + kρ)

A margin m makes the null "the odds are at most 1 + m times as large": ρ's own odds are multiplied by 1 + m first.
Conditional on the total the count x_c is hypergeometric, which is less variable than the binomial assumed here in
every convex function (Hoeffding 1963, theorem 4), so the bound holds for frequent events as well.

Several k are bet on at once and averaged. To catch a fault that begins late, a part of the capital is held back and
released look by look (1/(t(t − 1)) of it at look t): what early calm looks lose cannot bury later evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

WORSE: Final = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Odds ratios bet on by a one-sided test."""
DIFFERENT: Final = (1 / 10, 1 / 3, 1 / 1.5, 1.5, 3.0, 10.0)
"""Odds ratios bet on by a two-sided test."""
RESERVE: Final = 0.1
"""Share of the capital that is released after the first look."""


def log_growth(
    n_c: float,
    x_c: ArrayLike,
    n_s: float,
    x_s: ArrayLike,
    *,
    odds: tuple[float, ...] = WORSE,
    margin: float = 0.0,
    temper: float = 1.0,
) -> Floats:
    """Log of the factor by which one look multiplies each bet's wealth.

    Args:
        n_c: units of the canary (or its configured share, when the share itself is tested).
        x_c: its bad events; an array tests many kinds of event (bins) at once.
        n_s: units of stable.
        x_s: its bad events, of the shape of x_c.
        odds: the bets.
        margin: relative odds that are still tolerated, on either side.
        temper: 1 for independent events. When events come in dependent groups of m (rows of one request), 1/m:
            a product of e-values to the power 1/m is at most their mean, hence an e-value under any dependence.

    Returns:
        Shape of x_c with one more axis for the bets; zeros where an arm has no units.
    """
    bad_c, bad_s = np.asarray(x_c, dtype=np.float64), np.asarray(x_s, dtype=np.float64)
    ratio = np.array(odds)
    if n_c <= 0 or n_s <= 0:
        return np.zeros((*bad_c.shape, ratio.size))
    null = n_c / n_s * np.where(ratio > 1, 1 + margin, 1 / (1 + margin))
    bet = null * ratio
    gain = np.log(bet / (1 + bet)) - np.log(null / (1 + null))
    loss = np.log1p(null) - np.log1p(bet)
    growth: Floats = temper * (bad_c[..., None] * gain + bad_s[..., None] * loss)
    return growth


def accumulate(log_wealth: ArrayLike, looks: int, growth: Floats) -> Floats:
    """Log wealth of each bet after one more look.

    Args:
        log_wealth: after `looks` looks; ignored before the first.
        looks: looks taken so far.
        growth: what `log_growth` gave for the new look.
    """
    if looks == 0:
        first: Floats = growth + np.log(1 - RESERVE)
        return first
    released = np.log(RESERVE / ((looks + 1) * looks))
    wealth: Floats = np.logaddexp(np.asarray(log_wealth, dtype=np.float64), released) + growth
    return wealth


def log_e_value(log_wealth: ArrayLike, looks: int) -> Floats:
    """Log of the e-value after `looks` looks: mean over the bets, plus the capital not yet released.

    >>> float(log_e_value([], 0))
    0.0
    """
    if looks == 0:
        return np.zeros(np.shape(log_wealth)[:-1])
    wealth = np.asarray(log_wealth, dtype=np.float64)
    mean = np.logaddexp.reduce(wealth, axis=-1) - np.log(wealth.shape[-1])
    total: Floats = np.logaddexp(mean, np.log(RESERVE / looks))
    return total


def mean_of_e_values(log_e: ArrayLike) -> float:
    """Log of the mean of e-values: again an e-value, under any dependence (Vovk and Wang 2021)."""
    values = np.asarray(log_e, dtype=np.float64).ravel()
    return float(np.logaddexp.reduce(values) - np.log(values.size)) if values.size else 0.0
