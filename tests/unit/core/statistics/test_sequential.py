"""The bets: their expectation under the null, their power, and what they never depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from mlserve_core.statistics import eprocess, noninferiority


def run(growths: list[np.ndarray]) -> list[float]:
    wealth, log_e = np.zeros(0), []
    for look, growth in enumerate(growths):
        wealth = eprocess.accumulate(wealth, look, growth)
        log_e.append(float(eprocess.log_e_value(wealth, look + 1)))
    return log_e


@pytest.mark.parametrize("margin", [0.0, 0.25])
@pytest.mark.parametrize("odds", [eprocess.WORSE, eprocess.DIFFERENT], ids=["worse", "different"])
def test_expected_wealth_under_the_null_is_at_most_one(margin: float, odds: tuple[float, ...]) -> None:
    n_c, n_s, bad = 7, 40, 9
    for ratio in {1.0, 1 + margin}:
        share = ratio * n_c / (ratio * n_c + n_s)
        x = np.arange(bad + 1)
        growth = eprocess.log_growth(n_c, x, n_s, bad - x, odds=odds, margin=margin)
        mean = (stats.binom.pmf(x, bad, share)[:, None] * np.exp(growth)).sum(axis=0)
        worse = np.array(odds) > 1
        assert (mean[worse] <= 1 + 1e-9).all()
        hyper = (stats.hypergeom.pmf(x, n_c + n_s, bad, n_c)[:, None] * np.exp(growth)).sum(axis=0)
        assert (hyper <= 1 + 1e-9).all(), "the true law given the total varies less"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 200), st.integers(1, 800), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30
    )
)
def test_looks_without_bad_events_never_raise_the_evidence(looks: list[tuple[int, int, float, float]]) -> None:
    growths = [eprocess.log_growth(n_c, 0, n_s, 0) for n_c, n_s, _, _ in looks]
    assert all(log_e <= 1e-9 for log_e in run(growths))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 900), st.integers(0, 100), st.integers(0, 100))
def test_more_bad_events_of_the_canary_are_more_evidence(n_c: int, n_s: int, x_c: int, x_s: int) -> None:
    less, more = (eprocess.log_growth(n_c, x, n_s, x_s) for x in (x_c, x_c + 1))
    assert (more >= less).all()
    assert (eprocess.log_growth(n_c, x_c, n_s, x_s + 1) <= less).all()


def test_a_margin_takes_evidence_away() -> None:
    strict, lenient = (float(run([eprocess.log_growth(50, 10, 500, 20, margin=m)])[0]) for m in (0, 0.25))
    assert lenient < strict


def test_an_arm_without_requests_is_no_evidence() -> None:
    assert (eprocess.log_growth(0, 0, 500, 20) == 0).all()
    assert (eprocess.log_growth(10, 3, 0, 0) == 0).all()


@pytest.mark.parametrize("spike", [1, 10], ids=["calm", "tenfold spike while the weight rises"])
def test_false_alarms_stay_under_the_level_at_every_look(spike: int) -> None:
    rng, alarms, runs = np.random.default_rng(11), 0, 1500
    for _ in range(runs):
        growths = []
        for look in range(80):
            weight = 0.05 if look < 20 else 0.25 if look < 50 else 0.5
            rate = 0.02 * (spike if 20 <= look < 60 else 1)
            n_c = int(rng.binomial(300, weight))
            growths.append(eprocess.log_growth(n_c, rng.binomial(n_c, rate), 300 - n_c, rng.binomial(300 - n_c, rate)))
        alarms += max(run(growths)) >= math.log(100)
    assert alarms / runs <= 0.01


def test_a_fault_after_a_long_calm_is_found_nearly_as_fast() -> None:
    calm, fault = eprocess.log_growth(50, 1, 950, 19), eprocess.log_growth(50, 10, 950, 19)
    at_once, late = run([fault] * 40), run([calm] * 200 + [fault] * 40)[200:]
    first = [next(i for i, log_e in enumerate(history) if log_e >= math.log(800)) for history in (at_once, late)]
    assert first[1] <= first[0] + 2


def test_rows_of_one_request_are_no_independent_evidence() -> None:
    rng, alarms = np.random.default_rng(12), 0
    for _ in range(400):
        growths = []
        for _ in range(40):  # ten requests a look and arm, each with 20 equal rows
            c, s = (20 * rng.multinomial(n, [0.25] * 4) for n in (10, 30))
            growths.append(eprocess.log_growth(200, c, 600, s, odds=eprocess.DIFFERENT, temper=1 / 20))
        wealth = np.zeros(0)
        for look, growth in enumerate(growths):
            wealth = eprocess.accumulate(wealth, look, growth)
        alarms += eprocess.mean_of_e_values(eprocess.log_e_value(wealth, 40)) >= math.log(100)
    assert alarms <= 6


# --- good enough --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 120),
    st.floats(0.002, 0.4),
    st.floats(0, 1),
    st.floats(0.005, 0.2),
    st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),  # SciPy overflows on denormal probabilities
)
def test_expected_wealth_of_the_promotion_bet_is_at_most_one_on_all_of_h0(
    n_c: int, n_s: int, rate: float, relative: float, absolute: float, place: float
) -> None:
    top = (1 - absolute) / (1 + relative)
    p_s = place * top
    for p_c in ((1 + relative) * p_s + absolute, 1.0):
        x, y = np.arange(n_c + 1), np.arange(n_s + 1)
        at = noninferiority.nearest(n_c, n_s, rate, 1 + relative, absolute)
        p_c0, p_s0 = (1 + relative) * at + absolute, at
        factor_c = x * np.log(rate / p_c0) + (n_c - x) * np.log((1 - rate) / (1 - p_c0))
        factor_s = y * np.log(rate / p_s0) + (n_s - y) * np.log((1 - rate) / (1 - p_s0))
        mean = (stats.binom.pmf(x, n_c, min(p_c, 1)) * np.exp(factor_c)).sum() * (
            stats.binom.pmf(y, n_s, p_s) * np.exp(factor_s)
        ).sum()
        assert mean <= 1 + 1e-6


@pytest.mark.parametrize(
    ("n_c", "n_s", "rate", "slope", "offset"), [(50, 950, 0.02, 1.25, 0.0125), (500, 500, 0.1, 2, 0.04)]
)
def test_the_nearest_point_is_the_least_divergence(
    n_c: int, n_s: int, rate: float, slope: float, offset: float
) -> None:
    def divergence(p_s: float) -> float:
        def kl(p: float) -> float:
            return rate * math.log(rate / p) + (1 - rate) * math.log((1 - rate) / (1 - p))

        return n_c * kl(slope * p_s + offset) + n_s * kl(p_s)

    wanted = optimize.minimize_scalar(divergence, bounds=(1e-9, rate), method="bounded", options={"xatol": 1e-12}).x
    assert noninferiority.nearest(n_c, n_s, rate, slope, offset) == pytest.approx(wanted, rel=1e-4)


def test_a_faultless_canary_is_good_enough_after_a_few_hundred_requests() -> None:
    wealth, bad, units, canary = 0.0, 0.0, 0.0, 0
    while wealth < math.log(20):
        rate = noninferiority.guess_rate(bad, units)
        wealth += noninferiority.log_growth(10, 0, 190, 0, rate=rate, relative=[0.25], absolute=[0.0125])[0]
        bad, units, canary = noninferiority.fade(bad, 0), noninferiority.fade(units, 200), canary + 10
    assert 240 <= canary <= 300


def test_a_canary_at_the_edge_of_what_is_tolerated_seldom_passes() -> None:
    rng, passed, runs = np.random.default_rng(13), 0, 300
    for _ in range(runs):
        wealth, bad, units = 0.0, 0.0, 0.0
        for _ in range(80):
            x_c, x_s = rng.binomial(60, 1.25 * 0.02 + 0.0125), rng.binomial(540, 0.02)
            rate = noninferiority.guess_rate(bad, units)
            wealth += noninferiority.log_growth(60, x_c, 540, x_s, rate=rate, relative=[0.25], absolute=[0.0125])[0]
            bad, units = noninferiority.fade(bad, x_c + x_s), noninferiority.fade(units, 600)
            if wealth >= math.log(20):
                passed += 1
                break
    assert passed / runs <= 0.06
