"""Predictions as OpenTelemetry spans: an extra, on when an OTLP endpoint is configured.

A span is made after its request was answered, from times that were taken anyway, and exported by a thread of the SDK:
tracing adds nothing to the latency of a request. Parents come from W3C headers (`traceparent`), sampling and exporter
from the standard OTEL_* variables.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Final

from mlserve_runtime.calls import Call
from mlserve_runtime.settings import Settings

logger = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PHASES: Final = ("parse", "queue", "forward", "encode")


class Tracer:
    """Writes one server span per call, with its phases as events."""

    def __init__(self, settings: Settings) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        attributes = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", settings.model_name or "mlserve"),
            "service.version": settings.revision,
            "k8s.pod.name": settings.pod,
            "k8s.namespace.name": settings.namespace,
        }
        self._provider = TracerProvider(resource=Resource.create({k: v for k, v in attributes.items() if v}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("mlserve")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)
        # Calls are timed by a monotonic clock; spans want the time of day.
        self._epoch = time.time_ns() - time.perf_counter_ns()

    def record(self, call: Call, status: int, now: float) -> None:
        """The span of an answered call."""
        carrier = {
            name: call.headers.get(name.encode(), b"").decode("latin-1") for name in ("traceparent", "tracestate")
        }
        span = self._tracer.start_span(
            f"predict {call.route.name}",
            self._propagator.extract({name: value for name, value in carrier.items() if value}),
            kind=self._kind,
            start_time=self._nanoseconds(call.received),
            attributes={"http.response.status_code": status, "mlserve.route": call.route.name},
        )
        job = call.job
        if job is not None and job.started:
            span.set_attribute("mlserve.rows", job.rows)
            ends = (call.decoded, job.started, job.finished, now)
            for phase, end in zip(_PHASES, ends, strict=True):
                span.add_event(f"{phase} done", timestamp=self._nanoseconds(end))
        if status >= 500:
            span.set_status(self._failed)
        span.end(self._nanoseconds(now))

    def close(self) -> None:
        """Export what waits."""
        self._provider.shutdown()

    def _nanoseconds(self, moment: float) -> int:
        return int(moment * 1e9) + self._epoch


def build_tracer(settings: Settings, environment: Any = os.environ) -> Tracer | None:
    """A tracer where an endpoint is configured; None without one, or (said in the log) without the extra."""
    if not any(environment.get(name) for name in ENDPOINTS):
        return None
    try:
        return Tracer(settings)
    except ImportError:
        logger.warning("an OTLP endpoint is configured, but OpenTelemetry is not installed: use mlserve[otel]")
        return None
