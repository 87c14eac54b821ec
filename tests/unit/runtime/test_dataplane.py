"""A request leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from mlserve_core.artifact import write_manifest
from mlserve_runtime.backends.architectures import ARCHITECTURES
from mlserve_runtime.batching.batcher import Batcher
from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.queue import BatchQueue, Job
from mlserve_runtime.calls import Call, Reply
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.model import load_model
from mlserve_runtime.protocols.simple import PredictRoute
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.recorder import Recorder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    arguments = {"inputs": 2, "outputs": 2, "hidden": [3]}
    torch.manual_seed(0)
    save_file(ARCHITECTURES["mlp"](**arguments).state_dict(), tmp_path / "model.safetensors")
    spec = {
        "name": "small",
        "format": "safetensors",
        "weights": "model.safetensors",
        "architecture": {"name": "mlp", "arguments": arguments},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "postprocessing": {"activation": "softmax"},
    }
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(spec))
    write_manifest(tmp_path)
    return Settings(model_dir=tmp_path, threads=1, max_rows=2)


async def test_what_a_request_needed_is_free_without_the_garbage_collector(settings: Settings) -> None:
    recorder = Recorder(settings)
    plane = DataPlane(settings, recorder)
    model = load_model(settings)
    recorder.model_loaded(model)
    queue = BatchQueue(max_rows=2, queue_rows=100, cost=CostModel())
    batcher = Batcher(model.run, queue, loop=asyncio.get_running_loop(), observer=recorder)
    plane.open(model, batcher)
    statuses: list[int] = []

    def ask(body: bytes) -> None:
        def reply(answer: Reply) -> None:
            statuses.append(answer.status)
            exchange["status"] = answer.status

        exchange: dict[str, Any] = {}  # as on a connection: it knows the call, and the call knows it
        call = Call(route=route, headers={}, body=body, reply=reply, received=0.0)
        exchange["call"] = call
        plane.handle(call)

    with ThreadPoolExecutor(1) as decoders:
        route = PredictRoute(decoders, None)
        gc.collect()
        gc.disable()
        try:
            for body in (b'{"features": [1, 2]}', b'{"features": [1]}', b'{"features": [3, 4]}'):
                ask(body)
            await plane.idle.wait()
            deadline = time.monotonic() + 10
            left: list[Any] = [plane]
            while left and time.monotonic() < deadline:
                await asyncio.sleep(0.001)  # the loop and the model's thread let go of what they have just run
                left = [kept for kept in gc.get_objects() if type(kept) in {Call, Job}]
        finally:
            gc.enable()
    batcher.close()
    assert sorted(statuses) == [200, 200, 400]
    assert left == []
