"""Spans of predictions arrive at an OTLP endpoint under the caller's trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .conftest import FEATURES, RuntimeServer


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP collector that keeps the spans it is sent."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()
    thread.join()


def test_spans(start: Callable[..., RuntimeServer], tabular: Path, collector: tuple[str, list[Any]]) -> None:
    endpoint, spans = collector
    server = start(tabular, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint).wait_ready()
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    row = {"features": [0.5] * FEATURES}
    assert httpx.post(f"{server.url}/predict", json=row, headers=parent).status_code == 200
    assert httpx.post(f"{server.url}/predict", json={"features": []}).status_code == 400
    assert server.stop() == 0  # the end exports what waits
    good, bad = sorted(spans, key=lambda span: span.start_time_unix_nano)
    assert good.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert good.parent_span_id.hex() == "b7ad6b7169203331"
    assert good.name == "predict predict"
    assert [event.name for event in good.events] == ["parse done", "queue done", "forward done", "encode done"]
    times = [good.start_time_unix_nano, *(event.time_unix_nano for event in good.events), good.end_time_unix_nano]
    assert times == sorted(times)
    statuses = [a.value.int_value for a in bad.attributes if a.key == "http.response.status_code"]
    assert statuses == [400]
    assert bad.trace_id != good.trace_id
