"""The standard health service, asked as kubelet, `grpc_health_probe` and gRPC's own balancers do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from .conftest import RuntimeServer

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ["", "inference.GRPCInferenceService"]


def request(name: str) -> Any:
    return health_pb2.HealthCheckRequest(service=name)


@pytest.mark.parametrize("name", NAMES, ids=["the server", "the service"])
def test_a_ready_server_serves(server: RuntimeServer, name: str) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(request(name), timeout=20).status == SERVING


def test_a_service_that_is_not_there_is_not_found(server: RuntimeServer) -> None:
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
        health_pb2_grpc.HealthStub(channel).Check(request("tensorflow.serving.PredictionService"), timeout=20)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_who_watches_is_told_before_anything_is_refused(start: Callable[..., RuntimeServer], tabular: Path) -> None:
    leaving = start(tabular, "--drain-delay", "60").wait_ready()
    with grpc.insecure_channel(leaving.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = [health.Watch(request(name), timeout=60) for name in NAMES]
        assert [next(stream).status for stream in watched] == [SERVING, SERVING]
        drain = [sys.executable, "-m", "mlserve_runtime.main", "drain", "--socket", str(leaving.socket)]
        with subprocess.Popen(drain) as waiting:
            assert [next(stream).status for stream in watched] == [NOT_SERVING, NOT_SERVING]
            assert health.Check(request(""), timeout=20).status == NOT_SERVING
            infer = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert infer(b"", timeout=20), "it still answers"
            leaving.process.terminate()
            assert waiting.wait(20) == 0
    assert leaving.stop() == 0
