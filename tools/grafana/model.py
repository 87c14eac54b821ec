"""One model: traffic, the rollout and its evidence, drift, batches and pods."""

from __future__ import annotations

from grafana.panels import Panel, quantile, rate, ratio

MODEL = 'namespace="$namespace", modeldeployment="$model"'
NAMED = 'namespace="$namespace", name="$model"'
GREEN_TO_RED = (("green", None), ("yellow", 1), ("orange", 2), ("red", 3))
ERRORS = 'status=~"5.."'
REQUESTS = "mlserve_requests_total"
DURATION = "mlserve_request_duration_seconds"


def evidence(claim: str) -> str:
    """Evidence for a claim as a part of what it takes, never below nothing."""
    labels = f'{NAMED}, claim="{claim}"'
    return f"clamp_min(mlserve_rollout_log_e_value{{{labels}}} / mlserve_rollout_log_e_threshold{{{labels}}}, 0)"


ROWS: dict[str, list[list[Panel]]] = {
    "Traffic": [
        [
            Panel(
                "Requests by revision",
                {"{{revision}}": rate(REQUESTS, MODEL, "revision")},
                "Predictions asked for.",
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "Server errors by revision",
                {
                    "{{revision}}": ratio(
                        rate(REQUESTS, f"{MODEL}, {ERRORS}", "revision"), rate(REQUESTS, MODEL, "revision")
                    )
                },
                "Share of requests answered with 5xx.",
                unit="percentunit",
            ),
            Panel(
                "Requests without a prediction",
                {"{{revision}} {{reason}}": rate("mlserve_request_failures_total", MODEL, "revision, reason")},
                "Refused, expired or failed, by reason.",
                unit="reqps",
            ),
        ],
        [
            Panel(
                "Latency by revision",
                {
                    f"{{{{revision}}}} p{int(q * 100)}": quantile(q, DURATION, MODEL, "revision")
                    for q in (0.5, 0.95, 0.99)
                },
                "From the last byte of a request to its answer, inside the runtime.",
                unit="s",
            ),
            Panel(
                "Mean time by phase",
                {
                    "{{phase}}": ratio(
                        rate("mlserve_phase_duration_seconds_sum", MODEL, "phase"),
                        rate("mlserve_phase_duration_seconds_count", MODEL, "phase"),
                    )
                },
                "Where a request spends its time: a long queue wants pods, a long forward pass a faster model.",
                unit="s",
                stacked=True,
            ),
            Panel(
                "Requests in flight and rows waiting",
                {
                    "in flight": f"sum(mlserve_in_flight_requests{{{MODEL}}})",
                    "rows waiting": f"sum(mlserve_queue_rows{{{MODEL}}})",
                },
                "What is not answered yet.",
            ),
        ],
    ],
    "Rollout": [
        [
            Panel(
                "Weights",
                {"{{role}}": f"mlserve_rollout_weight{{{NAMED}}}"},
                "Percent of requests by role; a rollback is the canary's drop to 0.",
                unit="percent",
                stacked=True,
                maximum=100,
            ),
            Panel(
                "Judged requests",
                {"{{role}}": f"mlserve_rollout_requests{{{NAMED}}}"},
                "Requests of each arm that the comparison rests on.",
            ),
            Panel(
                "Rollbacks of the last week",
                {"{{reason}}": f"increase(mlserve_rollbacks_total{{{NAMED}}}[7d]) > 0"},
                "Revisions taken out of traffic, by reason.",
                "table",
            ),
        ],
        [
            Panel(
                "Evidence that the canary is worse",
                {"{{check}}": evidence("worse")},
                "Of what stops the rollout: at 100 % a check has failed.",
                unit="percentunit",
                maximum=1,
            ),
            Panel(
                "Evidence that the canary is good enough",
                {"{{check}}": evidence("good")},
                "Of what lets its weight rise: at 100 % a check has passed.",
                unit="percentunit",
                maximum=1,
            ),
            Panel(
                "Bad events by check",
                {
                    "{{check}} {{role}}": f'mlserve_rollout_check_events{{{NAMED}, outcome="bad"}} / ignoring(outcome)'
                    f' (mlserve_rollout_check_events{{{NAMED}, outcome="all"}} > 0)'
                },
                "Share of bad events of each arm in the running comparison: errors, slow answers, broken outputs.",
                unit="percentunit",
            ),
        ],
        [
            Panel(
                "Verdict",
                {"{{verdict}}": f"mlserve_rollout_verdict{{{NAMED}}} == 1"},
                "Of the newest look: only Successful lets the weight rise.",
                stacked=True,
            ),
            Panel(
                "Looks",
                {"looks": f"mlserve_rollout_looks{{{NAMED}}}"},
                "Looks of the running comparison; while they stand still nothing is measured.",
            ),
            Panel(
                "Promotions of the last week",
                {"promotions": f"increase(mlserve_promotions_total{{{NAMED}}}[7d])"},
                "Revisions that took over.",
                "stat",
            ),
        ],
    ],
    "Drift": [
        [
            Panel(
                "Effect by feature",
                {"{{feature}}": f"mlserve_drift_effect{{{NAMED}}}"},
                "Distance of live traffic from the reference (0 none, 1 disjoint), a row per feature.",
                "status-history",
                "percentunit",
                thresholds=(("green", None), ("yellow", 0.1), ("orange", 0.2), ("red", 0.3)),
                maximum=1,
            ),
        ],
        [
            Panel(
                "Severity",
                {"severity": f"mlserve_drift_severity{{{NAMED}}}"},
                "0 none, 1 low, 2 medium, 3 high.",
                thresholds=GREEN_TO_RED,
                maximum=3,
            ),
            Panel(
                "Rows of the window",
                {"rows": f"mlserve_drift_window_rows{{{NAMED}}}"},
                "What the newest verdict rests on.",
            ),
            Panel(
                "Confidence",
                {"{{le}}": f"sum by (le) (rate(mlserve_prediction_confidence_bucket{{{MODEL}}}[$__rate_interval]))"},
                "Probability of the predicted class.",
                "heatmap",
            ),
        ],
    ],
    "Batches and pods": [
        [
            Panel(
                "Rows per batch",
                {
                    "mean": ratio(rate("mlserve_batch_rows_sum", MODEL), rate("mlserve_batch_rows_count", MODEL)),
                    "p95": quantile(0.95, "mlserve_batch_rows", MODEL),
                    "limit": f"max(mlserve_max_batch_rows{{{MODEL}}})",
                },
                "Large batches under load are what the batcher is for; 1 means pods are idle enough.",
            ),
            Panel(
                "Time of a batch",
                {"{{revision}} p95": quantile(0.95, "mlserve_batch_duration_seconds", MODEL, "revision")},
                "A forward pass with pre- and postprocessing.",
                unit="s",
            ),
            Panel(
                "Cache hits",
                {
                    "features {{result}}": rate("mlserve_feature_cache_requests_total", MODEL, "result"),
                    "answers {{result}}": rate("mlserve_response_cache_requests_total", MODEL, "result"),
                },
                "Feature lookups and remembered answers.",
                unit="reqps",
            ),
            Panel(
                "Payloads",
                {"{{result}}": rate("mlserve_payload_samples_total", MODEL, "result")},
                "Requests sampled for the payload log; dropped ones came faster than they could be written.",
                unit="reqps",
            ),
        ],
        [
            Panel(
                "Pods ready",
                {
                    "{{revision}}": f"sum by (revision) (mlserve_ready{{{MODEL}}})",
                    "{{revision}} processes": f"sum by (revision) (mlserve_processes{{{MODEL}}})",
                },
                "Pods that want requests, and the serving processes in them.",
            ),
            Panel(
                "CPU",
                {"{{pod}}": f"rate(process_cpu_seconds_total{{{MODEL}}}[$__rate_interval])"},
                "Cores used by each pod's process.",
            ),
            Panel(
                "Memory",
                {
                    "{{pod}}": f"process_resident_memory_bytes{{{MODEL}}}",
                    "{{pod}} answers": f"mlserve_response_cache_bytes{{{MODEL}}}",
                },
                "Resident memory of each pod, and what of it are remembered answers.",
                unit="bytes",
            ),
            Panel(
                "GPU",
                {
                    "{{pod}} {{gpu}} busy": f"mlserve_gpu_utilization_ratio{{{MODEL}}}",
                    "{{pod}} {{gpu}} memory": f"mlserve_gpu_memory_used_bytes{{{MODEL}}} "
                    f"/ mlserve_gpu_memory_total_bytes{{{MODEL}}}",
                },
                "Utilisation and memory as the pods see them; empty without GPUs.",
                unit="percentunit",
                maximum=1,
            ),
        ],
        [
            Panel(
                "Event loop lag",
                {"{{pod}}": f"mlserve_event_loop_lag_seconds{{{MODEL}}}"},
                "How late a pod's event loop wakes up: tens of milliseconds mean that something blocks it.",
                unit="s",
            ),
            Panel(
                "Worker restarts",
                {
                    "{{pod}} threads": f"increase(mlserve_worker_restarts_total{{{MODEL}}}[$__rate_interval])",
                    "{{pod}} processes": f"increase(mlserve_process_restarts_total{{{MODEL}}}[$__rate_interval])",
                },
                "Model threads and serving processes that ended and were replaced.",
            ),
            Panel(
                "Artifacts served",
                {"": f"count by (exported_revision, version, digest) (mlserve_model_info{{{MODEL}}})"},
                "Which artifact each revision serves, by how many pods.",
                "table",
            ),
            Panel(
                "Time to load",
                {"{{revision}}": f"max by (revision) (mlserve_model_load_seconds{{{MODEL}}})"},
                "From reading the artifact to the end of the warm-up: what a new pod costs.",
                unit="s",
            ),
        ],
    ],
}
