"""Drift of live revisions from their pods' counters, and logged rows replayed through the same code."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from mlserve_core.api.v1alpha1 import ModelDeploymentSpec, Phase
from mlserve_core.statistics import ProfileCounter, ProfileError, build_profile
from mlserve_core.statistics.drift import DriftResult, DriftVerdict
from mlserve_core.wire import FeedbackCounts, LaneCounts, TelemetrySnapshot
from mlserve_operator.rollout.drift import DriftState, watch, world_moved
from mlserve_operator.rollout.logged import times
from mlserve_operator.rollout.replay import check, replay
from mlserve_operator.rollout.state import Event, Observation, PodObservation, RevisionHealth, RolloutState
from mlserve_operator.rollout.step import step

FEATURES = ["f0", "f1", "f2", "f3"]
SPEC = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://m"}})
PROFILE = build_profile(np.random.default_rng(0).standard_normal((20_000, 4)), feature_names=FEATURES)

LABELLED = build_profile(
    np.random.default_rng(0).standard_normal((20_000, 4)),
    feature_names=FEATURES,
    predictions=["yes"] * 20_000,
    classes=["no", "yes"],
    confidence=[0.9] * 20_000,
    labels=["yes"] * 18_000 + ["no"] * 2_000,
)


class Fleet:
    """Pods of one revision that count rows, restart, and can be silent."""

    def __init__(self, pods: int) -> None:
        self.random = np.random.default_rng(1)
        self.counters = [ProfileCounter(PROFILE) for _ in range(pods)]
        self.boots = [0] * pods
        self.silent: set[int] = set()
        self.state, self.now = DriftState(), 0.0
        self.events: list[Event] = []
        self.profile = PROFILE
        self.confusion = {"yes": {"yes": 0, "no": 0}}

    def label(self, *, right: int, wrong: int) -> None:
        """Labels that reach every pod now."""
        row = self.confusion["yes"]
        self.confusion = {"yes": {"yes": row["yes"] + right, "no": row["no"] + wrong}}

    def restart(self, index: int) -> None:
        self.counters[index], self.boots[index] = ProfileCounter(PROFILE), self.boots[index] + 1

    def look(self, seconds: float = 60.0) -> DriftVerdict | None:
        self.now += seconds
        pods = tuple(
            PodObservation(
                name=f"p{i}",
                uid=f"p{i}",
                revision="v1",
                telemetry=None
                if i in self.silent
                else TelemetrySnapshot(
                    name="m",
                    revision="v1",
                    boot_id=str(self.boots[i]),
                    live=LaneCounts(own=counter.counts(), feedback=FeedbackCounts(confusion=self.confusion)),
                ),
            )
            for i, counter in enumerate(self.counters)
        )
        seen = Observation(
            now=self.now, generation=1, spec=SPEC, target="v1", revisions={"v1": RevisionHealth()}, pods=pods
        )
        self.state, events, closed = watch(self.state, seen, {"v1": self.profile})
        self.state = DriftState.model_validate_json(self.state.model_dump_json(by_alias=True))
        self.events += events
        return closed["v1"].verdict if "v1" in closed else None


@pytest.mark.parametrize("pods", [1, 3, 10])
def test_drift_is_told_once_when_it_begins_and_once_when_it_ends(pods: int) -> None:
    fleet = Fleet(1)
    fleet.counters, fleet.boots = [ProfileCounter(PROFILE) for _ in range(pods)], [0] * pods
    fleet.random = np.random.default_rng(pods)
    fleet.look()
    for shift in [0.0] * 3 + [0.6] * 5 + [0.0] * 6:
        for index, part in enumerate(np.array_split(fleet.random.standard_normal((1000, 4)) + shift, pods)):
            fleet.counters[index].update(part)
        fleet.look(300)
    assert [event.reason for event in fleet.events] == ["DriftDetected", "DriftEnded"]


def test_windows_that_cannot_tell_neither_end_drift_nor_begin_it_again() -> None:
    fleet = Fleet(1)
    fleet.look()
    verdicts = []
    for shift, rows in ((0.6, 1000), (0.6, 1000), (0.6, 10), (0.6, 1000), (0.0, 10), *[(0.0, 1000)] * 4):
        fleet.counters[0].update(fleet.random.standard_normal((rows, 4)) + shift)
        verdicts.append(fleet.look(3600))
    assert [verdict for verdict in verdicts if verdict is DriftVerdict.INSUFFICIENT_DATA], "the case under test"
    assert [event.reason for event in fleet.events] == ["DriftDetected", "DriftEnded"]


def test_labels_count_in_the_window_in_which_they_arrive() -> None:
    fleet = Fleet(1)
    fleet.profile = LABELLED
    fleet.counters = [ProfileCounter(LABELLED)]
    fleet.look()
    for right in (900, 500):  # of 1,000; those of the second window are of predictions made in the first
        fleet.counters[0].update(fleet.random.standard_normal((1000, 4)))
        fleet.label(right=right, wrong=1000 - right)
        fleet.look(300)
    result = fleet.state.results["v1"]
    assert (result.labelled, result.accuracy, result.performance_drifted) == (1000, 0.5, True)
    assert [event.reason for event in fleet.events] == ["DriftDetected"]
    assert "50.0% of 1000 labels" in fleet.events[0].message


def test_labels_count_whichever_pods_they_come_to() -> None:
    counter, state = ProfileCounter(LABELLED), DriftState()
    random, confusions = np.random.default_rng(5), {"v1": 0, "v2": 0}

    def look(now: float, *, silent: str = "") -> None:
        nonlocal state
        counter.update(random.standard_normal((1000, 4)))
        mine, others = (FeedbackCounts(confusion={"yes": {"no": n}}) for n in confusions.values())
        told = {
            "v1": TelemetrySnapshot(
                name="m", revision="v1", boot_id="b", live=LaneCounts(own=counter.counts(), feedback=mine)
            ),
            "v2": TelemetrySnapshot(name="m", revision="v2", boot_id="b", other_feedback={"v1": others}),
        }
        pods = tuple(
            PodObservation(name=name, uid=name, revision=name, telemetry=None if name == silent else answer)
            for name, answer in told.items()
        )
        live = {name: RevisionHealth() for name in told}
        seen = Observation(now=now, generation=1, spec=SPEC, target="v2", revisions=live, pods=pods)
        state, _, _ = watch(state, seen, {"v1": LABELLED})

    confusions = {"v1": 70, "v2": 70}
    look(0.0, silent="v2")
    confusions = {"v1": 80, "v2": 75}
    look(100.0)
    confusions = {"v1": 90, "v2": 90}
    look(200.0, silent="v2")
    look(400.0)
    assert state.results["v1"].labelled == 20 + 15, "what v2 had been told before it could be asked is no news"


def test_newest_rows_far_from_the_reference_are_known_before_a_window_closes() -> None:
    counters = {name: ProfileCounter(PROFILE) for name in ("v1", "v2")}
    random, state = np.random.default_rng(4), DriftState()

    def look(now: float, shift: dict[str, float], rows: int = 60) -> dict[str, float]:
        nonlocal state
        for name, counter in counters.items():
            counter.update(random.standard_normal((rows, 4)) + shift.get(name, 0.0))
        pods = tuple(
            PodObservation(
                name=name,
                uid=name,
                revision=name,
                telemetry=TelemetrySnapshot(
                    name="m", revision=name, boot_id="1", live=LaneCounts(own=counter.counts())
                ),
            )
            for name, counter in counters.items()
        )
        live = {name: RevisionHealth() for name in counters}
        seen = Observation(now=now, generation=1, spec=SPEC, target="v2", revisions=live, pods=pods)
        state, _, closed = watch(state, seen, dict.fromkeys(counters, PROFILE))
        assert not closed
        return state.moved_at

    rollout = RolloutState(stable="v1", canary="v2")

    def moved(since: float) -> bool:
        seen = Observation(now=0, generation=1, spec=SPEC, target="v2", inputs_moved_at=state.moved_at)
        return world_moved(rollout, seen, since)

    for now in range(0, 50, 2):
        assert look(float(now), {}) == {}
    assert look(50.0, {"v2": 2.0}) == {"v2": 50.0}
    assert not moved(since=0.0), "one arm alone is a fault of the traffic split, not the world"
    assert look(52.0, {"v1": 2.0, "v2": 2.0}) == {"v1": 52.0, "v2": 52.0}
    assert (moved(since=50.0), moved(since=52.0)) == (True, False)
    assert look(54.0, {}, rows=10) == {"v1": 54.0, "v2": 54.0}, "too few to say that it is over"
    assert look(56.0, {}) == {"v1": 54.0, "v2": 54.0}


def test_a_standing_difference_too_small_for_drift_does_not_pass_for_a_world_that_moves() -> None:
    counter, random, state = ProfileCounter(PROFILE), np.random.default_rng(6), DriftState()

    def look(now: float, shift: float) -> bool:
        nonlocal state
        counter.update(random.standard_normal((4_000, 4)) + shift)
        told = TelemetrySnapshot(name="m", revision="v1", boot_id="1", live=LaneCounts(own=counter.counts()))
        pods = (PodObservation(name="v1", uid="v1", revision="v1", telemetry=told),)
        live = {name: RevisionHealth() for name in ("v1", "v2")}
        seen = Observation(now=now, generation=1, spec=SPEC, target="v2", revisions=live, pods=pods)
        state, _, _ = watch(state, seen, {"v1": PROFILE})
        return state.revisions["v1"].moved

    moved = [look(60.0 * minute, 0.18) for minute in range(12)]  # D is 7 %, of which 10 % would count
    assert state.results["v1"].verdict is DriftVerdict.NO_DRIFT
    assert moved[1:5] == [True] * 4, "until a window says that this is usual"
    assert moved[6:] == [False] * 6
    assert [look(60.0 * minute, 0.6) for minute in range(12, 30)] == [True] * 18, "through the windows that confirm it"
    assert state.results["v1"].verdict is DriftVerdict.DRIFT


def test_what_was_counted_before_watching_began_is_not_counted() -> None:
    fleet = Fleet(1)
    fleet.counters[0].update(np.full((5000, 4), 9.0))
    fleet.look()
    fleet.counters[0].update(fleet.random.standard_normal((1000, 4)))
    assert fleet.look(300) is DriftVerdict.NO_DRIFT
    assert fleet.state.results["v1"].rows == 1000


def test_a_silent_pod_loses_nothing_and_a_restart_counts_nothing_twice() -> None:
    fleet = Fleet(2)
    fleet.look()
    fleet.counters[0].update(fleet.random.standard_normal((400, 4)))
    fleet.silent = {0}
    assert fleet.look(60) is None
    fleet.silent = set()
    fleet.counters[1].update(fleet.random.standard_normal((300, 4)))
    assert fleet.look(60) is None
    fleet.restart(1)
    fleet.counters[1].update(fleet.random.standard_normal((100, 4)))
    fleet.look(300)
    assert fleet.state.results["v1"].rows == 800


def test_counts_on_another_profile_are_left_alone() -> None:
    fleet = Fleet(1)
    fleet.look()
    other = build_profile(np.zeros((10, 1)))
    fleet.counters[0] = ProfileCounter(other)
    assert fleet.look(300) is None


# --- after a promotion --------------------------------------------------------------------------------------------


def baked(on_drift: str, verdict: DriftVerdict, *, worse: bool, ticks: int = 30) -> list[RolloutState]:
    """States after v2 has replaced v1, with one and the same drift found of whatever serves."""
    spec = ModelDeploymentSpec.model_validate(
        {"model": {"uri": "s3://m"}, "drift": {"onDrift": on_drift}, "rollout": {"analysis": {"intervalSeconds": 10}}}
    )
    found = DriftResult(verdict=verdict, rows=1000, performance_drifted=worse)
    state = RolloutState(phase=Phase.BAKING, stable="v2", previous="v1", retained_until=300.0, clock=0.0)
    states = []
    for tick in range(ticks):
        pods = tuple(
            PodObservation(
                name=name,
                uid=name,
                revision=name,
                telemetry=TelemetrySnapshot(
                    name="m", revision=name, boot_id="b", live=LaneCounts(requests=100 * tick, rows=100 * tick)
                ),
            )
            for name in ("v1", "v2")
        )
        live = {name: RevisionHealth(desired=1, ready=1) for name in ("v1", "v2")}
        seen = Observation(
            now=10.0 * tick, generation=1, spec=spec, target="v2", revisions=live, route=state.route, pods=pods,
            drift={"v1": found, "v2": found},
        )  # fmt: skip
        state = step(state, seen).state
        states.append(state)
    return states


@pytest.mark.parametrize(
    ("on_drift", "verdict", "worse", "stable"),
    [
        pytest.param("Rollback", DriftVerdict.DRIFT, True, "v1", id="asked for, and labels say so"),
        pytest.param("Rollback", DriftVerdict.DRIFT, False, "v2", id="no labels: nobody knows who is to blame"),
        pytest.param("Rollback", DriftVerdict.INSUFFICIENT_DATA, False, "v2", id="too little data"),
        pytest.param("HoldPromotion", DriftVerdict.DRIFT, True, "v2", id="not asked for"),
        pytest.param("Alert", DriftVerdict.DRIFT, True, "v2", id="alert only"),
    ],
)
def test_drift_after_a_promotion_leads_back_by_policy_and_labels(
    on_drift: str, verdict: DriftVerdict, worse: bool, stable: str
) -> None:
    end = baked(on_drift, verdict, worse=worse)[-1]
    assert end.stable == stable
    assert [item.reason for item in end.rejected] == (["DriftRollback"] if stable == "v1" else [])


def test_drift_that_goes_on_after_a_rollback_leads_no_further() -> None:
    served = [state.stable for state in baked("Rollback", DriftVerdict.DRIFT, worse=True, ticks=60)]
    changes = [b for a, b in itertools.pairwise(served) if a != b]
    assert changes == ["v1"], "one hop, and the same drift of v1 then is no reason for another"


# --- replay -------------------------------------------------------------------------------------------------------


def logged(n: int, seed: int, **how: float) -> dict[str, list[object]]:
    """Rows of one arm: four features, a prediction that follows from them, and what was seen of the requests."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, 4)) + how.get("shift", 0.0)
    truth = rows[:, 0] + rows[:, 1] > 0
    answer = np.where(random.random(n) < how.get("wrong", 0.05), ~truth, truth)
    answer = np.where(random.random(n) < how.get("collapse", 0.0), True, answer)
    columns: dict[str, list[object]] = {name: rows[:, i].tolist() for i, name in enumerate(FEATURES)}
    columns["prediction"] = np.where(answer, "yes", "no").tolist()
    columns["latency_ms"] = (how.get("latency", 20.0) * np.exp(0.2 * random.standard_normal(n))).tolist()
    columns["status"] = np.where(random.random(n) < how.get("errors", 0.0), 500, 200).tolist()
    if how.get("labels"):
        columns["label"] = np.where(truth, "yes", "no").tolist()
    if how.get("timed"):
        columns["timestamp"] = [f"2026-01-01T00:{i * 50 // n:02d}:{i % 60:02d}+00:00" for i in range(n)]
    return columns


ALL = np.random.default_rng(2).standard_normal((20_000, 4))
ANSWERED = build_profile(
    ALL, feature_names=FEATURES, predictions=np.where(ALL[:, 0] + ALL[:, 1] > 0, "yes", "no"), classes=["no", "yes"]
)
CASES = {
    "clean": ({}, {}, "Promote", "Promoted"),
    "clean, by time": ({"timed": 1}, {"timed": 1}, "Promote", "Promoted"),
    "errors": ({"errors": 0.01}, {"errors": 0.15}, "Rollback", "AnalysisFailed"),
    "slow": ({}, {"latency": 60.0}, "Rollback", "AnalysisFailed"),
    "wrong": ({"labels": 1}, {"labels": 1, "wrong": 0.3}, "Rollback", "AnalysisFailed"),
    "collapse": ({}, {"collapse": 1.0}, "Rollback", "DriftRollback"),
    "other inputs": ({}, {"shift": 1.0}, "Pause", "AnalysisInconclusive"),
    "population": ({"shift": 1.0}, {"shift": 1.0}, "Alert", "the population changed"),
    "population, and the versions disagree": (
        {"shift": 1.0},
        {"shift": 1.0, "collapse": 1.0, "wrong": 0.7},
        "Alert",
        "the population changed",
    ),
    "population, and errors": ({"shift": 1.0}, {"shift": 1.0, "errors": 0.2}, "Rollback", "AnalysisFailed"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_replay_decides_as_the_operator_would(name: str) -> None:
    stable, canary, decision, reason = CASES[name]
    found = replay(ANSWERED, logged(4000, 3, **stable), logged(1000, 4, **canary))
    assert (found["decision"], reason in found["reason"]) == (decision, True), found["reason"]
    assert found["requests"] == {"canary": 1000, "stable": 4000}
    assert found["looks"]
    assert json.loads(json.dumps(found)) == found


def test_few_rows_are_held_not_promoted() -> None:
    found = replay(ANSWERED, logged(200, 3), logged(50, 4))
    assert (found["decision"], found["drift"]["verdict"]) == ("Hold", "InsufficientData")


@pytest.mark.parametrize(
    ("drift", "decision"),
    [
        pytest.param({}, "Alert", id="by default"),
        pytest.param({"onDrift": "Alert"}, "Promote", id="alert only"),
        pytest.param({"onDrift": "Rollback"}, "Rollback", id="asked for"),
        pytest.param({"enabled": False}, "Promote", id="not watched"),
        pytest.param({"effectPercent": 60}, "Promote", id="no effect that counts"),
        pytest.param({"features": [{"name": name, "enabled": False} for name in FEATURES]}, "Promote", id="left out"),
    ],
)
def test_a_population_that_moved_is_answered_by_the_policy(drift: dict[str, object], decision: str) -> None:
    profile = build_profile(ALL, feature_names=FEATURES)
    spec = SPEC.model_validate({"model": {"uri": "s3://m"}, "drift": drift})
    moved = [logged(n, seed, shift=1.0) for n, seed in ((4000, 3), (1000, 4))]
    found = replay(profile, *moved, spec)
    assert found["decision"] == decision, found["reason"]


def test_the_policy_is_the_users() -> None:
    spec = SPEC.model_validate({"model": {"uri": "s3://m"}, "rollout": {"onRegression": "Pause"}})
    assert replay(ANSWERED, logged(4000, 3), logged(1000, 4, errors=0.3), spec)["decision"] == "Pause"


@pytest.mark.parametrize(
    ("shift", "n", "decision", "verdict"),
    [(0.0, 3000, "Hold", "NoDrift"), (0.5, 3000, "Alert", "Drift"), (0.5, 40, "Hold", "InsufficientData")],
)
def test_check_against_the_reference_alone(shift: float, n: int, decision: str, verdict: str) -> None:
    found = check(ANSWERED, logged(n, 5, shift=shift))
    assert (found["decision"], found["drift"]["verdict"]) == (decision, verdict)
    assert found["requests"] == {"canary": 0, "stable": n}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"f0": [1.0]}, "stable has no column f1, f2, f3; it has f0"),
        ({}, "stable has no rows"),
        ({"f0": [1.0, 2.0], "f1": [1.0]}, "differ in length"),
        ({name: ["x"] for name in FEATURES} | {"timestamp": ["yesterday"]}, "neither ISO 8601 nor seconds"),
    ],
    ids=["renamed", "empty", "ragged", "time"],
)
def test_bad_rows_are_refused_with_the_place(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        replay(ANSWERED, columns, logged(10, 1))


def test_strings_where_numbers_belong_are_drift_not_a_crash() -> None:
    broken = logged(2000, 6) | {"f2": ["n/a"] * 2000}
    found = check(ANSWERED, broken)
    assert (found["drift"]["verdict"], found["drift"]["features"][0]["name"]) == ("Drift", "f2")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        pytest.param("status", ["ok"], "column 'status' of stable has 'ok' in row 1, where a number", id="status"),
        pytest.param("status", [20.5], "has 20.5 in row 1, where an HTTP status belongs", id="half a status"),
        pytest.param("latency_ms", ["fast"], "column 'latency_ms' of stable has 'fast' in row 1", id="latency"),
        pytest.param("score", ["high"], "column 'score' of stable has 'high' in row 1", id="score"),
        pytest.param("score", [97.0], "has 97 in row 1; a score is the probability", id="score in percent"),
        pytest.param("timestamp", [1.77e12], "timestamp 1770000000000.0 in row 1", id="milliseconds"),
        pytest.param("timestamp", [None], "timestamp None in row 1 of stable is neither", id="no time"),
        pytest.param(
            "prediction", ["cat"], "no prediction of stable (cat) is a class of the profile", id="other model"
        ),
    ],
)
def test_cells_that_cannot_be_read_are_refused_and_not_read_as_something_else(
    column: str, values: list[object], message: str
) -> None:
    rows = logged(20, 1) | {column: values * 20}
    with pytest.raises(ProfileError) as refused:
        replay(ANSWERED, rows, logged(20, 2))
    assert message in str(refused.value)


def test_empty_cells_of_optional_columns_say_nothing() -> None:
    empty = {name: [None, math.nan] * 500 for name in ("score", "latency_ms", "status", "label")}
    found = replay(ANSWERED, logged(4000, 3), logged(1000, 4) | empty)
    assert found["requests"] == {"canary": 1000, "stable": 4000}


def test_predictions_of_a_class_the_profile_does_not_know_are_counted() -> None:
    rows = logged(2000, 6)
    rows["prediction"] = ["maybe" if i % 2 else value for i, value in enumerate(rows["prediction"])]
    found = check(ANSWERED, rows)
    strongest = found["drift"]["features"][0]
    assert (found["decision"], strongest["name"], round(strongest["effect"], 1)) == ("Alert", "prediction", 0.5)


def test_predictions_without_a_reference_are_not_told_as_compared() -> None:
    found = check(PROFILE, logged(2000, 1))
    assert {item["name"] for item in found["drift"]["features"]} == set(FEATURES)


def test_words_for_the_predictions_of_a_regression_are_refused() -> None:
    scores = build_profile(ALL, feature_names=FEATURES, predictions=ALL[:, 0])
    with pytest.raises(ProfileError, match=r"column 'prediction' of the data has '(yes|no)' in row 1"):
        check(scores, logged(100, 1))
    assert check(scores, logged(2000, 1) | {"prediction": ALL[:2000, 0].tolist()})["drift"]["verdict"] == "NoDrift"


def test_labels_show_drift_that_inputs_do_not() -> None:
    truth = np.where(ALL[:, 0] + ALL[:, 1] > 0, "yes", "no")
    answer = np.where(np.arange(20_000) < 19_000, truth, np.where(truth == "yes", "no", "yes"))
    profile = build_profile(
        ALL, feature_names=FEATURES, predictions=answer, classes=["no", "yes"], confidence=[0.9] * 20_000, labels=truth
    )
    found = check(profile, logged(2000, 1, labels=1, wrong=0.3))
    assert found["decision"] == "Alert"
    assert found["drift"]["performanceDrifted"] is True
    assert found["drift"]["accuracy"] == pytest.approx(0.7, abs=0.03)
    both = replay(profile, logged(4000, 3, labels=1, wrong=0.3), logged(2000, 4, labels=1, wrong=0.3))
    assert (both["decision"], both["drift"]["verdict"]) == ("Promote", "Drift"), "as wrong as each other"


def stamped(first: int, last: int, n: int) -> dict[str, list[object]]:
    return {"timestamp": np.linspace(1_767_225_600 + first, 1_767_225_600 + last, n).tolist()}


@pytest.mark.parametrize(
    ("times", "decision"),
    [
        pytest.param((0, 3600), "Rollback", id="together"),
        pytest.param((0, 90), "Rollback", id="at the beginning"),
        pytest.param((3000, 7200), "Rollback", id="for a while"),
        pytest.param((3700, 7200), "Hold", id="one after the other"),
        pytest.param((31 * 86_400, 31 * 86_400 + 60), "Hold", id="a month later"),
    ],
)
def test_versions_are_compared_where_they_ran_together(times: tuple[int, int], decision: str) -> None:
    stable = logged(4000, 3) | stamped(0, 3600, 4000)
    found = replay(ANSWERED, stable, logged(1000, 4, errors=0.5) | stamped(*times, 1000))
    assert found["decision"] == decision, found["reason"]
    if decision == "Hold":
        assert "did not run at the same time (stable 2026-01-01T00:0" in found["reason"]


def test_rows_that_tell_nothing_of_answers_promote_nothing() -> None:
    features = [{name: logged(n, n)[name] for name in FEATURES} for n in (4000, 1000)]
    found = replay(build_profile(ALL, feature_names=FEATURES), *features)
    assert (found["decision"], "log `prediction` or `status`" in found["reason"]) == ("Hold", True)


def test_a_time_without_a_zone_is_utc() -> None:
    columns = {"timestamp": ["2026-01-01T00:00:00", "2026-01-01T01:00:00+01:00", 1767225600, "1767225600.0"]}
    assert times(columns, "stable").tolist() == [1767225600.0] * 4


def test_an_override_of_no_feature_is_refused() -> None:
    spec = SPEC.model_validate({"model": {"uri": "s3://m"}, "drift": {"features": [{"name": "F0", "enabled": False}]}})
    with pytest.raises(ProfileError, match=r"spec\.drift\.features names F0; the profile has f0, f1"):
        check(ANSWERED, logged(20, 1), spec)


def test_long_whole_numbers_are_categories_to_the_last_digit() -> None:
    ids = [2**60 + i % 2 for i in range(4000)]
    profile = build_profile({"id": ids, "kind": ["a"] * 4000}, categorical=["id"])
    assert profile.feature("id").categories == [str(2**60), str(2**60 + 1)]
    found = check(profile, {"id": ids, "kind": ["a"] * 4000})
    assert {item["outOfRange"] for item in found["drift"]["features"]} == {0.0}
