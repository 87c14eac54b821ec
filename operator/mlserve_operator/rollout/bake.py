"""After a promotion: there is no control arm any more, so only a gross fault sends the new revision back.

With 100 % of the requests a spike of errors may be anybody's fault. The test therefore asks for a rate of bad answers
that is both far above what the previous revision had in all its life, and above any level one would serve with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import DriftAction, Reason, RegressionAction
from mlserve_core.statistics import eprocess
from mlserve_core.statistics.drift import DriftVerdict
from mlserve_operator.rollout.analysis import measure
from mlserve_operator.rollout.evidence import CheckEvidence, CheckReport, Evidence, Verdict, strength
from mlserve_operator.rollout.judge import Judgement

if TYPE_CHECKING:
    from mlserve_operator.rollout.state import Observation, RolloutState

GROSS_RATE: Final = 0.05
"""No revision is sent back for fewer bad answers than this share."""
GROSS_FACTOR: Final = 3.0
"""Nor for fewer than so many times what the previous revision had."""
UNKNOWN_RATE: Final = 0.5
"""The limit where the previous revision's rate is not known."""
MIN_KNOWN: Final = 100
BETS: Final = (2.0, 5.0, 20.0)
CHECKS: Final = ("errors", "outputs")


def analyse(state: RolloutState, observation: Observation) -> tuple[Evidence | None, Judgement | None]:
    """Measure and judge the promoted revision by itself."""
    view = state.model_copy(update={"canary": state.stable, "stable": state.previous, "weight": 100})
    evidence, look = measure(state.evidence, view, observation)
    if evidence is None or look is None:
        return evidence, None
    checks = dict(evidence.checks)
    level = 1 / (len(CHECKS) * observation.spec.rollout.analysis.false_alarm_one_in)
    reports, failed = [], []
    for name in CHECKS:
        if not getattr(observation.spec.rollout.analysis, name).enabled:
            continue
        check, limit = checks.get(name, CheckEvidence()), _limit(state, observation, name)
        units, bad = look.canary.units(name)
        growth = eprocess.log_growth(limit, bad, 1 - limit, units - bad, odds=BETS)
        wealth = eprocess.accumulate(check.worse, check.looks, growth)
        check = check.model_copy(
            update={
                "canary": check.canary + units,
                "canary_bad": check.canary_bad + bad,
                "looks": check.looks + 1,
                "worse": tuple(round(value, 4) for value in wealth.tolist()),
            }
        )
        worse = strength(float(eprocess.log_e_value(check.worse, check.looks)), level)
        words = f"{check.canary_bad} of {check.canary} bad, limit {100 * limit:.0f} %"
        verdict = Verdict.FAILED if worse.log_e >= worse.threshold else Verdict.INCONCLUSIVE
        reports.append(CheckReport(name=name, verdict=verdict, evidence=str(worse), message=words, worse=worse))
        checks[name] = check
        if verdict is Verdict.FAILED:
            failed.append(f"{name}: {words}")
    evidence = evidence.model_copy(
        update={
            "looks": evidence.looks + 1,
            "checks": checks,
            "reports": tuple(reports),
            "requests_canary": evidence.requests_canary + look.canary.units("errors")[0],
        }
    )
    if failed:
        message = "; ".join(failed)
        return evidence, Judgement(
            Verdict.FAILED, message, action=RegressionAction.ROLLBACK, reason=Reason.ANALYSIS_FAILED
        )
    return evidence, _drift(state, observation)


def _drift(state: RolloutState, observation: Observation) -> Judgement | None:
    """Drift sends a promoted revision back only when asked for, and only with labels that tell of a regression."""
    result = observation.drift.get(state.stable or "")
    if observation.spec.drift.on_drift is not DriftAction.ROLLBACK or result is None:
        return None
    if result.verdict is not DriftVerdict.DRIFT or not result.performance_drifted:
        return None
    message = f"drift of severity {result.severity} and fewer right predictions than in the reference"
    return Judgement(Verdict.FAILED, message, action=RegressionAction.ROLLBACK, reason=Reason.DRIFT_ROLLBACK)


def _limit(state: RolloutState, observation: Observation, check: str) -> float:
    """The rate of bad answers up to which nothing is done."""
    requests = bad = 0
    for pod in observation.pods:
        if pod.revision == state.previous and pod.telemetry is not None:
            lane = pod.telemetry.live
            requests += lane.requests - lane.client_errors - lane.rejected
            bad += lane.server_errors + lane.timeouts if check == "errors" else lane.bad_outputs
    if requests < MIN_KNOWN:
        requests, bad = state.baseline.get(check, (0, 0))
    if requests < MIN_KNOWN:
        return UNKNOWN_RATE
    return min(max(GROSS_RATE, GROSS_FACTOR * bad / requests), 0.95)
