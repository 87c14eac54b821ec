"""What the operator tells Prometheus about itself and its ModelDeployments: every metric in one place."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mlserve_core.api.v1alpha1 import ConditionType, DriftStatus, ModelDeploymentStatus, Phase, RequestCounts

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


def _show_drift(namespace: str, name: str, drift: DriftStatus) -> None:
    DRIFT_SEVERITY.labels(namespace, name).set(_SEVERITIES.get(drift.severity, 0))
    DRIFT_ROWS.labels(namespace, name).set(drift.rows)
    DRIFT_EFFECT.remove_by_labels({"namespace": namespace, "name": name})
    for feature in drift.features:
        DRIFT_EFFECT.labels(namespace, name, feature.name).set(float(feature.effect_percent or 0) / 100)


def forget(namespace: str, name: str) -> None:
    """A ModelDeployment is gone, and with it its series."""
    for metric in (PHASE, CONDITION, ROLLOUT_WEIGHT, ROLLOUT_REQUESTS, *_DRIFT, ROLLBACKS):
        metric.remove_by_labels({"namespace": namespace, "name": name})


_DRIFT: Final = (DRIFT_EFFECT, DRIFT_SEVERITY, DRIFT_ROWS)
_SEVERITIES: Final = {"none": 0, "low": 1, "medium": 2, "high": 3}
_VALUES: Final = {"True": 1, "False": 0, "Unknown": -1}
