"""What the operator tells Prometheus about itself and its ModelDeployments: every metric in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mlserve_core.api.v1alpha1 import ConditionType, DriftStatus, ModelDeploymentStatus, Phase, Reason, RequestCounts
from mlserve_operator.rollout.evidence import Verdict

if TYPE_CHECKING:
    from mlserve_operator.rollout.state import RolloutState

ROLLBACK_REASONS: Final = (
    Reason.ANALYSIS_FAILED,
    Reason.ANALYSIS_INCONCLUSIVE,
    Reason.CHECKSUM_MISMATCH,
    Reason.DRIFT_ROLLBACK,
    Reason.IMAGE_PULL_FAILED,
    Reason.INSUFFICIENT_RESOURCES,
    Reason.MANUAL_ABORT,
    Reason.MODEL_LOAD_FAILED,
    Reason.PROGRESS_DEADLINE_EXCEEDED,
)
"""What a revision can be rejected for."""

REGISTRY: Final = CollectorRegistry()

RECONCILE_SECONDS: Final = Histogram(
    "mlserve_operator_reconcile_duration_seconds",
    "Time of one reconcile.",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
RECONCILE_ERRORS: Final = Counter(
    "mlserve_operator_reconcile_errors_total", "Reconciles that failed and were repeated.", ["kind"], registry=REGISTRY
)
API_WRITES: Final = Counter(
    "mlserve_operator_api_writes_total", "Writes to the API server.", ["verb", "kind"], registry=REGISTRY
)
QUEUE_LENGTH: Final = Gauge("mlserve_operator_queue_keys", "Keys that wait, due or not.", registry=REGISTRY)
QUEUE_AGE: Final = Gauge(
    "mlserve_operator_queue_oldest_seconds", "How long the most overdue key has been waiting.", registry=REGISTRY
)
LEADER: Final = Gauge("mlserve_operator_leader", "1 while this replica may write.", registry=REGISTRY)
PHASE: Final = Gauge(
    "mlserve_modeldeployment_phase",
    "1 for the phase a ModelDeployment is in, 0 for the others.",
    ["namespace", "name", "phase"],
    registry=REGISTRY,
)
SCRAPE_ERRORS: Final = Counter(
    "mlserve_operator_telemetry_failures_total",
    "Pods that could not be asked for their counters.",
    ["component"],
    registry=REGISTRY,
)
CONDITION: Final = Gauge(
    "mlserve_modeldeployment_condition",
    "1 if the condition is True, 0 if it is False, -1 if it is Unknown; absent conditions are 0.",
    ["namespace", "name", "type"],
    registry=REGISTRY,
)
ROLLOUT_WEIGHT: Final = Gauge(
    "mlserve_rollout_weight",
    "Percent of requests by role; 0 where no revision has the role.",
    ["namespace", "name", "role"],
    registry=REGISTRY,
)
ROLLOUT_REQUESTS: Final = Gauge(
    "mlserve_rollout_requests",
    "Requests judged so far in the running comparison.",
    ["namespace", "name", "role"],
    registry=REGISTRY,
)
DRIFT_EFFECT: Final = Gauge(
    "mlserve_drift_effect",
    "Distance of live traffic from the reference in the newest window, 0 to 1, of the strongest features.",
    ["namespace", "name", "feature"],
    registry=REGISTRY,
)
DRIFT_SEVERITY: Final = Gauge(
    "mlserve_drift_severity",
    "Severity of the newest window: 0 none, 1 low, 2 medium, 3 high.",
    ["namespace", "name"],
    registry=REGISTRY,
)
DRIFT_ROWS: Final = Gauge(
    "mlserve_drift_window_rows", "Rows of the newest window.", ["namespace", "name"], registry=REGISTRY
)
LOOKS: Final = Gauge(
    "mlserve_rollout_looks", "Looks taken so far in the running comparison.", ["namespace", "name"], registry=REGISTRY
)
VERDICT: Final = Gauge(
    "mlserve_rollout_verdict",
    "1 for the verdict of the newest look, 0 for the others; absent without a running comparison.",
    ["namespace", "name", "verdict"],
    registry=REGISTRY,
)
LOG_E: Final = Gauge(
    "mlserve_rollout_log_e_value",
    "Logarithm of the evidence (e-value) of a check that the canary is worse, or good enough for its next weight.",
    ["namespace", "name", "check", "claim"],
    registry=REGISTRY,
)
LOG_E_THRESHOLD: Final = Gauge(
    "mlserve_rollout_log_e_threshold",
    "Where mlserve_rollout_log_e_value decides.",
    ["namespace", "name", "check", "claim"],
    registry=REGISTRY,
)
CHECK_EVENTS: Final = Gauge(
    "mlserve_rollout_check_events",
    "What a check has compared so far, by role: all events, and the bad ones of them.",
    ["namespace", "name", "check", "role", "outcome"],
    registry=REGISTRY,
)
PROMOTIONS: Final = Counter(
    "mlserve_promotions_total", "Revisions that took over.", ["namespace", "name"], registry=REGISTRY
)
ROLLBACKS: Final = Counter(
    "mlserve_rollbacks_total", "Revisions rolled back.", ["namespace", "name", "reason"], registry=REGISTRY
)


def show(namespace: str, name: str, status: ModelDeploymentStatus) -> None:
    """Publish where a ModelDeployment stands."""
    for phase in Phase:
        PHASE.labels(namespace, name, phase.value).set(phase is status.phase)
    values = {condition.type: _VALUES[condition.status] for condition in status.conditions}
    for kind in ConditionType:
        CONDITION.labels(namespace, name, kind.value).set(values.get(kind, 0))
    judged = status.canary.analysis.requests if status.canary and status.canary.analysis else RequestCounts()
    for role, revision in (("stable", status.stable), ("canary", status.canary)):
        ROLLOUT_WEIGHT.labels(namespace, name, role).set(revision.weight if revision else 0)
        ROLLOUT_REQUESTS.labels(namespace, name, role).set(getattr(judged, role))
    _show_drift(namespace, name, status.drift or DriftStatus())
    # From 0 on: `increase()` does not see the first event of a series that begins with it.
    PROMOTIONS.labels(namespace, name)
    for reason in ROLLBACK_REASONS:
        ROLLBACKS.labels(namespace, name, reason)


def show_evidence(namespace: str, name: str, state: RolloutState) -> None:
    """Publish what the running comparison rests on, and nothing of one that is over."""
    for metric in _EVIDENCE:
        metric.remove_by_labels({"namespace": namespace, "name": name})
    evidence = state.evidence
    if evidence is None or (state.canary is None and state.previous is None):
        return
    LOOKS.labels(namespace, name).set(evidence.looks)
    for verdict in Verdict:
        VERDICT.labels(namespace, name, verdict.value).set(verdict is evidence.verdict)
    for report in evidence.reports:
        for claim, strength in (("worse", report.worse), ("good", report.good)):
            if strength is not None:
                LOG_E.labels(namespace, name, report.name, claim).set(strength.log_e)
                LOG_E_THRESHOLD.labels(namespace, name, report.name, claim).set(strength.threshold)
    baking = state.canary is None
    for check, counts in evidence.checks.items():
        stable = {} if baking else {"stable": (counts.stable, counts.stable_bad)}
        for role, (units, bad) in {"canary": (counts.canary, counts.canary_bad), **stable}.items():
            CHECK_EVENTS.labels(namespace, name, check, role, "all").set(units)
            CHECK_EVENTS.labels(namespace, name, check, role, "bad").set(bad)


def count_decision(namespace: str, name: str, before: RolloutState, after: RolloutState) -> None:
    """Count a promotion and rejections, once: when the checkpoint that holds them has been written."""
    if after.stable != before.stable and None not in {after.stable, before.stable} and after.stable == before.canary:
        PROMOTIONS.labels(namespace, name).inc()
    for item in after.rejected:
        if item not in before.rejected:
            ROLLBACKS.labels(namespace, name, item.reason).inc()


def _show_drift(namespace: str, name: str, drift: DriftStatus) -> None:
    DRIFT_SEVERITY.labels(namespace, name).set(_SEVERITIES.get(drift.severity, 0))
    DRIFT_ROWS.labels(namespace, name).set(drift.rows)
    DRIFT_EFFECT.remove_by_labels({"namespace": namespace, "name": name})
    for feature in drift.features:
        DRIFT_EFFECT.labels(namespace, name, feature.name).set(float(feature.effect_percent or 0) / 100)


def forget(namespace: str, name: str) -> None:
    """A ModelDeployment is gone, and with it its series."""
    for metric in (PHASE, CONDITION, ROLLOUT_WEIGHT, ROLLOUT_REQUESTS, *_EVIDENCE, *_DRIFT, PROMOTIONS, ROLLBACKS):
        metric.remove_by_labels({"namespace": namespace, "name": name})


_EVIDENCE: Final = (LOOKS, VERDICT, LOG_E, LOG_E_THRESHOLD, CHECK_EVENTS)
_DRIFT: Final = (DRIFT_EFFECT, DRIFT_SEVERITY, DRIFT_ROWS)
_SEVERITIES: Final = {"none": 0, "low": 1, "medium": 2, "high": 3}
_VALUES: Final = {"True": 1, "False": 0, "Unknown": -1}
