"""Tests and distances against SciPy, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial, stats

from mlserve_core.statistics import confidence_sequence, distances, page_hinkley, two_sample
from mlserve_core.statistics.confidence_sequence import RewardDifference, Rewards
from mlserve_core.statistics.decision import TABLE, Action, Findings, decide

histogram = st.lists(st.integers(0, 500), min_size=2, max_size=30).filter(sum)
pairs = st.integers(2, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 500), min_size=n, max_size=n).filter(sum)] * 2)
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 10, 31, 100])
@pytest.mark.parametrize("scale", [0.01, 0.5, 1.0, 3.0])
def test_chi_square_tail_is_scipys(degrees: int, scale: float) -> None:
    x = scale * degrees
    assert two_sample.chi_square_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), rel=1e-9, abs=1e-300)


def test_chi_square_test_is_scipys() -> None:
    a, b = [30, 50, 20], [70, 60, 90]
    wanted = stats.chi2_contingency([a, b], correction=False)
    found = two_sample.chi_square_test(a, b)
    assert found == pytest.approx((wanted.statistic, wanted.dof, wanted.pvalue))


def test_kolmogorov_distance_is_scipys_on_discrete_values() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, 300), rng.integers(1, 9, 500)
    counts = [np.bincount(values, minlength=9) for values in (a, b)]
    assert distances.kolmogorov(*counts) == pytest.approx(stats.ks_2samp(a, b).statistic)


@pytest.mark.parametrize("lam", [0.6, 1.0, 1.5, 2.5])
def test_ks_p_value_bounds_the_exact_series_from_above(lam: float) -> None:
    n, m = 4000, 6000
    d = lam * np.sqrt((n + m) / (n * m))
    exact = stats.kstwobign.sf(lam)
    assert exact <= two_sample.ks_p_value(d, n, m) <= 1.3 * exact + 1e-3


@settings(max_examples=80, deadline=None)
@given(pairs)
def test_distances_are_bounded_symmetric_and_zero_on_equals(pair: tuple[list[int], list[int]]) -> None:
    a, b = pair
    for distance in (distances.kolmogorov, distances.total_variation, distances.jensen_shannon):
        assert 0 <= distance(a, b) <= 1 + 1e-12
        assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-12)
        assert distance(a, [7 * count for count in a]) == pytest.approx(0, abs=1e-6)
    assert distances.kolmogorov(a, b) <= distances.total_variation(a, b) + 1e-12
    wanted = spatial.distance.jensenshannon(a, b, base=2)
    assert distances.jensen_shannon(a, b) == pytest.approx(wanted, abs=1e-6)


def test_wasserstein_of_a_shift_is_the_shift() -> None:
    edges = np.linspace(-4, 5, 31)
    rng = np.random.default_rng(0)
    reference, current = rng.standard_normal(200_000), rng.standard_normal(200_000) + 0.5
    counts = [np.bincount(np.searchsorted(edges, x), minlength=32) for x in (current, reference)]
    assert distances.wasserstein(*counts, edges, 1.0) == pytest.approx(0.5, abs=0.01)


def test_psi_has_no_mean_without_drift() -> None:
    rng = np.random.default_rng(1)
    p = np.full(25, 1 / 25)
    raw = [distances.population_stability_index(rng.multinomial(200, p), rng.multinomial(5000, p)) for _ in range(300)]
    assert np.mean(raw) < 0.03, "uncorrected it is (B - 1)(1/n + 1/m) = 0.12"


def test_homogeneity_test_keeps_its_level_with_rare_categories() -> None:
    rng = np.random.default_rng(2)
    p = np.array([0.5, 0.3, 0.15] + [0.05 / 20] * 20)
    p_values = [two_sample.homogeneity_test(rng.multinomial(400, p), rng.multinomial(5000, p)) for _ in range(2000)]
    for level in (0.05, 0.01, 0.001):
        assert np.mean(np.array(p_values) < level) <= 1.6 * level + 0.001


def test_homogeneity_test_sees_a_category_that_was_never_there() -> None:
    assert two_sample.homogeneity_test([450, 30, 20], [95_000, 5_000, 0]) < 1e-12


def test_benjamini_hochberg_is_scipys() -> None:
    p = [0.001, 0.2, 0.03, 0.04, 0.9, 0.011]
    assert two_sample.benjamini_hochberg(p) == pytest.approx(list(stats.false_discovery_control(p)))


def test_confidence_sequence_covers_at_every_look() -> None:
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(300):
        difference, out = RewardDifference(), False
        for look in range(60):
            level = 5.0 if 20 <= look < 40 else 1.0  # a spike of the population, with shares that move
            arms = [rng.normal(level, 1, n) for n in ((20, 80) if look < 30 else (60, 40))]
            canary, stable = (Rewards(len(x), float(x.sum()), float((x**2).sum())) for x in arms)
            difference = difference.add(canary, stable)
            out |= abs(difference.difference) > difference.radius(0.05)
        missed += out
    assert missed / 300 <= 0.06


def test_confidence_sequence_finds_a_difference() -> None:
    rng = np.random.default_rng(4)
    difference = confidence_sequence.RewardDifference()
    for _ in range(40):
        arms = [rng.normal(mean, 1, 50) for mean in (0.7, 1.0)]
        difference = difference.add(*(Rewards(len(x), float(x.sum()), float((x**2).sum())) for x in arms))
    assert difference.difference + difference.radius(0.01) < 0


def test_page_hinkley_is_silent_on_the_expected_rate_and_hears_a_rise() -> None:
    rng = np.random.default_rng(5)
    limit = page_hinkley.threshold(0.1, 0.02, 0.001)
    alarms = 0
    for _ in range(200):
        walk = page_hinkley.PageHinkley()
        for _ in range(100):
            walk = walk.add(int(rng.binomial(50, 0.1)), 50, expected=0.1, tolerance=0.02, limit=limit)
        alarms += walk.rise > limit
    assert alarms <= 10
    for _ in range(60):
        walk = walk.add(int(rng.binomial(50, 0.2)), 50, expected=0.1, tolerance=0.02, limit=limit)
    assert walk.rise > limit


def test_page_hinkley_forgets_a_long_fault_as_soon_as_a_short_one() -> None:
    limit = page_hinkley.threshold(0.1, 0.02, 0.001)
    calm = []
    for windows in (10, 1_000):
        walk = page_hinkley.PageHinkley()
        for _ in range(windows):
            walk = walk.add(25, 50, expected=0.1, tolerance=0.02, limit=limit)
        after = 0
        while walk.rise > limit:
            walk, after = walk.add(5, 50, expected=0.1, tolerance=0.02, limit=limit), after + 1
        calm.append(after)
    assert calm[0] == calm[1] <= limit / (50 * 0.02) + 1


@pytest.mark.parametrize(
    ("findings", "row", "action"),
    [
        (Findings(), "clean", Action.PROCEED),
        (Findings(harm=True, unfair=True, predictions=True), "harm", Action.ROLL_BACK),
        (Findings(unfair=True, regression=True, collapse=True), "unfair", Action.PAUSE),
        (Findings(regression=True, predictions=True), "regression", Action.ROLL_BACK),
        (Findings(collapse=True, predictions=True), "collapse", Action.ROLL_BACK),
        (Findings(predictions=True, canary_drift=True, stable_drift=False), "predictions", Action.ON_PREDICTION_DRIFT),
        (Findings(predictions=True, canary_drift=True, stable_drift=True), "population", Action.ON_DRIFT),
        (Findings(predictions=True, collapse=True, canary_drift=True, stable_drift=True), "collapse", Action.ROLL_BACK),
        (Findings(canary_drift=True, stable_drift=True), "population", Action.ON_DRIFT),
        (Findings(canary_drift=False, stable_drift=True), "retrain", Action.PROCEED),
        (Findings(canary_drift=True, stable_drift=False), "mismatch", Action.HOLD),
        (Findings(canary_drift=True), "unknown", Action.HOLD),
        (Findings(stable_drift=True), "unknown", Action.HOLD),
        (Findings(canary_drift=False), "clean", Action.PROCEED),
    ],
)
def test_decision_table(findings: Findings, row: str, action: Action) -> None:
    found = decide(findings)
    assert (found.name, found.action) == (row, action)
    assert found in TABLE
