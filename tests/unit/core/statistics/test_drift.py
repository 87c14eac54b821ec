"""Windows against a reference: when they close, what they find, and when a finding is confirmed or over."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from mlserve_core.statistics import ProfileCounter, ReferenceProfile, build_profile, panes
from mlserve_core.statistics.drift import (
    ACCURACY,
    DriftResult,
    DriftSettings,
    DriftVerdict,
    FeatureDrift,
    Severity,
    compare,
    reference_rows_needed,
    required_rows,
    rows_needed,
    shortage,
)
from mlserve_core.statistics.page_hinkley import PageHinkley
from mlserve_core.statistics.performance import ESTIMATED_ACCURACY, Labels, estimated_accuracy, judge
from mlserve_core.statistics.windows import MAX_EXTENSION, Window, advance, check_once
from mlserve_core.wire import ProfileCounts

RNG = np.random.default_rng(0)
FEATURES = 10
PROFILE = build_profile(RNG.standard_normal((20_000, FEATURES)))
SETTINGS = DriftSettings()
NEEDED = rows_needed(PROFILE, SETTINGS) or 0


def counts(rows: np.ndarray, profile: ReferenceProfile = PROFILE) -> ProfileCounts:
    counter = ProfileCounter(profile)
    counter.update(rows)
    return counter.counts()


def rows(shift: float = 0.0, n: int = NEEDED, missing: float = 0.0) -> np.ndarray:
    data = RNG.standard_normal((n, FEATURES))
    data[:, 3] += shift
    data[RNG.random(n) < missing, 4] = np.nan
    return data


def run(panes: list[np.ndarray], settings: DriftSettings = SETTINGS) -> list[DriftResult]:
    window, results = Window(start=0.0), []
    for index, pane in enumerate(panes, start=1):
        window, result = advance(window, PROFILE, settings, now=300.0 * index, seconds=300, pane=counts(pane))
        results += [result] if result is not None else []
    return results


def test_clean_windows_are_silent() -> None:
    results = run([rows() for _ in range(60)])
    assert [result.verdict for result in results] == [DriftVerdict.NO_DRIFT] * 60


@pytest.mark.parametrize(
    ("pane", "feature"),
    [
        pytest.param(lambda: rows(shift=0.5), "feature_3", id="half a standard deviation"),
        pytest.param(lambda: rows(missing=0.2), "feature_4", id="a burst of missing values"),
    ],
)
def test_a_shift_is_confirmed_by_the_second_window(pane: object, feature: str) -> None:
    results = run([rows(), pane(), pane()])  # type: ignore[operator]
    assert [result.verdict.value for result in results] == ["NoDrift", "NoDrift", "Drift"]
    found = results[-1].features[0]
    assert (found.name, found.drifted, found.severity) == (feature, True, Severity.LOW)
    assert sum(item.drifted for item in results[-1].features) == 1


def test_two_of_three_confirm_and_three_calm_windows_clear() -> None:
    shifts = [1, 0, 1, 0, 0, 0, 0]
    found = [result.verdict is DriftVerdict.DRIFT for result in run([rows(shift=s) for s in shifts])]
    assert found == [False, False, True, True, True, False, False]


@pytest.mark.parametrize(
    ("shift", "severity"),
    [(0.0, Severity.NONE), (0.5, Severity.LOW), (0.8, Severity.MEDIUM), (2.0, Severity.HIGH)],
)
def test_severity_grows_with_the_effect(shift: float, severity: Severity) -> None:
    assert compare(PROFILE, counts(rows(shift, 5000)), SETTINGS)[0].severity is severity


def test_significance_alone_is_no_drift() -> None:
    found = compare(PROFILE, counts(rows(0.15, 200_000)), SETTINGS)
    moved = next(item for item in found if item.name == "feature_3")
    assert moved.p_value is not None
    assert moved.p_value < 1e-10
    assert not moved.drifted


def test_an_effect_alone_is_no_drift() -> None:
    found = compare(PROFILE, counts(rows(0.0, 60)), SETTINGS)
    assert max(item.effect for item in found) > SETTINGS.effect
    assert not any(item.drifted for item in found)


def test_a_window_is_extended_until_it_can_decide() -> None:
    part = NEEDED // 3 + 1
    results = run([rows(n=part) for _ in range(6)])
    assert [(result.rows, result.verdict) for result in results] == [(3 * part, DriftVerdict.NO_DRIFT)] * 2


def test_too_little_data_is_said_at_the_limit_and_is_not_no_drift() -> None:
    results = run([rows(n=3) for _ in range(MAX_EXTENSION)])
    assert [result.verdict for result in results] == [DriftVerdict.INSUFFICIENT_DATA]
    assert f"{3 * MAX_EXTENSION} rows, {NEEDED} are needed" in results[0].message


def test_a_reference_too_small_to_decide_is_told() -> None:
    small = build_profile(RNG.standard_normal((300, FEATURES)))
    assert rows_needed(small, SETTINGS) is None
    result = check_once(small, counts(rows(n=5000), small), SETTINGS)
    assert (result.verdict, result.message) == (
        DriftVerdict.INSUFFICIENT_DATA,
        "the reference has too few rows to judge by",
    )
    enough = reference_rows_needed(small, SETTINGS)
    assert rows_needed(build_profile(RNG.standard_normal((enough, FEATURES))), SETTINGS) is not None


def test_required_rows_are_those_that_make_the_effect_significant() -> None:
    n = required_rows(0.1, 1e-6, 50_000)
    assert n is not None
    c = np.sqrt(np.log(2 / 1e-6) / 2)
    assert c * np.sqrt(1 / n + 1 / 50_000) <= 0.1 < c * np.sqrt(1 / (n - 1) + 1 / 50_000)


def test_a_clock_that_goes_back_begins_the_window_anew() -> None:
    window, _ = advance(Window(start=1000.0), PROFILE, SETTINGS, now=1100, seconds=300, pane=counts(rows()))
    window, result = advance(window, PROFILE, SETTINGS, now=500, seconds=300, pane=None)
    assert (window.start, result) == (500, None)
    assert window.counts is not None
    assert window.counts.rows == NEEDED, "nothing is lost"


def test_the_verdict_does_not_depend_on_the_split_over_pods() -> None:
    data = rows(shift=0.3, n=2000)
    whole = compare(PROFILE, counts(data), SETTINGS)
    merged = ProfileCounter(PROFILE)
    for part in np.array_split(data, 7):
        other = ProfileCounter(PROFILE)
        other.update(part)
        merged.merge(other)
    assert compare(PROFILE, merged.counts(), SETTINGS) == whole


def test_counts_of_another_profile_are_refused() -> None:
    other = build_profile(RNG.standard_normal((500, FEATURES)))
    with pytest.raises(ValueError, match="another profile"):
        compare(PROFILE, counts(rows(), other), SETTINGS)


def test_the_classic_policy_is_the_textbook_with_its_false_alarms() -> None:
    classic = DriftSettings(classic=True, min_rows=500)
    found = [result.verdict is DriftVerdict.DRIFT for result in run([rows(n=1000) for _ in range(60)], classic)]
    assert 10 <= sum(found) <= 55, "ten features at p < 0.05 alarm in 2 of 5 clean windows"


def test_a_feature_can_be_left_out_or_have_an_effect_of_its_own() -> None:
    silent = DriftSettings(disabled=frozenset({"feature_3"}))
    assert not any(item.drifted for item in compare(PROFILE, counts(rows(2.0)), silent))
    lax = DriftSettings(effects={"feature_3": 0.5})
    assert not any(item.drifted for item in compare(PROFILE, counts(rows(0.8, 5000)), lax))


@pytest.mark.parametrize(
    "column",
    [pytest.param(np.full(5000, 7.0), id="constant"), pytest.param(np.full(5000, np.nan), id="all missing")],
)
def test_degenerate_features_neither_alarm_nor_crash(column: np.ndarray) -> None:
    profile = build_profile(column.reshape(-1, 1))
    assert check_once(profile, counts(column.reshape(-1, 1), profile), SETTINGS).verdict is DriftVerdict.NO_DRIFT
    changed = check_once(profile, counts(np.full((5000, 1), 3.0), profile), SETTINGS)
    assert changed.verdict is DriftVerdict.DRIFT
    assert changed.severity is Severity.HIGH


def test_new_and_swapped_categories() -> None:
    letters = RNG.choice(["a", "b", "c"], 20_000, p=[0.5, 0.3, 0.2])
    profile = build_profile({"letter": letters.tolist()})

    def judged(p: list[float], names: list[str]) -> DriftResult:
        seen = RNG.choice(names, 2000, p=p).astype(object).reshape(-1, 1)
        return check_once(profile, counts(seen, profile), SETTINGS)

    assert judged([0.5, 0.3, 0.2], ["a", "b", "c"]).verdict is DriftVerdict.NO_DRIFT
    assert judged([0.3, 0.5, 0.2], ["a", "b", "c"]).verdict is DriftVerdict.DRIFT
    new = judged([0.4, 0.3, 0.15, 0.15], ["a", "b", "c", "z"])
    assert new.verdict is DriftVerdict.DRIFT
    assert new.features[0].out_of_range == pytest.approx(0.15, abs=0.03)


# --- performance --------------------------------------------------------------------------------------------------


def answered(rows: int, accuracy: float = 0.9) -> ReferenceProfile:
    """A profile of a model that is right in that share of its rows, and sure by as much."""
    right = np.arange(rows) < accuracy * rows
    sure = np.full(rows, accuracy)
    labels = np.where(right, 1, 0)
    return build_profile(
        np.zeros((rows, 1)), predictions=np.ones(rows, dtype=int), classes=["no", "yes"], confidence=sure, labels=labels
    )


LABELLED = answered(20_000)


@pytest.mark.parametrize(
    ("profile", "right", "labelled", "drifted"),
    [
        pytest.param(LABELLED, 900, 1000, False, id="as the reference"),
        pytest.param(LABELLED, 880, 1000, False, id="a small drop"),
        pytest.param(LABELLED, 800, 1000, True, id="a real drop"),
        pytest.param(LABELLED, 16, 20, False, id="too few labels"),
        pytest.param(LABELLED, 0, 0, False, id="none"),
        pytest.param(answered(60), 840, 1000, False, id="a drop within what 60 rows can tell of the reference"),
        pytest.param(build_profile(np.zeros((60, 1))), 0, 1000, False, id="nothing to compare with"),
    ],
)
def test_performance_drift_needs_a_drop_and_labels_enough(
    profile: ReferenceProfile, right: int, labelled: int, drifted: bool
) -> None:
    found, _ = judge(profile, None, Labels(right, labelled), PageHinkley(), SETTINGS)
    assert any(item.drifted for item in found) is drifted
    assert all((item.severity is Severity.NONE) is not drifted for item in found if item.name == ACCURACY)


@pytest.mark.parametrize(
    ("settings", "drifted"),
    [
        pytest.param(SETTINGS, True, id="by default"),
        pytest.param(DriftSettings(disabled=frozenset({ACCURACY})), False, id="switched off"),
        pytest.param(DriftSettings(effects={ACCURACY: 0.5}), False, id="more asked for"),
    ],
)
def test_the_spec_has_a_say_in_performance_drift(settings: DriftSettings, drifted: bool) -> None:
    found, _ = judge(LABELLED, None, Labels(800, 1000), PageHinkley(), settings)
    assert any(item.drifted for item in found) is drifted


def labelled_windows(*right: int, of: int = 1000, rows: int = 1000) -> list[DriftResult]:
    """Windows of unmoved inputs, with labels."""
    window, results = Window(start=0.0), []
    for index, number in enumerate(right, start=1):
        counter = ProfileCounter(LABELLED)
        confidence = np.full(rows, 0.9)
        counter.update(np.zeros((rows, 1)), predictions=np.ones(rows, dtype=int), confidence=confidence)
        window, result = advance(
            window, LABELLED, SETTINGS, now=3600.0 * index, seconds=300,
            pane=counter.counts(), right=number, labelled=of,
        )  # fmt: skip
        results += [result] if result is not None else []
    return results


def test_fewer_right_answers_on_unmoved_inputs_are_drift_told_with_severity_and_over_when_they_are() -> None:
    results = labelled_windows(900, 700, 900)
    assert [result.verdict.value for result in results] == ["NoDrift", "Drift", "NoDrift"]
    worse = results[1]
    assert (worse.performance_drifted, worse.severity, worse.features[0].name) == (True, Severity.HIGH, ACCURACY)
    assert worse.message == "drift of accuracy (70.0% of 1000 labels, 90.0% in the reference)"


AGE, LABELS = FeatureDrift(name="age", drifted=True), FeatureDrift(name=ACCURACY, drifted=True)


@pytest.mark.parametrize(
    ("verdict", "features", "rows", "moved"),
    [
        pytest.param("NoDrift", (), 1000, False, id="no drift"),
        pytest.param("InsufficientData", (), 10, None, id="too few rows"),
        pytest.param("Drift", (AGE,), 1000, True, id="inputs"),
        pytest.param("Drift", (AGE, LABELS), 1000, True, id="inputs and labels"),
        pytest.param("Drift", (LABELS,), 1000, False, id="labels alone"),
        pytest.param("Drift", (LABELS,), 10, None, id="labels alone, and too few rows to judge inputs"),
    ],
)
def test_labels_do_not_pass_for_moved_inputs_when_versions_are_compared(
    verdict: str, features: tuple[FeatureDrift, ...], rows: int, moved: bool | None
) -> None:
    result = DriftResult(
        verdict=DriftVerdict(verdict), features=features, rows=rows, rows_needed=500,
        performance_drifted=LABELS in features,
    )  # fmt: skip
    assert result.moved is moved


def test_a_drop_too_small_for_any_window_is_found_over_many() -> None:
    results = labelled_windows(*[860] * 20)
    assert results[0].verdict is DriftVerdict.NO_DRIFT
    assert results[-1].performance_drifted


def test_labels_count_where_rows_are_too_few_to_judge_inputs() -> None:
    (calm,), (worse,) = labelled_windows(90, of=100, rows=20), labelled_windows(50, of=100, rows=20)
    assert (calm.verdict, worse.verdict) == (DriftVerdict.INSUFFICIENT_DATA, DriftVerdict.DRIFT)


def test_labels_as_in_the_reference_alarm_once_in_10_000_windows() -> None:
    random = np.random.default_rng(7)
    right = random.binomial(200, 0.9, 2_000)
    walk, alarms = PageHinkley(), 0
    for number in right.tolist():
        found, walk = judge(LABELLED, None, Labels(number, 200), walk, SETTINGS)
        alarms += any(item.drifted for item in found)
    assert alarms == 0


def test_an_estimate_is_told_and_decides_nothing() -> None:
    random = np.random.default_rng(8)
    confidence = random.uniform(0.5, 1.0, 40_000)
    labels = np.where(random.random(40_000) < confidence, 1, 0)
    probabilities = np.column_stack([1 - confidence, confidence])
    profile = build_profile(np.zeros((40_000, 1)), probabilities=probabilities, labels=labels)
    counter = ProfileCounter(profile)
    unsure = random.uniform(0.5, 0.7, 5000)
    counter.update(np.zeros((5000, 1)), probabilities=np.column_stack([1 - unsure, unsure]))
    assert profile.predictions.accuracy == pytest.approx(0.75, abs=0.01)
    assert estimated_accuracy(profile, counter.counts()) == pytest.approx(0.6, abs=0.02)
    (told,), _ = judge(profile, counter.counts(), Labels(), PageHinkley(), SETTINGS)
    assert (told.name, told.severity, told.drifted) == (ESTIMATED_ACCURACY, Severity.HIGH, False)
    only_told = check_once(profile, counter.counts(), DriftSettings(disabled=frozenset({"confidence"})))
    assert (only_told.verdict, only_told.features[0].name) == (DriftVerdict.NO_DRIFT, ESTIMATED_ACCURACY)


# --- what must be found, and how soon ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thirty() -> ReferenceProfile:
    return build_profile(np.random.default_rng(10).standard_normal((100_000, 30), dtype=np.float32))


@pytest.mark.parametrize(
    ("shift", "effect", "within"),
    [
        pytest.param(0.5, 0.10, 2_000, id="half a standard deviation"),
        pytest.param(1.0, 0.10, 2_000, id="one, in the first window and its confirmation"),
        pytest.param(0.25, 0.05, 8_000, id="a quarter, where 5 % count"),
    ],
)
def test_a_shift_of_one_feature_in_thirty_is_found_in_time(
    thirty: ReferenceProfile, shift: float, effect: float, within: int
) -> None:
    settings, random = DriftSettings(effect=effect), np.random.default_rng(11)
    size, window = max(rows_needed(thirty, settings) or 0, 1_000), Window(start=0.0)
    for index in range(1, within // size + 1):
        data = random.standard_normal((size, 30))
        data[:, 17] += shift
        pods = [counts(part, thirty) for part in np.array_split(data, 3)]
        pane = functools.reduce(panes.add, pods)
        window, result = advance(window, thirty, settings, now=300.0 * index, seconds=300, pane=pane)
        if result is not None and result.verdict is DriftVerdict.DRIFT:
            assert [item.name for item in result.features if item.drifted] == ["feature_17"]
            return
    pytest.fail(f"not found in {within} rows")


# --- small references ---------------------------------------------------------------------------------------------


def test_a_small_reference_shows_large_drift_and_never_that_there_is_none() -> None:
    small = build_profile(RNG.standard_normal((300, 3)))
    assert rows_needed(small, SETTINGS) is None
    found = [check_once(small, counts(RNG.normal(shift, 1, (2000, 3)), small), SETTINGS) for shift in (0.0, 2.0)]
    assert [result.verdict for result in found] == [DriftVerdict.INSUFFICIENT_DATA, DriftVerdict.DRIFT]


@pytest.mark.parametrize(
    ("rows", "words"),
    [(300, "too few to decide by: no window could show drift of 10 %"), (900, "only windows of"), (2_000, "")],
)
def test_a_reference_too_small_is_said_with_what_would_do(rows: int, words: str) -> None:
    profile = build_profile(RNG.standard_normal((rows, 3)))
    told = shortage(profile, SETTINGS)
    assert told.startswith(words) if not words else words in told
    assert bool(told) == (rows < reference_rows_needed(profile, SETTINGS))


def test_effects_of_what_is_not_tested_ask_for_no_rows() -> None:
    fine = DriftSettings(effects={"no such feature": 0.01, "feature_1": 0.01}, disabled=frozenset({"feature_1"}))
    assert rows_needed(PROFILE, fine) == pytest.approx(NEEDED, rel=0.05)
    assert (rows_needed(PROFILE, DriftSettings(effects={"feature_1": 0.05})) or 0) > 3 * NEEDED


def test_noise_is_measured_stored_and_taken_off_the_severity() -> None:
    random = np.random.default_rng(9)
    profile = build_profile(random.standard_normal((2_000, 1)), predictions=random.standard_normal(2_000))
    stored = ReferenceProfile.from_json(profile.to_json())
    noises = [stored.features[0].noise, stored.predictions.noise]
    assert all(0.005 < noise < 0.05 for noise in noises), noises
    loud = profile.model_copy(update={"features": [profile.features[0].model_copy(update={"noise": 0.2})]})
    moved = random.normal(0.9, 1, (2_000, 1))
    found = [compare(p, counts(moved, p), SETTINGS)[0].severity for p in (profile, loud)]
    assert found == [Severity.MEDIUM, Severity.LOW]


def test_predictions_and_confidence_can_be_left_out_like_any_feature() -> None:
    quiet = DriftSettings(disabled=frozenset({"prediction", "confidence", "feature_0"}))
    counter = ProfileCounter(LABELLED)
    counter.update(np.ones((2000, 1)), predictions=np.zeros(2000, dtype=int), confidence=np.full(2000, 0.5))
    assert {item.name for item in compare(LABELLED, counter.counts(), SETTINGS)} == {
        "feature_0", "prediction", "confidence",
    }  # fmt: skip
    assert compare(LABELLED, counter.counts(), quiet) == []


def test_a_message_names_the_strongest_and_counts_the_others() -> None:
    moved = check_once(PROFILE, counts(RNG.normal(2, 1, (1000, FEATURES))), SETTINGS)
    assert moved.message.startswith("drift of feature_")
    assert moved.message.endswith(f" and {FEATURES - 5} more")


def test_answers_that_were_not_seen_are_not_told_as_alike() -> None:
    counter = ProfileCounter(LABELLED)
    counter.update(np.zeros((2000, 1)))
    result = check_once(LABELLED, counter.counts(), SETTINGS)
    assert [item.name for item in result.features] == ["feature_0"]
