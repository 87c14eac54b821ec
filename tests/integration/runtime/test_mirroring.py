"""A request that Envoy mirrors is no live evidence, over HTTP or gRPC; a client cannot make itself look like a copy.

The route table is the operator's own; only the addresses of its clusters are those of servers on this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.grpc as triton_grpc
import yaml

from mlserve_core.wire import HEADER_MIRROR, HEADER_PREVIEW, HEADER_REVISION, TelemetrySnapshot
from mlserve_operator.rollout.state import Route
from mlserve_operator.traffic import clusters, envoy
from mlserve_operator.traffic.entry import Entry

from .conftest import FEATURES, RuntimeServer
from .test_tritonclient import ROWS, grpc_input

ENVOY = Path(sys.executable).parent / "envoy"
SPLIT = Route(weights={"live": 100, "shadow": 0}, mirror="shadow", mirror_percent=100, preview="shadow")
ENTRY = Entry("tabular", "team", envoy.FIRST_LISTENER_PORT, SPLIT)


@dataclass
class Router:
    """An Envoy in front of two revisions; the second gets a copy of everything."""

    address: str
    live: RuntimeServer
    shadow: RuntimeServer


def static_configuration(servers: dict[str, RuntimeServer]) -> dict[str, Any]:
    """The operator's files as one static configuration, on ports of this machine."""
    files = envoy.files([ENTRY], cluster_domain="cluster.local")
    resources = {name: json.loads(json.dumps(yaml.safe_load(content)))["resources"] for name, content in files.items()}
    (listener,), (table,) = resources[envoy.LISTENERS_FILE], resources[envoy.ROUTES_FILE]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del connections["rds"]
    connections["route_config"] = table
    ports = {clusters.http_cluster: "http", clusters.grpc_cluster: "grpc", clusters.feedback_cluster: "http"}
    addresses = {
        name(revision): server.ports[port] for name, port in ports.items() for revision, server in servers.items()
    }
    for cluster in resources[envoy.CLUSTERS_FILE]:
        del cluster["cluster_type"], cluster["health_checks"]
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        here = {"address": "127.0.0.1", "port_value": addresses[cluster["name"]]}
        endpoint["endpoint"] = {"address": {"socket_address": here}}
        cluster["type"] = "STATIC"
    for body in (listener, table, *resources[envoy.CLUSTERS_FILE]):
        body.pop("@type")
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": [listener], "clusters": resources[envoy.CLUSTERS_FILE]},
    }


@pytest.fixture(scope="module")
def router(tabular: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    scratch = tmp_path_factory.mktemp("mirroring")
    servers = {
        name: RuntimeServer(tabular, tmp_path_factory.mktemp(name), "--revision", name) for name in SPLIT.weights
    }
    try:
        for server in servers.values():
            server.wait_ready()
        admin = scratch / "admin"
        process = subprocess.Popen(
            [ENVOY, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error",
             "--admin-address-path", admin, "--config-yaml", json.dumps(static_configuration(servers))],
            cwd=scratch,
        )  # fmt: skip
        try:
            until(lambda: admin.exists() and bool(admin.read_text()), lambda: process.poll() is None)
            url = f"http://{admin.read_text()}"
            until(lambda: httpx.get(f"{url}/ready").status_code == 200, lambda: process.poll() is None)
            (listener,) = httpx.get(f"{url}/listeners?format=json").json()["listener_statuses"]
            port = listener["local_address"]["socket_address"]["port_value"]
            yield Router(f"127.0.0.1:{port}", **servers)
        finally:
            process.terminate()
            process.wait(10)
    finally:
        for server in servers.values():
            server.stop()


def until(happened: Callable[[], bool], alive: Callable[[], bool] = lambda: True, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert alive(), "the process ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def snapshot(server: RuntimeServer) -> TelemetrySnapshot:
    return TelemetrySnapshot.model_validate(server.telemetry())


def over_http(router: Router, headers: dict[str, str]) -> str:
    answer = httpx.post(f"http://{router.address}/predict", json={"features": [0.5] * FEATURES}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers[HEADER_REVISION]


def over_grpc(router: Router, headers: dict[str, str]) -> str:
    with grpc.insecure_channel(router.address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=triton_grpc.service_pb2.ModelInferRequest.SerializeToString,
        )
        request = triton_grpc.service_pb2.ModelInferRequest(model_name="tabular")
        tensor = grpc_input(ROWS[:1])
        request.inputs.append(tensor._get_tensor())
        request.raw_input_contents.append(tensor._get_content())
        _, call = infer.with_call(request, metadata=tuple(headers.items()), timeout=10)
        return str(dict(call.trailing_metadata())[HEADER_REVISION])


@pytest.mark.parametrize("ask", [over_http, over_grpc], ids=["http", "grpc"])
@pytest.mark.parametrize("headers", [{}, {HEADER_MIRROR: "true"}], ids=["plain", "forged"])
def test_the_original_is_live_and_the_copy_is_not(
    router: Router, ask: Callable[[Router, dict[str, str]], str], headers: dict[str, str]
) -> None:
    original, copy = snapshot(router.live), snapshot(router.shadow)
    assert ask(router, headers) == "live"
    until(lambda: snapshot(router.shadow).mirror.requests == copy.mirror.requests + 1)
    assert snapshot(router.shadow).live == copy.live, "a copy is no evidence of the live kind"
    assert snapshot(router.live).live.requests == original.live.requests + 1
    assert snapshot(router.live).mirror == original.mirror


@pytest.mark.parametrize("ask", [over_http, over_grpc], ids=["http", "grpc"])
def test_a_preview_is_in_no_lane(router: Router, ask: Callable[[Router, dict[str, str]], str]) -> None:
    before = snapshot(router.shadow)
    assert ask(router, {HEADER_PREVIEW: "canary"}) == "shadow"
    after = snapshot(router.shadow)
    assert (after.live, after.mirror) == (before.live, before.mirror)
