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

With no bad event at all the wealth grows by 1/(1 − m) a canary request: 240 requests at m = 1.25 % and α = 0.05.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PRIOR_BAD: Final = 0.5
PRIOR_UNITS: Final = 50.0
FORGET: Final = 0.98
"""Weight of the past per look in the guess of q, so that it follows a changing base rate."""
CERTAIN: Final = 1e3
TINY: Final = 1e-12
_ITERATIONS: Final = 40


def log_growth(
    n_c: float, x_c: float, n_s: float, x_s: float, *, rate: float, relative: Sequence[float], absolute: Sequence[float]
) -> list[float]:
    """Log of the factor by which one look multiplies the wealth, one per tolerance.

    Args:
        n_c: units of the canary.
        x_c: its bad events.
        n_s: units of stable.
        x_s: its bad events.
        rate: the guess q, from earlier looks, in 0..1 without its ends.
        relative: r of each tolerance.
        absolute: m of each tolerance; from 1 on there is nothing to reject, and the bet is won at once.

    Returns:
        One number per tolerance; zeros when either arm has no units.
    """
    return [
        _log_growth(n_c, x_c, n_s, x_s, rate, 1 + r, m) if n_c > 0 and n_s > 0 else 0.0
        for r, m in zip(relative, absolute, strict=True)
    ]


def _log_growth(n_c: float, x_c: float, n_s: float, x_s: float, rate: float, slope: float, offset: float) -> float:
    if offset >= 1:
        return CERTAIN
    p_s = nearest(n_c, n_s, rate, slope, offset)
    p_c = min(slope * p_s + offset, 1 - TINY)
    return (
        x_c * math.log(rate / p_c)
        + (n_c - x_c) * math.log((1 - rate) / (1 - p_c))
        + x_s * math.log(rate / p_s)
        + (n_s - x_s) * math.log((1 - rate) / (1 - p_s))
    )


def nearest(n_c: float, n_s: float, rate: float, slope: float, offset: float) -> float:
    """Stable's rate at the point of H0's boundary nearest to (rate, rate), where the convex distance stops falling."""
    low = max((rate - offset) / slope, TINY)
    high = max(min(rate, (1 - TINY - offset) / slope), low)
    for _ in range(_ITERATIONS):
        p_s = (low + high) / 2
        p_c = slope * p_s + offset
        if n_c * slope * (p_c - rate) / (p_c * (1 - p_c)) < n_s * (rate - p_s) / (p_s * (1 - p_s)):
            low = p_s
        else:
            high = p_s
    return (low + high) / 2


def guess_rate(bad: float, units: float) -> float:
    """The rate to bet on, from the (faded) counts of earlier looks; about 1 % before there are any."""
    return (bad + PRIOR_BAD) / (units + PRIOR_UNITS)


def fade(past: float, new: float) -> float:
    """Counts of earlier looks with a new look added."""
    return FORGET * past + new
