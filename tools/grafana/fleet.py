"""The fleet: what serves, what rolls out, what drifts, and how the operator feels."""

from __future__ import annotations

from grafana.panels import Panel, quantile, rate, ratio, total

FLEET = 'namespace=~"$namespace"'
ERRORS = 'status=~"5.."'
REQUESTS = "mlserve_requests_total"
DURATION = "mlserve_request_duration_seconds"

ROWS: dict[str, list[list[Panel]]] = {
    "Now": [
        [
            Panel(
                "ModelDeployments",
                {"": f"count(mlserve_modeldeployment_phase{{{FLEET}}} == 1) or vector(0)"},
                "How many there are.",
                "stat",
            ),
            Panel(
                "Not available",
                {"": f'count(mlserve_modeldeployment_condition{{{FLEET}, type="Available"}} == 0) or vector(0)'},
                "No revision serves: users get errors.",
                "stat",
                thresholds=(("green", None), ("red", 1)),
            ),
            Panel(
                "Rolling out",
                {"": f'count(mlserve_modeldeployment_phase{{{FLEET}, phase=~"Progressing|Baking"}} == 1) or vector(0)'},
                "A new revision is measured beside the old one.",
                "stat",
            ),
            Panel(
                "Stalled",
                {"": f'count(mlserve_modeldeployment_condition{{{FLEET}, type="Stalled"}} == 1) or vector(0)'},
                "Rolled back or failed: waits for a person.",
                "stat",
                thresholds=(("green", None), ("orange", 1)),
            ),
            Panel(
                "Drifting",
                {"": f'count(mlserve_modeldeployment_condition{{{FLEET}, type="DriftDetected"}} == 1) or vector(0)'},
                "Live traffic differs from the model's reference.",
                "stat",
                thresholds=(("green", None), ("orange", 1)),
            ),
            Panel(
                "Requests",
                {"": rate(REQUESTS, FLEET)},
                "Predictions asked for, all models.",
                "stat",
                "reqps",
            ),
        ],
        [
            Panel(
                "Models",
                {
                    "phase": f"mlserve_modeldeployment_phase{{{FLEET}}} == 1",
                    "drift": f"mlserve_drift_severity{{{FLEET}}}",
                },
                "Phase and drift severity (0 none to 3 high) of every ModelDeployment.",
                "table",
            ),
            Panel(
                "Rollbacks of the last day",
                {"{{namespace}}/{{name}} {{reason}}": f"increase(mlserve_rollbacks_total{{{FLEET}}}[1d]) > 0"},
                "Revisions taken out of traffic, by reason.",
                "table",
            ),
        ],
    ],
    "Traffic": [
        [
            Panel(
                "Requests",
                {"{{namespace}}/{{modeldeployment}}": rate(REQUESTS, FLEET, "namespace, modeldeployment")},
                "Predictions asked for.",
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "Server errors",
                {
                    "{{namespace}}/{{modeldeployment}}": ratio(
                        rate(REQUESTS, f"{FLEET}, {ERRORS}", "namespace, modeldeployment"),
                        rate(REQUESTS, FLEET, "namespace, modeldeployment"),
                    )
                },
                "Share of requests answered with 5xx.",
                unit="percentunit",
            ),
            Panel(
                "Latency p95",
                {"{{namespace}}/{{modeldeployment}}": quantile(0.95, DURATION, FLEET, "namespace, modeldeployment")},
                "From the last byte of a request to its answer, inside the runtime.",
                unit="s",
            ),
        ],
        [
            Panel(
                "Canary weight",
                {"{{namespace}}/{{name}}": f'mlserve_rollout_weight{{{FLEET}, role="canary"}}'},
                "Percent of requests that the revision on trial gets.",
                unit="percent",
                maximum=100,
            ),
            Panel(
                "Rows waiting",
                {"{{namespace}}/{{modeldeployment}}": total("mlserve_queue_rows", FLEET, "namespace, modeldeployment")},
                "Rows queued for a forward pass: pods are too few or too slow.",
            ),
            Panel(
                "Refused requests",
                {
                    "{{namespace}}/{{modeldeployment}} {{reason}}": rate(
                        "mlserve_request_failures_total", FLEET, "namespace, modeldeployment, reason"
                    )
                },
                "Requests that got no prediction, by reason.",
                unit="reqps",
            ),
        ],
    ],
    "Operator": [
        [
            Panel(
                "Reconcile duration p95",
                {
                    "p95": "histogram_quantile(0.95, sum by (le) "
                    "(rate(mlserve_operator_reconcile_duration_seconds_bucket[$__rate_interval])))"
                },
                "Time of one pass over a ModelDeployment.",
                unit="s",
            ),
            Panel(
                "Oldest key in the queue",
                {"age": "max(mlserve_operator_queue_oldest_seconds)"},
                "How long a ModelDeployment has waited for the operator; the liveness probe watches it too.",
                unit="s",
            ),
            Panel(
                "Errors",
                {
                    "reconcile": "sum(rate(mlserve_operator_reconcile_errors_total[$__rate_interval]))",
                    "telemetry of {{component}}": "sum by (component) "
                    "(rate(mlserve_operator_telemetry_failures_total[$__rate_interval]))",
                },
                "Failed passes, and pods whose counters could not be read.",
                unit="ops",
            ),
        ],
        [
            Panel(
                "Writes to the API server",
                {
                    "{{verb}} {{kind}}": "sum by (verb, kind) "
                    "(rate(mlserve_operator_api_writes_total[$__rate_interval]))"
                },
                "A settled fleet causes none.",
                unit="ops",
                stacked=True,
            ),
            Panel(
                "Keys in the queue",
                {"keys": "max(mlserve_operator_queue_keys)"},
                "ModelDeployments and routers that wait for the operator, or for their next look.",
            ),
            Panel(
                "Leader",
                {"{{pod}}": "mlserve_operator_leader"},
                "1 for the replica that may write: never two at once.",
                stacked=True,
            ),
        ],
    ],
}
