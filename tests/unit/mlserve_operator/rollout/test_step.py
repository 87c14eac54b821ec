"""One tick at a time: each phase with each kind of news, and scripts of whole rollouts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlserve_core.api.v1alpha1 import DriftAction, ModelDeploymentSpec, Phase, Reason, RegressionAction
from mlserve_core.statistics.drift import DriftResult, DriftVerdict
from mlserve_core.wire import FeedbackCounts, LaneCounts, TelemetrySnapshot
from mlserve_operator.rollout.drift import WORLD_MOVED
from mlserve_operator.rollout.evidence import Evidence, Verdict
from mlserve_operator.rollout.judge import Judgement
from mlserve_operator.rollout.schedule import PHASES
from mlserve_operator.rollout.simulation import Behaviour, World, trial
from mlserve_operator.rollout.state import (
    Command,
    Decision,
    Failure,
    Observation,
    PauseCause,
    PodObservation,
    QueryResult,
    Rejection,
    RevisionHealth,
    RolloutState,
    Route,
    RouterCounters,
)
from mlserve_operator.rollout.step import MAX_SILENCE_SECONDS, step

NOW = 1_000_000.0


def spec(**rollout: object) -> ModelDeploymentSpec:
    return ModelDeploymentSpec.model_validate({"model": {"uri": "s3://m"}, "replicas": 2, "rollout": rollout})


def seen(state: RolloutState, **values: object) -> Observation:
    """A calm observation of a state: everything ready and confirmed; values replace what is not calm."""
    live = [name for name in (state.stable, state.canary, state.previous) if name]
    calm: dict[str, object] = {
        "now": NOW,
        "generation": 1,
        "spec": spec(),
        "target": state.canary or state.stable or "v1",
        "revisions": {name: RevisionHealth(desired=2, ready=2) for name in live},
        "route": state.route,
        "pods": tuple(pod(name) for name in live),
    }
    return Observation.model_validate(calm | values)


def pod(revision: str, index: int = 0, **lane: object) -> PodObservation:
    name = f"{revision}-{index}"
    told = TelemetrySnapshot(name="m", revision=revision, boot_id="b", live=LaneCounts.model_validate(lane))
    return PodObservation(name=name, uid=name, revision=revision, telemetry=told)


def phase_state(phase: Phase) -> RolloutState:
    """A typical state of each phase, in the middle of what it does."""
    trial_state = {
        "stable": "v1",
        "canary": "v2",
        "weight": 5,
        "step": 0,
        "step_started_at": NOW - 1000,
        "clock": NOW - 10,
        "evidence": Evidence(weight=5, seen_at=NOW - 1, requests_canary=500),
    }
    values: dict[Phase, dict[str, object]] = {
        Phase.PENDING: {"canary": "v1", "canary_since": NOW - 10, "clock": NOW - 10},
        Phase.HEALTHY: {"stable": "v1"},
        Phase.PROGRESSING: trial_state,
        Phase.PAUSED: trial_state | {"pauses": (PauseCause.COMMAND,)},
        Phase.BAKING: {"stable": "v2", "previous": "v1", "retained_until": NOW + 100, "clock": NOW - 10},
        Phase.ROLLING_BACK: {"stable": "v1", "canary": "v2", "clock": NOW - 10},
        Phase.ROLLED_BACK: {"stable": "v1"},
    }
    return RolloutState(phase=phase, **values[phase])


ROLLBACK = Judgement(
    Verdict.FAILED, "bad", action=RegressionAction.ROLLBACK, reason=Reason.ANALYSIS_FAILED, checks=("errors",)
)
JUDGEMENTS = {
    "no look": None,
    "Successful": Judgement(Verdict.SUCCESSFUL, "good"),
    "Inconclusive": Judgement(Verdict.INCONCLUSIVE, "few"),
    "Error": Judgement(Verdict.ERROR, "no answer"),
    "Failed": ROLLBACK,
}
OUTCOMES = {
    Phase.PENDING: dict.fromkeys(JUDGEMENTS, Phase.HEALTHY),
    Phase.HEALTHY: dict.fromkeys(JUDGEMENTS, Phase.HEALTHY),
    Phase.PROGRESSING: dict.fromkeys(JUDGEMENTS, Phase.PROGRESSING) | {"Failed": Phase.ROLLING_BACK},
    Phase.PAUSED: dict.fromkeys(JUDGEMENTS, Phase.PAUSED) | {"Failed": Phase.ROLLING_BACK},
    Phase.BAKING: dict.fromkeys(JUDGEMENTS, Phase.BAKING) | {"Failed": Phase.ROLLING_BACK},
    Phase.ROLLING_BACK: dict.fromkeys(JUDGEMENTS, Phase.PROGRESSING),
    Phase.ROLLED_BACK: dict.fromkeys(JUDGEMENTS, Phase.HEALTHY),
}


def test_every_phase_and_verdict_has_a_row() -> None:
    assert PHASES.keys() == OUTCOMES.keys() == set(Phase)
    assert {judgement.verdict for judgement in JUDGEMENTS.values() if judgement} == set(Verdict)
    assert all(row.keys() == JUDGEMENTS.keys() for row in OUTCOMES.values())


@pytest.mark.parametrize(("phase", "name"), list(itertools.product(Phase, JUDGEMENTS)))
def test_phase_by_verdict(phase: Phase, name: str) -> None:
    state = phase_state(phase)
    observation = seen(state)
    if phase is Phase.ROLLING_BACK:
        silent = tuple(pod(name) for name in ("v1", "v2"))
        observation = seen(state, pods=silent)
    after, events = PHASES[phase](state, observation, JUDGEMENTS[name])
    assert after.phase is OUTCOMES[phase][name]
    if name == "Failed" and after.phase is Phase.ROLLING_BACK:
        assert after.weight == 0
        assert [item.revision for item in after.rejected] == ["v2"]
        assert [event.type for event in events] == ["Warning"]


OTHER_BYTES = Failure(reason=Reason.CHECKSUM_MISMATCH, message="other bytes")
NO_GPU = Failure(reason=Reason.INSUFFICIENT_RESOURCES, message="no GPU", terminal=False)

# --- availability -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "passed", "reason"),
    [
        pytest.param(None, 5, None, id="young"),
        pytest.param(None, 600, Reason.PROGRESS_DEADLINE_EXCEEDED, id="deadline"),
        pytest.param(OTHER_BYTES, 5, Reason.CHECKSUM_MISMATCH, id="bytes"),
        pytest.param(NO_GPU, 5, None, id="may pass"),
        pytest.param(NO_GPU, 600, Reason.INSUFFICIENT_RESOURCES, id="did not pass"),
    ],
)
def test_a_canary_that_does_not_come_up(failure: Failure | None, passed: float, reason: Reason | None) -> None:
    state = RolloutState(
        phase=Phase.PROGRESSING, stable="v1", canary="v2", canary_since=NOW - passed, clock=NOW - min(passed, 200)
    )
    health = {"v1": RevisionHealth(desired=2, ready=2), "v2": RevisionHealth(desired=1, ready=0, failure=failure)}
    decision = step(state, seen(state, revisions=health))
    assert decision.route.weights.get("v1") == 100
    if reason is None:
        assert decision.state.phase is Phase.PROGRESSING
    else:
        assert (decision.state.phase, decision.state.rejected[0].reason) == (Phase.ROLLING_BACK, reason)


def test_the_first_revision_waits_for_a_better_spec_and_says_so_once() -> None:
    state = phase_state(Phase.PENDING)
    broken = {"v1": RevisionHealth(desired=2, failure=Failure(reason=Reason.MODEL_LOAD_FAILED, message="no weights"))}
    first = step(state, seen(state, revisions=broken))
    assert (first.state.stalled, first.state.reason, len(first.events)) == (True, Reason.MODEL_LOAD_FAILED, 1)
    assert step(first.state, seen(state, revisions=broken)).events == ()
    better = step(first.state, seen(state, revisions=broken, target="v2"))
    assert (better.state.canary, better.state.stalled) == ("v2", False)


def test_a_canary_that_lost_its_pods_gets_no_requests() -> None:
    state = phase_state(Phase.PROGRESSING)
    gone = {"v1": RevisionHealth(desired=2, ready=2), "v2": RevisionHealth(desired=1, ready=0)}
    decision = step(state, seen(state, revisions=gone))
    assert decision.route.weights == {"v1": 100, "v2": 0}
    assert decision.state.phase is Phase.PROGRESSING


def test_no_rollback_onto_a_stable_that_cannot_serve() -> None:
    state = phase_state(Phase.PROGRESSING)
    sick = {"v1": RevisionHealth(desired=2, ready=0), "v2": RevisionHealth(desired=1, ready=1)}
    decision = step(state, seen(state, revisions=sick, command=Command.parse("abort:1")))
    assert decision.route.weights == {"v1": 95, "v2": 5}
    again = step(decision.state, seen(decision.state, revisions=sick, target="v2"))
    assert (again.state.stalled, again.route.weights) == (True, {"v1": 95, "v2": 5})
    well = step(again.state, seen(again.state, target="v2"))
    assert (well.state.stalled, well.route.weights) == (False, {"v1": 100, "v2": 0})


@pytest.mark.parametrize(
    ("ready_previous", "phase", "serving"),
    [pytest.param(2, Phase.ROLLING_BACK, "v1", id="warm"), pytest.param(0, Phase.BAKING, "v2", id="cold")],
)
def test_a_promoted_revision_that_dies(ready_previous: int, phase: Phase, serving: str) -> None:
    state = phase_state(Phase.BAKING)
    dead = {"v2": RevisionHealth(desired=2, ready=0), "v1": RevisionHealth(desired=2, ready=ready_previous)}
    waiting = step(state, seen(state, revisions=dead)).state
    decision = step(waiting, seen(waiting, revisions=dead, now=NOW + 31))
    assert (decision.state.phase, decision.route.weights[serving]) == (phase, 100)


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        pytest.param(None, Phase.ROLLING_BACK, id="back to what served before"),
        pytest.param(Reason.MANUAL_ABORT, Phase.ROLLING_BACK, id="undone by a person who was wrong"),
        pytest.param(Reason.ANALYSIS_FAILED, Phase.BAKING, id="no ping-pong with what was found bad"),
    ],
)
def test_the_way_back_from_a_promotion(reason: Reason | None, phase: Phase) -> None:
    rejected = (Rejection(revision="v1", reason=reason, message="m", at=NOW),) if reason else ()
    state = phase_state(Phase.BAKING).model_copy(update={"rejected": rejected})
    after, _ = PHASES[Phase.BAKING](state, seen(state), ROLLBACK)
    assert after.phase is phase
    assert after.stable == ("v1" if phase is Phase.ROLLING_BACK else "v2")


@pytest.mark.parametrize(
    ("baseline", "phase"),
    [
        pytest.param({"errors": (1000, 10)}, Phase.ROLLED_BACK, id="known from the comparison"),
        pytest.param({}, Phase.BAKING, id="unknown: only what fails half of the requests is gross"),
    ],
)
def test_without_pods_the_previous_revision_is_what_the_comparison_saw(
    baseline: dict[str, tuple[int, int]], phase: Phase
) -> None:
    """Where GPUs are short nothing of the previous revision may be left to ask."""
    state = phase_state(Phase.BAKING).model_copy(update={"baseline": baseline})
    health = {"v2": RevisionHealth(desired=2, ready=2), "v1": RevisionHealth(desired=0)}
    policy = spec(maxSurgeGpus=0)
    for look in range(6):
        pods = (pod("v2", requests=200 * look, server_errors=40 * look),)
        observation = seen(
            state, now=NOW + 15 * look, pods=pods, revisions=health, spec=policy, gpus={"v1": 1, "v2": 1}
        )
        state = step(state, observation.model_copy(update={"target": "v2"})).state
        if state.phase is not Phase.BAKING:
            break
    gone_back = state.rejection("v2") is not None
    assert gone_back is (phase is Phase.ROLLED_BACK)


# --- the spec and the person --------------------------------------------------------------------------------------


def test_a_new_spec_in_mid_rollout_takes_the_canary_out_first() -> None:
    state = phase_state(Phase.PROGRESSING)
    decision = step(state, seen(state, target="v3"))
    assert decision.route.weights == {"v1": 100, "v2": 0}
    assert decision.state.rejected == ()
    later = step(decision.state, seen(decision.state, target="v3"))
    assert (later.state.phase, later.state.canary) == (Phase.PROGRESSING, "v3")


def test_a_canary_on_its_way_out_keeps_its_pods_until_it_is_drained() -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50})
    health = {"v1": RevisionHealth(desired=4, ready=4), "v2": RevisionHealth(desired=3, ready=3)}
    policy = spec(steps=[{"weight": 50}])
    decision = step(state, seen(state, spec=policy, target="v1", revisions=health))
    assert (decision.state.weight, decision.state.phase) == (0, Phase.ROLLING_BACK)
    sizes = {plan.revision: plan.replicas for plan in decision.revisions}
    assert sizes["v2"] == 3, "routers may still send it requests"
    gone = step(decision.state, seen(decision.state, spec=policy, target="v1", revisions=health))
    assert [plan.revision for plan in gone.revisions] == ["v1"]


def test_back_to_the_stable_spec_ends_the_rollout_and_restarts_nothing() -> None:
    state = phase_state(Phase.PROGRESSING)
    decision = step(state, seen(state, target="v1"))
    later = step(decision.state, seen(decision.state, target="v1"))
    assert (later.state.phase, later.state.stable, later.state.rejected) == (Phase.HEALTHY, "v1", ())


COMMANDS = {
    ("promote", Phase.PROGRESSING): ("Progressing", "promoted without waiting"),
    ("promote", Phase.PAUSED): ("Progressing", "promoted without waiting"),
    ("promote", Phase.HEALTHY): ("Healthy", "no revision is on trial"),
    ("abort", Phase.PROGRESSING): ("RollingBack", "v2 is rolled back"),
    ("abort", Phase.BAKING): ("RollingBack", "v2 is rolled back"),
    ("abort", Phase.HEALTHY): ("Healthy", "no revision is on trial"),
    ("pause", Phase.PROGRESSING): ("Paused", "stays at 5 %"),
    ("pause", Phase.HEALTHY): ("Healthy", "no revision is on trial"),
    ("resume", Phase.PAUSED): ("Progressing", "goes on"),
    ("resume", Phase.PROGRESSING): ("Progressing", "nothing is paused"),
    ("retry", Phase.HEALTHY): ("Healthy", "is not rejected"),
    ("undo", Phase.HEALTHY): ("Progressing", "going back to v0"),
    ("undo", Phase.BAKING): ("Progressing", "going back to v1"),
    ("undo", Phase.PROGRESSING): ("RollingBack", "v2 is rolled back"),
    ("undo", Phase.PENDING): ("Healthy", "nothing serves yet"),
    ("undo=nobody", Phase.HEALTHY): ("Healthy", "no kept revision to go back to named nobody; kept: v0"),
}


@pytest.mark.parametrize(("verb", "phase"), list(COMMANDS))
def test_commands(verb: str, phase: Phase) -> None:
    state, (wanted, words) = phase_state(phase), COMMANDS[verb, phase]
    observation = seen(state, command=Command.parse(f"{verb}:7"), history=("v0",))
    decision = step(state, observation)
    assert decision.state.phase == wanted
    assert decision.state.last_command is not None
    assert words in decision.state.last_command.message
    again = step(decision.state, seen(decision.state, command=Command.parse(f"{verb}:7"), target=observation.target))
    assert again.state.last_command == decision.state.last_command, "carried out once"


def test_retry_forgets_the_rejection() -> None:
    world = trial(
        {"rollout": {"progressDeadlineSeconds": 10}}, Behaviour(), Behaviour(errors=0.9), np.random.default_rng(1)
    )
    assert world.settle() is Phase.ROLLED_BACK
    for _ in range(5):
        assert world.tick().state.phase is Phase.ROLLED_BACK
    world.behaviours["v2"], world.command = Behaviour(), Command.parse("retry:1")
    world.tick()
    assert world.state.phase is Phase.PROGRESSING
    assert world.settle() is Phase.BAKING


def test_paused_by_spec_holds_the_weight_until_it_is_unset() -> None:
    state = phase_state(Phase.PROGRESSING)
    held = step(state, seen(state, spec=spec(paused=True)))
    assert (held.state.phase, held.state.pauses, held.route.weights["v2"]) == (Phase.PAUSED, (PauseCause.SPEC,), 5)
    free = step(held.state, seen(held.state))
    assert (free.state.phase, free.state.pauses) == (Phase.PROGRESSING, ())


@pytest.mark.parametrize(
    ("phase", "on_trial", "spare"),
    [
        pytest.param(Phase.HEALTHY, "", "", id="alone"),
        pytest.param(Phase.PROGRESSING, "v2", "v1", id="on-trial"),
        pytest.param(Phase.PAUSED, "v2", "v1", id="held"),
        pytest.param(Phase.ROLLING_BACK, "", "v1", id="on-its-way-out"),
        pytest.param(Phase.BAKING, "", "v1", id="promoted"),
    ],
)
def test_only_a_revision_on_trial_has_somebody_to_answer_in_its_place(phase: Phase, on_trial: str, spare: str) -> None:
    """The spare is named longer than it is used: the router must not lose a cluster that a request is on its way to."""
    route = phase_state(phase).route
    assert (route.preview, route.spare) == (on_trial, spare)


# --- the clock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0], ids=["back", "forward"])
def test_a_clock_that_jumps_ends_no_deadline(jump: float) -> None:
    state = RolloutState(phase=Phase.PROGRESSING, stable="v1", canary="v2", canary_since=NOW, clock=NOW)
    waiting = {"v1": RevisionHealth(desired=2, ready=2), "v2": RevisionHealth(desired=1)}
    decision = step(state, seen(state, now=NOW + jump, revisions=waiting))
    assert decision.state.phase is Phase.PROGRESSING
    waited = NOW + jump - (decision.state.canary_since or 0)
    assert 0 <= waited <= MAX_SILENCE_SECONDS


def test_looks_go_on_after_a_clock_was_put_back() -> None:
    """By an hour of NTP, or by another replica whose clock is behind."""
    state = phase_state(Phase.PROGRESSING).model_copy(update={"clock": NOW, "evidence": None})
    begun = step(state, seen(state)).state
    back = NOW - 3600
    first = step(begun, seen(begun, now=back)).state
    later = step(first, seen(first, now=back + 15, pods=(pod("v1", requests=100), pod("v2", requests=5)))).state
    assert later.evidence is not None
    assert later.evidence.looks == 1


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(phase_state(Phase.PAUSED).model_copy(update={"weight": 0}), id="paused-at-0"),
        pytest.param(
            phase_state(Phase.PROGRESSING).model_copy(
                update={"phase": Phase.ROLLING_BACK, "stalled": True, "weight": 5, "message": "stable is down"}
            ),
            id="no-way-back",
        ),
    ],
)
def test_what_waits_for_a_person_is_not_looked_at_every_second(state: RolloutState) -> None:
    evidence = Evidence(weight=5, seen_at=NOW - 10_000)
    state = state.model_copy(update={"evidence": evidence, "clock": NOW})
    down = {"v1": RevisionHealth(desired=2), "v2": RevisionHealth(desired=2, ready=2)}
    held = seen(state, revisions=down, spec=spec(paused=True))
    decision = step(step(state, held).state, held)
    assert (decision.requeue_after or 0) >= 5


# --- measurements -------------------------------------------------------------------------------------------------


def looked(*pods: PodObservation, router: tuple[RouterCounters, ...] = (), **rollout: object) -> Decision:
    """Begin counting, then take one look at these pods' counters at 50 %."""
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    rollout = {"steps": [{"weight": 50, "holdSeconds": 1000}]} | rollout
    begun = step(
        state, seen(state, pods=tuple(pod(item.revision, int(item.name[-1])) for item in pods), spec=spec(**rollout))
    )
    return step(begun.state, seen(begun.state, now=NOW + 15, pods=pods, router=router, spec=spec(**rollout)))


def test_a_canary_with_errors_is_rolled_back_with_its_counts() -> None:
    decision = looked(pod("v1", requests=1000, serverErrors=10), pod("v2", requests=1000, serverErrors=100))
    assert decision.state.phase is Phase.ROLLING_BACK
    assert (decision.state.reason, decision.route.weights["v2"]) == (Reason.ANALYSIS_FAILED, 0)
    assert "100 of 1000 bad, stable 10 of 1000" in decision.state.message


STEPS = [{"weight": weight, "holdSeconds": 1000} for weight in (50, 60, 70, 80)]
QUIET = {"v1": {"requests": 100}, "v2": {"requests": 100}}


def look_again(
    state: RolloutState, number: int, counts: dict[str, dict[str, object]], **rollout: object
) -> RolloutState:
    """One look more, at these counters."""
    pods = tuple(pod(revision, **lane) for revision, lane in counts.items())
    return step(state, seen(state, now=NOW + 15 * number, pods=pods, spec=spec(**rollout))).state


def test_a_promotion_is_carried_out_though_the_steps_were_taken_away() -> None:
    state = phase_state(Phase.PROGRESSING)
    asked = seen(state, spec=spec(strategy="AllAtOnce"), command=Command.parse("promote:1"))
    after = step(state, asked).state
    assert after.last_command is not None
    assert after.last_command.message == "v2 is promoted as soon as its pods are ready"


def verdict(state: RolloutState, check: str) -> Verdict:
    """What the newest look says of one check."""
    assert state.evidence is not None
    return next(report.verdict for report in state.evidence.reports if report.name == check)


def test_a_plan_that_is_edited_in_a_quiet_moment_goes_on() -> None:
    state = looked(pod("v1", requests=100), pod("v2", requests=100), steps=STEPS[:1]).state
    state = look_again(state.model_copy(update={"step": 2}), 2, QUIET, steps=STEPS)
    assert verdict(state, "errors") is Verdict.INCONCLUSIVE
    state = look_again(state, 3, {"v1": {"requests": 9000}, "v2": {"requests": 9000}}, steps=STEPS)
    assert verdict(state, "errors") is Verdict.SUCCESSFUL, "with requests it finds out"


def test_what_was_good_enough_for_a_small_weight_is_not_for_a_larger_one_that_took_its_place() -> None:
    """At 5 % a canary may be twenty times as much worse as at 100 %."""
    small, large = ([{"weight": weight, "holdSeconds": 1000}] for weight in (5, 60))
    state = phase_state(Phase.PROGRESSING).model_copy(update={"step": None, "weight": 50, "evidence": None})
    for number, requests in enumerate((0, 300)):
        counts: dict[str, dict[str, object]] = {
            "v1": {"requests": requests}, "v2": {"requests": requests, "serverErrors": requests // 50}
        }  # fmt: skip
        state = look_again(state, number, counts, steps=small).model_copy(update={"step": None, "weight": 50})
    assert verdict(state, "errors") is Verdict.SUCCESSFUL
    state = look_again(state, 2, counts, steps=large)
    assert verdict(state, "errors") is Verdict.INCONCLUSIVE


def test_a_check_that_is_switched_off_in_the_middle_says_nothing_more() -> None:
    errors = {"v1": {"requests": 1000}, "v2": {"requests": 1000, "serverErrors": 100}}
    first = looked(*(pod(revision, **lane) for revision, lane in errors.items()), onRegression="Alert").state
    assert first.evidence is not None
    assert "errors" in {report.name for report in first.evidence.reports}
    after = look_again(first, 2, errors, steps=STEPS[:1], analysis={"errors": {"enabled": False}})
    assert after.evidence is not None
    assert "errors" not in {report.name for report in after.evidence.reports}
    assert after.phase is Phase.PROGRESSING


def test_the_clients_faults_and_refusals_for_load_are_not_held_against_it() -> None:
    decision = looked(pod("v1", requests=1000), pod("v2", requests=1000, clientErrors=300, rejected=300))
    assert decision.state.phase is Phase.PROGRESSING
    evidence = decision.state.evidence
    assert evidence is not None
    assert (evidence.requests_canary, evidence.checks["errors"].canary_bad) == (400, 0)


def test_failures_only_the_router_saw_count() -> None:
    router = (RouterCounters(pod_uid="r", revision="v2", failures=80),)
    decision = looked(pod("v1", requests=1000), pod("v2", requests=900), router=router)
    assert decision.state.phase is Phase.ROLLING_BACK
    assert "80 of 980 bad" in decision.state.message


@pytest.mark.parametrize("sticky", ["", "x-user"])
def test_a_canary_that_routers_do_not_reach_is_not_waited_for_without_a_word(sticky: str) -> None:
    """Its requests are answered by stable then, and with sticky users a wrong share proves nothing."""
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    traffic = ModelDeploymentSpec.model_validate({"model": {"uri": "s3://m"}, "traffic": {"stickyHeader": sticky}})
    policy = traffic.model_copy(update={"rollout": spec(steps=STEPS[:1]).rollout})
    for number in range(7):
        pods = (pod("v1", requests=100 * number), pod("v2"))
        cut_off = seen(state, now=NOW + 15 * number, pods=pods, spec=policy, unreached={"v2": 2})
        state = step(state, cut_off).state
    assert (state.phase, state.pauses) == (Phase.PAUSED, (PauseCause.ANALYSIS,))
    assert "2 router pods reach no pod of v2" in state.message


@pytest.mark.parametrize(
    ("liar", "words"),
    [
        pytest.param(
            PodObservation(name="v2-0", uid="v2-0", revision="v2", telemetry=TelemetrySnapshot(
                name="m", revision="v9", boot_id="b", live=LaneCounts(requests=1000, server_errors=1000))),
            "belongs to v2 and speaks for v9", id="another revision",
        ),
        pytest.param(
            PodObservation(name="v2-0", uid="v2-0", revision="v2", error="timed out"), "timed out", id="silent"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_an_error_and_never_success(liar: PodObservation, words: str) -> None:
    decision = looked(pod("v1", requests=1000), liar)
    evidence = decision.state.evidence
    assert evidence is not None
    assert (evidence.verdict, decision.route.weights["v2"]) == (Verdict.ERROR, 50)
    assert words in evidence.message


def test_a_pod_that_comes_back_from_silence_is_no_routing_fault() -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    policy = spec(steps=[{"weight": 50, "holdSeconds": 1000}])
    state = step(state, seen(state, spec=policy)).state
    waiting = PodObservation(name="v2-1", uid="v2-1", revision="v2", ready=False, error="not ready")
    for look, told in enumerate([None, None, 900, 1200], start=1):
        late = pod("v2", 1, requests=told) if told is not None else waiting
        pods = (pod("v1", requests=600 * look), pod("v2", requests=300 * look), late)
        state = step(state, seen(state, now=NOW + 15 * look, spec=policy, pods=pods)).state
    assert state.phase is Phase.PROGRESSING
    assert state.evidence is not None
    assert (state.evidence.requests_canary, state.evidence.share.looks) == (2400, 1)


def test_counters_that_go_back_are_not_used() -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"evidence": None})
    begun = step(state, seen(state, pods=(pod("v1", requests=500), pod("v2", requests=500))))
    decision = step(begun.state, seen(begun.state, now=NOW + 15, pods=(pod("v1", requests=600), pod("v2", requests=9))))
    evidence = decision.state.evidence
    assert evidence is not None
    assert (evidence.verdict, evidence.requests_canary) == (Verdict.ERROR, 0)
    assert "went back without a restart" in evidence.message


def test_after_too_many_errors_the_rollout_pauses_and_a_resume_goes_on() -> None:
    state = phase_state(Phase.PROGRESSING)
    silent = (pod("v1"), PodObservation(name="v2-0", uid="v2-0", revision="v2", error="refused"))
    for look in range(1, 7):
        decision = step(state, seen(state, now=NOW + 15 * look, pods=silent))
        state = decision.state
    assert (state.phase, state.reason) == (Phase.PAUSED, Reason.ANALYSIS_INCONCLUSIVE)
    assert "refused" in state.message
    resumed = step(state, seen(state, now=NOW + 92, command=Command.parse("resume:1")))
    assert resumed.state.phase is Phase.PROGRESSING


def test_a_restarted_process_is_counted_from_its_beginning_and_nothing_twice() -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"evidence": None})
    state = step(state, seen(state, pods=(pod("v1"), pod("v2", requests=100)))).state
    counts = []
    for look, (boot, requests) in enumerate([("b", 150), ("c", 30), ("c", 30), ("c", 45)], start=1):
        told = TelemetrySnapshot(name="m", revision="v2", boot_id=boot, live=LaneCounts(requests=requests))
        canary = PodObservation(name="v2-0", uid="v2-0", revision="v2", telemetry=told)
        state = step(state, seen(state, now=NOW + 15 * look, pods=(pod("v1"), canary))).state
        assert state.evidence is not None
        counts.append(state.evidence.requests_canary)
    assert counts == [50, 80, 80, 95]


def test_what_is_counted_across_a_change_of_weights_belongs_to_no_look() -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"evidence": None})
    state = step(state, seen(state)).state
    elsewhere = Route(weights={"v1": 0, "v2": 100})
    state = step(state, seen(state, now=NOW + 20, route=elsewhere, pods=(pod("v1"), pod("v2", requests=900)))).state
    state = step(state, seen(state, now=NOW + 40, pods=(pod("v1"), pod("v2", requests=1000)))).state
    state = step(state, seen(state, now=NOW + 60, pods=(pod("v1"), pod("v2", requests=1010)))).state
    assert state.evidence is not None
    assert state.evidence.requests_canary == 10


def test_one_bad_pod_among_good_ones_is_restarted_not_the_revision_rolled_back() -> None:
    pods = (pod("v1", requests=1000), pod("v2", requests=300, serverErrors=150), pod("v2", 1, requests=300))
    decision = looked(*pods)
    assert decision.restart == ("v2-0",)
    assert decision.state.phase is Phase.PROGRESSING
    assert "only v2-0 fails" in decision.events[-1].message
    still = (pod("v1", requests=2000), pod("v2", requests=600, serverErrors=300), pod("v2", 1, requests=600))
    again = step(decision.state, seen(decision.state, now=NOW + 30, pods=still))
    assert (again.restart, again.state.phase) == ((), Phase.ROLLING_BACK)


def test_wrong_labels_roll_back() -> None:
    def labelled(right: int, wrong: int) -> FeedbackCounts:
        return FeedbackCounts(confusion={"cat": {"cat": right, "dog": wrong}})

    decision = looked(
        pod("v1", requests=1000, feedback=labelled(190, 10)), pod("v2", requests=1000, feedback=labelled(120, 80))
    )
    assert "labels: 80 of 200 bad, stable 10 of 200" in decision.state.message


@pytest.mark.parametrize(
    ("action", "phase"),
    [("Rollback", Phase.ROLLING_BACK), ("Pause", Phase.PAUSED), ("Alert", Phase.PROGRESSING)],
)
def test_on_regression(action: str, phase: Phase) -> None:
    decision = looked(pod("v1", requests=1000), pod("v2", requests=1000, serverErrors=200), onRegression=action)
    assert decision.state.phase is phase
    assert [event.type for event in decision.events].count("Warning") == 1


PAUSE, ALERT = {"onPredictionDrift": "Pause"}, {"onPredictionDrift": "Alert"}


def comparison(predictions: list[int], first: list[int]) -> dict[str, object]:
    rows = sum(predictions)
    features = {"x": {"counts": first}}
    return {
        "requests": rows,
        "comparison": {"profileDigest": "p", "rows": rows, "predictions": predictions, "features": features},
    }


@pytest.mark.parametrize(
    ("canary", "rollout", "phase", "reason"),
    [
        pytest.param(([450, 550], [500, 500]), {}, Phase.PROGRESSING, None, id="alike"),
        pytest.param(([250, 750], [500, 500]), {}, Phase.ROLLING_BACK, Reason.DRIFT_ROLLBACK, id="new behaviour"),
        pytest.param(([250, 750], [500, 500]), PAUSE, Phase.PAUSED, Reason.PREDICTION_DRIFT, id="pause"),
        pytest.param(([250, 750], [500, 500]), ALERT, Phase.PROGRESSING, None, id="alert"),
        pytest.param(([0, 1000], [500, 500]), ALERT, Phase.PROGRESSING, None, id="alert on all"),
        pytest.param(([250, 750], [900, 100]), {}, Phase.PAUSED, Reason.ANALYSIS_INCONCLUSIVE, id="other inputs"),
    ],
)  # fmt: skip
def test_predictions_are_judged_after_inputs(
    canary: tuple[list[int], list[int]], rollout: dict[str, object], phase: Phase, reason: Reason | None
) -> None:
    stable = comparison([500, 500], [500, 500])
    decision = looked(pod("v1", **stable), pod("v2", **comparison(*canary)), **rollout)
    assert decision.state.phase is phase
    if reason is not None:
        assert decision.state.reason == reason


@pytest.mark.parametrize(
    ("moved", "errors", "phase"),
    [
        pytest.param({}, 0, Phase.ROLLING_BACK, id="nobody knows better"),
        pytest.param({"v1": 15, "v2": 15}, 0, Phase.PROGRESSING, id="both arms see another world"),
        pytest.param({"v1": 15, "v2": 15}, 300, Phase.ROLLING_BACK, id="and the canary fails in it"),
        pytest.param({"v2": 15}, 0, Phase.ROLLING_BACK, id="one arm alone"),
        pytest.param({"v1": 0, "v2": 0}, 0, Phase.ROLLING_BACK, id="before this look"),
    ],
)
def test_predictions_of_another_world_are_not_compared(moved: dict[str, float], errors: int, phase: Phase) -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    policy = spec(steps=[{"weight": 50, "holdSeconds": 0}], analysis={"latency": {"enabled": False}})
    state = step(state, seen(state, spec=policy)).state
    collapsed = comparison([0, 1000], [500, 500]) | {"serverErrors": errors}
    pods = (pod("v1", **comparison([500, 500], [500, 500])), pod("v2", **collapsed))
    since = {name: NOW + at for name, at in moved.items()}
    after = step(state, seen(state, now=NOW + 15, spec=policy, pods=pods, inputs_moved_at=since)).state
    assert after.phase is phase
    if phase is Phase.PROGRESSING:
        assert after.evidence is not None
        assert after.evidence.hold == WORLD_MOVED
        assert not after.promoting
        assert sum(after.evidence.predictions.canary) == 0


def profiled(rows: int, digest: str, share: float) -> dict[str, object]:
    first = round(share * rows)
    return {"profileDigest": digest, "rows": rows, "predictions": [first, rows - first]}


def test_pods_that_are_given_stables_profile_in_mid_rollout_begin_to_count_on_it() -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    policy = spec(steps=[{"weight": 50, "holdSeconds": 1000}], analysis={"share": {"enabled": False}})
    counts = [(50_000, None), (51_000, None), (52_000, (0, "v1")), (53_000, (900, "v1")), (54_000, (400, "v1"))]
    verdicts = []
    for look, (old, new) in enumerate(counts):
        canary = {"requests": 1000 * look, "own": profiled(1000 * look, "v2", 0.9)}
        if new is not None:
            canary["comparison"] = profiled(new[0], new[1], 0.5)
        # Stable's pods are given the same profile; what they count on their own goes on undisturbed.
        stable = {"requests": old, "own": profiled(old, "v1", 0.5), "comparison": profiled(10 * look, "v1", 0.5)}
        pods = (pod("v1", **stable), pod("v2", **canary))
        state = step(state, seen(state, now=NOW + 15 * look, pods=pods, spec=policy)).state
        assert state.evidence is not None
        verdicts.append((state.evidence.verdict, sum(state.evidence.predictions.canary)))
    assert [rows for _, rows in verdicts] == [0, 0, 0, 900, 900]
    assert Verdict.ERROR not in {verdict for verdict, _ in verdicts}


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.5, Verdict.INCONCLUSIVE), (3.0, Verdict.INCONCLUSIVE), (None, Verdict.ERROR)],
    ids=["good", "bad once", "down"],
)
def test_prometheus(value: float | None, verdict: Verdict) -> None:
    query = {"name": "lag", "address": "http://p", "query": "lag", "max": "1.5", "failureLimit": 2}
    policy = spec(steps=[{"weight": 50}], analysis={"prometheus": [query]})
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    result = (QueryResult(name="lag", value=value, error="" if value is not None else "connection refused"),)
    state = step(state, seen(state, spec=policy)).state
    pods = (pod("v1", requests=100), pod("v2", requests=100))
    first = step(state, seen(state, now=NOW + 15, spec=policy, pods=pods, queries=result)).state
    assert first.evidence is not None
    assert first.evidence.verdict is verdict
    second = step(first, seen(first, now=NOW + 30, spec=policy, pods=pods, queries=result)).state
    assert second.phase is (Phase.ROLLING_BACK if value == 3.0 else Phase.PROGRESSING)


def test_a_prometheus_that_stays_down_pauses_the_rollout_and_is_named() -> None:
    query = {"name": "lag", "address": "http://p", "query": "lag", "max": "1.5"}
    policy = spec(steps=[{"weight": 50}], analysis={"prometheus": [query], "errorLimit": 3})
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    down = (QueryResult(name="lag", error="http://p: connection refused"),)
    phases = []
    for look in range(5):
        pods = (pod("v1", requests=100 * look), pod("v2", requests=100 * look))
        state = step(state, seen(state, now=NOW + 15 * look, spec=policy, pods=pods, queries=down)).state
        phases.append(state.phase)
    assert phases == [*[Phase.PROGRESSING] * 3, Phase.PAUSED, Phase.PAUSED]
    assert (state.weight, state.rejected) == (50, ()), "nothing is held against the canary"
    assert "http://p: connection refused" in state.message


def drifts(stable: DriftVerdict | None, canary: DriftVerdict | None) -> dict[str, DriftResult]:
    found = {"v1": stable, "v2": canary}
    return {name: DriftResult(verdict=verdict) for name, verdict in found.items() if verdict is not None}


@pytest.mark.parametrize(
    ("drift", "on_drift", "promoted"),
    [
        pytest.param(drifts(None, None), "HoldPromotion", True, id="no profile"),
        pytest.param(drifts(DriftVerdict.DRIFT, DriftVerdict.DRIFT), "HoldPromotion", False, id="population"),
        pytest.param(drifts(DriftVerdict.DRIFT, DriftVerdict.DRIFT), "Alert", True, id="population, alert only"),
        pytest.param(drifts(DriftVerdict.DRIFT, DriftVerdict.NO_DRIFT), "HoldPromotion", True, id="retrain"),
        pytest.param(drifts(DriftVerdict.INSUFFICIENT_DATA, DriftVerdict.DRIFT), "HoldPromotion", False, id="unknown"),
    ],
)
def test_drift_against_the_reference_holds_or_lets_pass(
    drift: dict[str, DriftResult], on_drift: str, promoted: bool
) -> None:
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    policy = spec(steps=[{"weight": 50, "holdSeconds": 0}], analysis={"latency": {"enabled": False}})
    policy = policy.model_copy(update={"drift": policy.drift.model_copy(update={"on_drift": DriftAction(on_drift)})})
    state = step(state, seen(state, spec=policy)).state
    pods = (pod("v1", requests=2000), pod("v2", requests=2000))
    after = step(state, seen(state, now=NOW + 15, spec=policy, pods=pods, drift=drift)).state
    assert after.evidence is not None
    assert after.evidence.verdict is Verdict.SUCCESSFUL
    assert after.promoting is promoted


# --- whole rollouts -----------------------------------------------------------------------------------------------


def weights(world: World, ticks: int = 2000) -> list[int]:
    """Weights of the canary in the order they were set."""
    found = [0]
    for _ in range(ticks):
        decision = world.tick()
        weight = decision.route.weights.get("v2", 0)
        if weight != found[-1]:
            found.append(weight)
        if decision.state.phase in {Phase.HEALTHY, Phase.ROLLED_BACK}:
            break
    return found


@pytest.mark.parametrize(
    ("rollout", "climbed"),
    [
        ({"strategy": "Canary"}, [0, 5, 25, 50, 100]),
        ({"strategy": "Shadow"}, [0, 5, 25, 50, 100]),
        ({"strategy": "Shadow", "steps": []}, [0, 100]),
        ({"strategy": "BlueGreen"}, [0, 100]),
        ({"strategy": "AllAtOnce"}, [0, 100]),
        ({"strategy": "Canary", "steps": [{"weight": 30}, {"weight": 100}]}, [0, 30, 100]),
    ],
    ids=["canary", "shadow then steps", "shadow", "blue-green", "all at once", "steps to 100"],
)
def test_a_good_version_climbs(rollout: dict[str, object], climbed: list[int]) -> None:
    world = trial({"rollout": rollout, "replicas": 3}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=30)
    assert weights(world) == climbed
    assert (world.state.phase, world.state.stable) == (Phase.HEALTHY, "v2")
    assert {name: len(pods) for name, pods in world.pods.items()} == {"v2": 3}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Behaviour(errors=0.3), "errors"),
        (Behaviour(outputs=0.3), "outputs"),
        (Behaviour(slow=0.4), "latency"),
        (Behaviour(classes=(1.0, 0.0, 0.0)), "predictions"),
    ],
    ids=["throws", "NaN", "slow", "collapse"],
)
def test_a_bad_version_is_stopped_and_never_tried_again(bad: Behaviour, words: str) -> None:
    world = trial({}, Behaviour(classes=(0.4, 0.3, 0.3)), bad, np.random.default_rng(0), rate=40)
    assert world.settle() is Phase.ROLLED_BACK
    rejected = world.state.rejected[0]
    assert (rejected.revision, words in rejected.message) == ("v2", True)
    assert world.state.route.weights == {"v1": 100}
    assert world.sent["v2"] < 400
    for _ in range(10):
        decision = world.tick()
        assert (decision.state.phase, decision.events, decision.requeue_after) == (Phase.ROLLED_BACK, (), None)


def test_a_shadow_that_errs_never_served_a_user() -> None:
    world = trial(
        {"rollout": {"strategy": "Shadow"}}, Behaviour(), Behaviour(errors=0.5), np.random.default_rng(0), rate=40
    )
    assert max(weights(world)) == 0
    assert world.state.phase is Phase.ROLLED_BACK


def test_without_traffic_nothing_is_promoted_by_silence() -> None:
    world = trial({}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=0)
    for _ in range(300):
        world.tick()
    assert (world.state.phase, world.state.weight) == (Phase.PROGRESSING, 5)


@pytest.mark.parametrize(
    ("action", "phase"),
    [("Hold", Phase.PROGRESSING), ("Rollback", Phase.ROLLED_BACK), ("Promote", Phase.BAKING)],
)
def test_on_inconclusive(action: str, phase: Phase) -> None:
    policy = {"analysis": {"maxHoldSeconds": 300, "onInconclusive": action}}
    world = trial({"rollout": policy}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=0)
    assert world.settle(max_ticks=120) is phase
    said = [message for _, reason, message in world.events if reason == Reason.ANALYSIS_INCONCLUSIVE]
    assert len(said) == 1


def test_without_auto_promotion_the_last_step_waits_for_a_person() -> None:
    world = trial({"rollout": {"autoPromote": False}}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=30)
    world.settle(max_ticks=400)
    assert (world.state.phase, world.state.weight) == (Phase.PROGRESSING, 50)
    assert "has passed every step" in world.state.message
    world.command = Command.parse("promote:1")
    world.tick()
    assert world.state.last_command is not None
    assert world.state.last_command.message == "v2 is promoted: it has passed every step"
    assert world.settle(max_ticks=50) is Phase.BAKING


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        pytest.param({}, "without waiting for evidence", id="in the middle of the steps"),
        pytest.param({"strategy": "Shadow", "steps": []}, "without waiting for evidence", id="shadow"),
        pytest.param({"strategy": "BlueGreen"}, "as soon as its pods are ready", id="nothing was to be awaited"),
    ],
)
def test_a_promotion_says_what_it_did_not_wait_for(rollout: dict[str, object], words: str) -> None:
    rules = {"autoPromote": False, **rollout}
    world = trial({"rollout": rules}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=0)
    for _ in range(20):
        world.tick()
    world.command = Command.parse("promote:1")
    world.tick()
    assert world.state.last_command is not None
    assert words in world.state.last_command.message


def test_a_gross_fault_after_the_promotion_goes_back_to_the_warm_version() -> None:
    world = trial(
        {"rollout": {"strategy": "AllAtOnce"}}, Behaviour(), Behaviour(errors=0.4), np.random.default_rng(0), rate=40
    )
    assert world.settle() is Phase.BAKING
    for _ in range(20):
        world.tick()
    assert (world.state.phase, world.state.stable) == (Phase.ROLLED_BACK, "v1")


def test_undo_brings_back_a_kept_version_and_stays_there() -> None:
    world = trial({"rollout": {"bakeSeconds": 30}}, Behaviour(), Behaviour(), np.random.default_rng(0), rate=50)
    while world.state.phase is not Phase.BAKING:
        world.tick()
    world.command = Command.parse("undo:1")
    for _ in range(30):
        world.tick()
    assert (world.state.phase, world.state.stable, world.state.reason) == (Phase.ROLLED_BACK, "v1", Reason.MANUAL_ABORT)


def test_a_checkpoint_stays_small() -> None:
    features = {f"f{i}": {"counts": [10] * 32} for i in range(30)}

    def big(revision: str, index: int, times: int) -> PodObservation:
        counts = {"profileDigest": "p", "rows": 320 * times, "predictions": [32 * times] * 10, "features": features}
        return pod(revision, index, requests=320 * times, own=counts, comparison=counts)

    state = phase_state(Phase.PROGRESSING).model_copy(update={"evidence": None})
    for look in range(5):
        pods = tuple(big(revision, index, look + 1) for revision in ("v1", "v2") for index in range(5))
        state = step(state, seen(state, now=NOW + 15 * look, pods=pods)).state
    size = len(state.model_dump_json(by_alias=True))
    assert size < 100_000, f"{size} bytes for 10 pods of 30 features; a ConfigMap holds 1 MiB"


@pytest.mark.parametrize(
    ("canary", "outcome"),
    [
        pytest.param(0.9, "promoting", id="earns more"),
        pytest.param(0.1, "rolled back", id="earns less"),
        pytest.param(0.5, "out of time", id="earns the same"),
    ],
)
def test_an_ab_test_ends_on_evidence(canary: float, outcome: str) -> None:
    def earning(rewards: int, share: float) -> FeedbackCounts:
        won = round(rewards * share)
        return FeedbackCounts(rewards=rewards, reward_sum_milli=1000 * won, reward_sum_square_milli=1000 * won)

    policy = spec(
        steps=[{"weight": 50, "until": "Conclusive", "holdSeconds": 0, "maxSeconds": 90}],
        analysis={"latency": {"enabled": False}},
    )
    state = phase_state(Phase.PROGRESSING).model_copy(update={"weight": 50, "evidence": None})
    state = state.model_copy(update={"step_started_at": NOW})
    state = step(state, seen(state, spec=policy)).state
    events = []
    for look in range(1, 9):
        pods = (
            pod("v1", requests=400 * look, feedback=earning(100 * look, 0.5)),
            pod("v2", requests=400 * look, feedback=earning(100 * look, canary)),
        )
        decision = step(state, seen(state, now=NOW + 15 * look, spec=policy, pods=pods))
        state, events = decision.state, [*events, *decision.events]
        if state.promoting or state.phase is Phase.ROLLING_BACK:
            break
    if outcome == "promoting":
        assert state.promoting
    elif outcome == "rolled back":
        assert (state.phase, state.reason) == (Phase.ROLLING_BACK, Reason.ANALYSIS_FAILED)
        assert "reward" in state.message
    else:
        assert (state.phase, state.promoting, state.reason) == (Phase.PROGRESSING, False, Reason.ANALYSIS_INCONCLUSIVE)
        assert [event.reason for event in events] == [Reason.ANALYSIS_INCONCLUSIVE]


# --- error rates, a sample of benchmarks/decisions.py -------------------------------------------------------------


def outcomes(stable: Behaviour, canary: Behaviour, runs: int = 12, **world: object) -> tuple[list[Phase], list[int]]:
    worlds = [trial({}, stable, canary, np.random.default_rng(seed), rate=10, **world) for seed in range(runs)]
    phases = [made.settle(max_ticks=3000) for made in worlds]
    return phases, [made.sent["v2"] for made in worlds]


@pytest.mark.parametrize("factor", [1.0, 10.0], ids=["calm", "tenfold errors for everybody"])
def test_equal_versions_are_promoted(factor: float) -> None:
    same = Behaviour(errors=0.02, classes=(0.25,) * 4)
    phases, _ = outcomes(same, same, scale=lambda now: factor if 300 <= now < 900 else 1.0)
    assert phases == [Phase.BAKING] * 12


def test_five_times_the_errors_are_stopped_within_a_few_hundred_requests() -> None:
    phases, sent = outcomes(Behaviour(errors=0.02), Behaviour(errors=0.1))
    assert phases == [Phase.ROLLED_BACK] * 12
    assert np.median(sent) <= 200
