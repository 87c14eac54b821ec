"""Judge: from the evidence to a verdict, in words a person can check.

Two different questions are asked of every kind of bad event. "Is the canary worse?" stops a rollout, with few false
alarms over *all* checks and looks together. "Is it good enough?" lets a rollout go on: nothing passes for good merely
because nothing was seen. In between the verdict is Inconclusive and the rollout stays where it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import DriftAction, Reason, RegressionAction
from mlserve_core.statistics import decision, eprocess
from mlserve_core.statistics.decision import COLLAPSE, Action, Findings
from mlserve_operator.rollout import bins
from mlserve_operator.rollout.analysis import BINARY
from mlserve_operator.rollout.evidence import CheckEvidence, CheckReport, Evidence, Verdict, strength

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlserve_core.api.v1alpha1 import Analysis, Rollout
    from mlserve_core.statistics.decision import Row
    from mlserve_operator.rollout.state import Observation, RolloutState

ALPHA_SHARE: Final = {
    "errors": 0.30,
    "outputs": 0.15,
    "latency": 0.15,
    "predictions": 0.20,
    "confidence": 0.05,
    "labels": 0.075,
    "reward": 0.075,
}
"""How the rate of false alarms is divided; adds up to 1, so the rate holds whatever is switched off."""
ALPHA_PROMOTE: Final = 0.05
"""Chance that a canary exactly as bad as is just not tolerated passes for good, per check."""
ALPHA_UNFAIR: Final = 0.001
REQUIRED: Final = ("errors", "outputs", "latency")
"""Checks that must be found good before a weight rises; labels and rewards may never come."""
HARM: Final = frozenset({"errors", "outputs"})
UNFAIR: Final = frozenset({"inputs", "share"})
PREDICTIONS: Final = frozenset({"predictions", "confidence"})
FLOOR: Final = {"latency": 0.05}
"""Share of bad events below which a check cannot fail. Slow means slower than 1.25 times stable's p95: while fewer than
5 in 100 answers are, the canary's own p95 is within that limit, however surely its tail differs from stable's."""
MIN_OTHERS: Final = 20
"""Requests of the other pods needed to say that one pod alone is bad."""


@dataclass(frozen=True)
class Judgement:
    """What the evidence says now."""

    verdict: Verdict
    message: str = ""
    hold: str = ""
    """Why a good canary must not rise all the same (drift), or nothing."""
    action: RegressionAction | None = None
    """For Failed: what the spec wants done."""
    reason: Reason = Reason.CANARY_PROGRESSING
    checks: tuple[str, ...] = ()
    """For Failed: the checks that decided."""
    restart: str = ""
    """For Failed: uid of the one pod that is bad while the others are good."""


def judge(
    state: RolloutState, evidence: Evidence, problems: Sequence[str], observation: Observation, weights: Sequence[int],
    target: int,
) -> tuple[Evidence, Judgement]:  # fmt: skip
    """The verdict after a look.

    Args:
        state: for the names of the arms.
        evidence: with the look added.
        problems: why the look was not measured in full, if so.
        observation: for settings, queries and drift.
        weights: every weight of the plan, 100 last.
        target: the weight that is to be reached next.

    Returns:
        The evidence with verdict and reports, and the judgement.
    """
    analysis = observation.spec.rollout.analysis
    index = list(weights).index(target)
    alpha = {name: share / analysis.false_alarm_one_in for name, share in ALPHA_SHARE.items()}
    reports = [
        _report(name, check, alpha[name], index)
        for name, check in evidence.checks.items()
        if getattr(analysis, name).enabled and (name in REQUIRED or check.canary + check.stable > 0)
    ]
    reports += bins.reports(evidence, analysis, alpha, ALPHA_UNFAIR)
    reports += _query_reports(evidence, observation)
    if evidence.share.looks and analysis.share.enabled:
        reports.append(_share_report(evidence, observation))
    judgement = _conclude(state, evidence, reports, problems, observation, target)
    unmeasured = bool(problems) or any(report.verdict is Verdict.ERROR for report in reports)
    update = {
        "errors": evidence.errors + 1 if unmeasured else 0,
        "reports": tuple(reports),
        "verdict": judgement.verdict,
        "message": judgement.message,
        "hold": judgement.hold,
    }
    return evidence.model_copy(update=update), judgement


def _conclude(
    state: RolloutState, evidence: Evidence, reports: list[CheckReport], problems: Sequence[str],
    observation: Observation, target: int,
) -> Judgement:  # fmt: skip
    rollout = observation.spec.rollout
    failed = {report.name: report for report in reports if report.verdict is Verdict.FAILED}
    ignored = {name for name in failed if action_of(name, rollout) is RegressionAction.ALERT}
    row = decision.decide(_findings(state, evidence, failed.keys() - ignored, observation))
    if row.action in {Action.ROLL_BACK, Action.PAUSE, Action.ON_PREDICTION_DRIFT}:
        return _failed(row, failed, evidence, rollout)
    if row.action is Action.ON_DRIFT and observation.spec.drift.on_drift is DriftAction.ROLLBACK:
        return Judgement(
            Verdict.FAILED,
            row.meaning,
            action=RegressionAction.ROLLBACK,
            reason=Reason.DRIFT_ROLLBACK,
            checks=("drift",),
        )
    alert_only = observation.spec.drift.on_drift is DriftAction.ALERT
    hold = row.meaning if row.action in {Action.ON_DRIFT, Action.HOLD} and not alert_only else ""
    missing = [*problems, *(f"{r.name}: {r.message}" for r in reports if r.verdict is Verdict.ERROR)]
    if missing:
        return Judgement(Verdict.ERROR, "; ".join(missing), hold)
    undecided = [
        r for r in reports if r.name in REQUIRED and r.verdict is not Verdict.SUCCESSFUL and r.name not in ignored
    ]
    wanted = rollout.analysis.min_requests if target == 100 else 1
    if evidence.requests_canary < wanted:
        return Judgement(Verdict.INCONCLUSIVE, f"{evidence.requests_canary} of {wanted} canary requests seen", hold)
    if undecided:
        return Judgement(Verdict.INCONCLUSIVE, "; ".join(f"{r.name}: {r.message}" for r in undecided), hold)
    return Judgement(Verdict.SUCCESSFUL, f"good enough for {target} % of requests", hold)


def _findings(state: RolloutState, evidence: Evidence, failed: set[str], observation: Observation) -> Findings:
    stable, canary = observation.drift.get(state.stable or ""), observation.drift.get(state.canary or "")
    return Findings(
        harm=bool(failed & HARM),
        unfair=bool(failed & UNFAIR),
        regression=bool(failed - HARM - UNFAIR - PREDICTIONS),
        collapse="confidence" in failed
        or ("predictions" in failed and evidence.predictions.total_variation >= COLLAPSE),
        predictions="predictions" in failed,
        canary_drift=canary.moved if canary else None,
        stable_drift=stable.moved if stable else None,
    )


def _failed(row: Row, failed: dict[str, CheckReport], evidence: Evidence, rollout: Rollout) -> Judgement:
    """A verdict of Failed, with the checks that decided, the reason and what is to be done."""
    if row.action is Action.PAUSE:
        names, reason = failed.keys() & UNFAIR, Reason.ANALYSIS_INCONCLUSIVE
    elif row.name in {"collapse", "predictions"}:
        names, reason = failed.keys() & PREDICTIONS, Reason.PREDICTION_DRIFT
    else:
        names = failed.keys() & HARM if row.name == "harm" else failed.keys() - HARM - UNFAIR - PREDICTIONS
        reason = Reason.ANALYSIS_FAILED
    names = {name for name in names if action_of(name, rollout) is not RegressionAction.ALERT}
    ordered = tuple(name for name in failed if name in names)
    action = RegressionAction.PAUSE if row.action is Action.PAUSE else _strictest(ordered, rollout, row)
    if reason is Reason.PREDICTION_DRIFT and action is RegressionAction.ROLLBACK:
        reason = Reason.DRIFT_ROLLBACK
    message = "; ".join(f"{name}: {failed[name].message} ({failed[name].evidence})" for name in ordered)
    return Judgement(
        Verdict.FAILED,
        f"{message}: {row.meaning}",
        action=action,
        reason=reason,
        checks=ordered,
        restart=_single_pod(ordered, evidence, rollout.analysis),
    )


def action_of(name: str, rollout: Rollout) -> RegressionAction:
    """What a failed check leads to: its own action, or the rollout's."""
    if name in UNFAIR:
        return getattr(rollout.analysis, name).action or RegressionAction.PAUSE
    own = getattr(rollout.analysis, "predictions" if name in PREDICTIONS else name, None)
    if own is not None and own.action is not None:
        action: RegressionAction = own.action
        return action
    return rollout.on_prediction_drift if name in PREDICTIONS else rollout.on_regression


def _strictest(names: Sequence[str], rollout: Rollout, row: Row) -> RegressionAction:
    order = (RegressionAction.ROLLBACK, RegressionAction.PAUSE, RegressionAction.ALERT)
    actions = {action_of(name, rollout) for name in names}
    if row.name == "collapse" and rollout.analysis.predictions.action is None:
        actions.add(rollout.on_regression)  # a broken artifact is a regression, whatever new behaviour may be
    return next(action for action in order if action in actions)


def _single_pod(names: Sequence[str], evidence: Evidence, analysis: Analysis) -> str:
    """Uid of the pod that alone makes the canary fail, or nothing. A pod is given one restart."""
    if not names or not set(names) <= BINARY.keys() or len(evidence.pods) < 2:
        return ""
    suspects = set()
    for name in names:
        check = evidence.checks[name]
        uid, (n, x) = max(
            ((uid, counts.get(name, (0, 0))) for uid, counts in evidence.pods.items()), key=lambda item: item[1][1]
        )
        others, others_bad = check.canary - n, check.canary_bad - x
        rate = check.stable_bad / max(check.stable, 1)
        limit = rate * (1 + analysis.margin_percent / 100) + analysis.margin_per_mille / 1000
        if others < MIN_OTHERS or others_bad > limit * others:
            return ""
        suspects.add(uid)
    uid = suspects.pop()
    return uid if not suspects and uid not in evidence.restarted else ""


# --- reports ------------------------------------------------------------------------------------------------------


def _report(name: str, check: CheckEvidence, alpha: float, index: int) -> CheckReport:
    log_e = float(eprocess.log_e_value(check.worse, check.looks))
    words = f"{check.canary_bad} of {check.canary} bad, stable {check.stable_bad} of {check.stable}"
    large = check.canary_bad > FLOOR.get(name, 0.0) * check.canary
    log_good = float(eprocess.log_e_value([[check.good[index]]], check.looks)[0]) if check.good else 0.0
    worse, good = strength(log_e, alpha), strength(log_good, ALPHA_PROMOTE)
    failed = large and worse.log_e >= worse.threshold
    passed = good.log_e >= good.threshold
    verdict = Verdict.FAILED if failed else Verdict.SUCCESSFUL if passed else Verdict.INCONCLUSIVE
    shown = str(worse if failed else good)
    return CheckReport(name=name, verdict=verdict, evidence=shown, message=words, worse=worse, good=good)


def _share_report(evidence: Evidence, observation: Observation) -> CheckReport:
    """With sticky routing users are not independent, so the share is told of and never fails."""
    share = evidence.share
    log_e = float(eprocess.log_e_value(share.worse, share.looks))
    worse = strength(log_e, ALPHA_UNFAIR)
    wrong = worse.log_e >= worse.threshold and not observation.spec.traffic.sticky_header
    seen = 100 * share.canary / max(share.canary + share.stable, 1)
    return CheckReport(
        name="share",
        verdict=Verdict.FAILED if wrong else Verdict.SUCCESSFUL,
        evidence=str(worse),
        message=f"the canary got {seen:.1f} % of requests",
        worse=worse,
    )


def _query_reports(evidence: Evidence, observation: Observation) -> list[CheckReport]:
    results = {item.name: item for item in observation.queries}
    reports = []
    for query in observation.spec.rollout.analysis.prometheus:
        result, failures = results.get(query.name), evidence.query_failures.get(query.name, 0)
        if failures >= query.failure_limit:
            verdict = Verdict.FAILED
        elif result is None or result.value is None or math.isnan(result.value):
            verdict = Verdict.ERROR
        else:
            verdict = Verdict.SUCCESSFUL if failures == 0 else Verdict.INCONCLUSIVE
        value = result.value if result else None
        words = f"{value}, limits {query.min or '-inf'}..{query.max or 'inf'}" if value is not None else "no value"
        reports.append(
            CheckReport(
                name=query.name,
                verdict=verdict,
                evidence=f"{failures} of {query.failure_limit} failures",
                message=words + (f": {result.error}" if result and result.error else ""),
            )
        )
    return reports
