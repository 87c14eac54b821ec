"""Live statistics for people (`/stats`, the page) and for Triton's clients (`/v2/models/M/stats`)."""

from __future__ import annotations

import time
from typing import Any

from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.model import ServedModel


def live_statistics(plane: DataPlane, started: float) -> dict[str, Any]:
    """Counts since the process began; latencies are upper bounds of histogram buckets, in milliseconds."""
    plane.recorder.flush()
    metrics = plane.recorder.metrics
    answered = sum(count for (_, status), count in metrics.requests.items() if status == 200)
    total = sum(metrics.requests.values())
    uptime = max(time.time() - started, 1e-3)
    batches = metrics.batch_rows.count
    return {
        "model": plane.model.name if plane.model else plane.settings.model_name,
        "version": plane.model.version if plane.model else plane.settings.model_version,
        "revision": plane.settings.revision,
        "phase": plane.phase.value,
        "uptimeSeconds": round(uptime, 1),
        "requests": total,
        "predictions": answered,
        "rows": int(metrics.batch_rows.sum),
        "errors": total - answered,
        "errorsByReason": dict(metrics.rejected),
        "requestsByRoute": {f"{route} {status}": count for (route, status), count in metrics.requests.items()},
        "requestsPerSecond": round(total / uptime, 2),
        "latencyMillis": _millis(plane.recorder.lanes.latency()),
        "phasesMillis": {
            name: round(seconds / max(metrics.answered, 1) * 1e3, 3) for name, seconds in metrics.phase_seconds.items()
        },
        "batches": batches,
        "meanBatchRows": round(metrics.batch_rows.sum / batches, 2) if batches else 0.0,
        "inFlight": plane.in_flight,
        "queueRows": plane.batcher.queue.rows if plane.batcher else 0,
    }


def _millis(histogram: Any) -> dict[str, float]:
    count = histogram.count
    return {
        "mean": round(histogram.sum / count * 1e3, 3) if count else 0.0,
        "p50": histogram.quantile(0.5) * 1e3,
        "p95": histogram.quantile(0.95) * 1e3,
        "p99": histogram.quantile(0.99) * 1e3,
    }


def triton_statistics(plane: DataPlane, model: ServedModel) -> dict[str, Any]:
    """The shape perf_analyzer and tritonclient read: counts and cumulative nanoseconds."""
    plane.recorder.flush()
    metrics = plane.recorder.metrics
    answered = sum(count for (_, status), count in metrics.requests.items() if status == 200)
    failed = sum(metrics.requests.values()) - answered

    def duration(count: int, seconds: float) -> dict[str, int]:
        return {"count": count, "ns": int(seconds * 1e9)}

    phases = metrics.phase_seconds
    return {
        "model_stats": [
            {
                "name": model.name,
                "version": model.version,
                "last_inference": int(time.time() * 1000) if answered else 0,
                "inference_count": int(metrics.batch_rows.sum),
                "execution_count": metrics.batch_rows.count,
                "inference_stats": {
                    "success": duration(answered, sum(phases.values())),
                    "fail": duration(failed, 0.0),
                    "queue": duration(answered, phases["queue"]),
                    "compute_input": duration(answered, phases["parse"]),
                    "compute_infer": duration(answered, phases["forward"]),
                    "compute_output": duration(answered, phases["encode"]),
                    "cache_hit": duration(plane.cache.hits if plane.cache else 0, 0.0),
                    "cache_miss": duration(plane.cache.misses if plane.cache else 0, 0.0),
                },
                "batch_stats": [],
            }
        ]
    }
