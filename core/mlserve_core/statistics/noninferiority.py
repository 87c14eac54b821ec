"""Is the canary good enough to get more traffic? Evidence against "it is worse by more than is tolerated".

Absence of alarm is not evidence: a canary with ten requests raises none. Promotion therefore rejects the opposite,

    H0:  p_c ≥ (1 + r) p_s + m

with p the rates of bad events and r, m what is tolerated. A relative tolerance alone would need thousands of bad
events before it could conclude, and would never promote a faultless model.

The bet in one look is the likelihood ratio of the point (q, q) "both arms have the rate q", against the point of H0
nearest to it, where nearest means least n_c·KL(q‖p_c) + n_s·KL(q‖p_s) over the half-plane H0. That this is an
e-value: for any (p_c, p_s) in H0 the log of its expectation, n_c ln(E_c) + n_s ln(E_s) with E linear in p, is concave
and 0 at the nearest point, where its slope towards every point of the convex H0 is not positive. (Reverse
information projection; Turner and Grünwald, "Exact anytime-valid confidence intervals for contingency tables",
2023.) The rate q is guessed from earlier looks only, so the product over looks is an e-process.

With no bad event at all the wealth grows by 1/(1 − m) a canary request: 300 requests at m = 1 % and α = 0.05.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

PRIOR_BAD: Final = 0.5
PRIOR_UNITS: Final = 50.0
FORGET: Final = 0.9
"""Weight of the past per look in the guess of q, so that it follows a changing base rate."""
CERTAIN: Final = 1e3
_ITERATIONS: Final = 40


def log_growth(
    n_c: float, x_c: float, n_s: float, x_s: float, *, rate: float, relative: ArrayLike, absolute: ArrayLike
) -> Floats:
    """Log of the factor by which one look multiplies the wealth, one per tolerance.

    Args:
        n_c: units of the canary.
        x_c: its bad events.
        n_s: units of stable.
        x_s: its bad events.
        rate: the guess q, from earlier looks.
        relative: r of each tolerance.
        absolute: m of each tolerance.

    Returns:
        One number per tolerance; zeros when either arm has no units.
    """
    r, m = np.asarray(relative, dtype=np.float64), np.asarray(absolute, dtype=np.float64)
    if n_c <= 0 or n_s <= 0:
        return np.zeros(np.broadcast(r, m).shape)
    p_s = _nearest(n_c, n_s, rate, 1 + r, m)
    p_c = np.minimum((1 + r) * p_s + m, 1 - 1e-12)
    growth: Floats = (
        x_c * np.log(rate / p_c)
        + (n_c - x_c) * np.log((1 - rate) / (1 - p_c))
        + x_s * np.log(rate / p_s)
        + (n_s - x_s) * np.log((1 - rate) / (1 - p_s))
    )
    # A tolerance that admits every rate leaves nothing to reject: such a bet is won at once.
    return np.where(m >= 1, CERTAIN, growth)


def _nearest(n_c: float, n_s: float, rate: float, slope: Floats, offset: Floats) -> Floats:
    """Stable's rate at the point of H0's boundary nearest to (rate, rate), by bisection of the convex slope."""
    low = np.maximum((rate - offset) / slope, 1e-12)
    high = np.minimum(np.full_like(low, rate), (1 - 1e-12 - offset) / slope)
    high = np.maximum(high, low)
    for _ in range(_ITERATIONS):
        middle = (low + high) / 2
        p_c = np.clip(slope * middle + offset, 1e-12, 1 - 1e-12)
        climb = n_c * slope * (p_c - rate) / (p_c * (1 - p_c)) + n_s * (middle - rate) / (middle * (1 - middle))
        low = np.where(climb < 0, middle, low)
        high = np.where(climb < 0, high, middle)
    nearest: Floats = (low + high) / 2
    return nearest


def guess_rate(bad: float, units: float) -> float:
    """The rate to bet on, from the (faded) counts of earlier looks; about 1 % before there are any."""
    return (bad + PRIOR_BAD) / (units + PRIOR_UNITS)


def fade(past: float, new: float) -> float:
    """Counts of earlier looks with a new look added."""
    return FORGET * past + new
