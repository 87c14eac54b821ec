"""The process in Prometheus' exposition format; samples are made from plain counters when somebody scrapes.

Names and meanings are in METRICS, from which the documentation's table is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from mlserve_runtime.telemetry.gpu import gpu_collector

if TYPE_CHECKING:
    from mlserve_runtime.dataplane import DataPlane
    from mlserve_runtime.telemetry.histogram import Histogram

METRICS: Final[dict[str, str]] = {
    "mlserve_requests": "Requests by route and status",
    "mlserve_request_failures": "Requests without a prediction by reason",
    "mlserve_request_duration_seconds": "From the last byte of a request to its answer",
    "mlserve_phase_duration_seconds": "Time of answered requests by phase: parse, queue, forward, encode",
    "mlserve_batch_rows": "Rows of a forward pass",
    "mlserve_batch_duration_seconds": "Duration of a forward pass with pre- and postprocessing",
    "mlserve_prediction_confidence": "Probability of the predicted class; of a fair sample of the rows when busy",
    "mlserve_queue_rows": "Rows waiting for a forward pass",
    "mlserve_in_flight_requests": "Requests that were not answered yet",
    "mlserve_max_batch_rows": "Rows a forward pass may have now",
    "mlserve_worker_restarts": "Model threads that ended and were replaced",
    "mlserve_processes": "Serving processes that want requests",
    "mlserve_process_restarts": "Serving processes that ended and were replaced",
    "mlserve_event_loop_lag_seconds": "How late the event loop woke up last",
    "mlserve_response_cache_requests": "Lookups in the response cache by result",
    "mlserve_response_cache_bytes": "Memory that remembered answers take",
    "mlserve_ready": "1 while the process wants requests",
    "mlserve_model_load_seconds": "From reading the artifact to the end of the warm-up",
    "mlserve_model_info": "The served model; always 1",
    "mlserve_feature_cache_requests": "Feature lookups by result",
    "mlserve_payload_samples": "Requests sampled for the payload log by result: written, dropped",
}


class RuntimeCollector(Collector):
    """Reads the data plane's counters."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def collect(self) -> Iterable[Metric]:
        """All families of METRICS."""
        self._plane.recorder.flush()
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()

    def _counters(self) -> Iterator[Metric]:
        metrics = self._plane.recorder.metrics
        requests = _counter("mlserve_requests", "route", "status")
        for (route, status), count in sorted(metrics.requests.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        failures = _counter("mlserve_request_failures", "reason")
        for reason, count in sorted(metrics.rejected.items()):
            failures.add_metric([reason], count)
        yield failures
        cache = _counter("mlserve_response_cache_requests", "result")
        cache.add_metric(["hit"], self._plane.cache.hits if self._plane.cache else 0)
        cache.add_metric(["miss"], self._plane.cache.misses if self._plane.cache else 0)
        yield cache
        lookups = _counter("mlserve_feature_cache_requests", "result")
        for result, count in self._plane.lookup.counts.items() if self._plane.lookup else ():
            lookups.add_metric([result], count)
        yield lookups
        restarts = _counter("mlserve_worker_restarts")
        restarts.add_metric([], self._plane.batcher.worker.restarts if self._plane.batcher else 0)
        yield restarts
        payloads, samples = self._plane.payloads, _counter("mlserve_payload_samples", "result")
        samples.add_metric(["written"], payloads.written if payloads else 0)
        samples.add_metric(["dropped"], payloads.dropped if payloads else 0)
        yield samples
        processes = _counter("mlserve_process_restarts")
        processes.add_metric([], 0)  # with several, their parent counts
        yield processes

    def _histograms(self) -> Iterator[Metric]:
        metrics = self._plane.recorder.metrics
        yield _histogram("mlserve_request_duration_seconds", self._plane.recorder.lanes.latency())
        phases = SummaryMetricFamily(
            "mlserve_phase_duration_seconds", METRICS["mlserve_phase_duration_seconds"], labels=["phase"]
        )
        for name, seconds in metrics.phase_seconds.items():
            phases.add_metric([name], metrics.answered, seconds)
        yield phases
        yield _histogram("mlserve_batch_rows", metrics.batch_rows)
        yield _histogram("mlserve_batch_duration_seconds", metrics.batch_seconds)
        yield _histogram("mlserve_prediction_confidence", metrics.confidence)

    def _gauges(self) -> Iterator[Metric]:
        plane = self._plane
        queue = plane.batcher.queue if plane.batcher else None
        yield _gauge("mlserve_queue_rows", queue.rows if queue else 0)
        yield _gauge("mlserve_max_batch_rows", queue.max_rows if queue else plane.settings.max_rows)
        yield _gauge("mlserve_in_flight_requests", plane.in_flight)
        yield _gauge("mlserve_event_loop_lag_seconds", plane.recorder.metrics.loop_lag)
        yield _gauge("mlserve_response_cache_bytes", plane.cache.size if plane.cache else 0)
        yield _gauge("mlserve_ready", int(plane.ready))
        yield _gauge("mlserve_processes", int(plane.ready))
        model = plane.model
        if model is not None:
            yield _gauge("mlserve_model_load_seconds", model.loaded_seconds)
            info = GaugeMetricFamily(
                "mlserve_model_info", METRICS["mlserve_model_info"], labels=["name", "version", "revision", "digest"]
            )
            info.add_metric([model.name, model.version, model.revision, model.artifact.digest], 1)
            yield info


def build_registry(plane: DataPlane) -> CollectorRegistry:
    """Runtime, process, platform, garbage collector and, where there is one, GPU metrics."""
    registry = CollectorRegistry()
    registry.register(RuntimeCollector(plane))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    gpus = gpu_collector() if plane.settings.device != "cpu" else None
    if gpus is not None:
        registry.register(gpus)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """The body of `GET /metrics`."""
    return generate_latest(registry)


def _counter(name: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, METRICS[name], labels=labels)


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, METRICS[name], value=value)


def _histogram(name: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, METRICS[name], buckets=histogram.cumulative(), sum_value=histogram.sum)
