"""A request leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mlserve_core.artifact import load_artifact, write_manifest
from mlserve_core.model_spec import TensorSpec
from mlserve_runtime.backends.base import LoadError
from mlserve_runtime.batching.batcher import Batcher
from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.queue import BatchQueue, Job
from mlserve_runtime.calls import Call, Prepared, Reply
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.model import ServedModel, load_model
from mlserve_runtime.protocols.oip import InferRoute
from mlserve_runtime.protocols.simple import PredictRoute, encode_one
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.recorder import Recorder


@pytest.fixture
def settings(tmp_path: Path, write_mlp: Callable[..., Path]) -> Settings:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
    write_mlp(tmp_path, 2, name="small", inputs=inputs, outputs=outputs)
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


@pytest.mark.parametrize("declared", [[-1, 3], [-1, 2, 2]], ids=["width", "rank"])
def test_a_model_whose_outputs_are_not_the_declared_ones_is_not_served(settings: Settings, declared: list[int]) -> None:
    path = settings.model_dir / "model.yaml"
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(spec | {"outputs": [{"name": "y", "datatype": "FP32", "shape": declared}]}))
    write_manifest(settings.model_dir)
    with pytest.raises(LoadError, match=r"output 'y' has shape \[-1, 2\], model.yaml declares"):
        load_model(settings)


class Slow:
    """A route whose decoding takes until the test says so."""

    name = "slow"

    def __init__(self) -> None:
        self.read: asyncio.Future[Prepared] = asyncio.get_running_loop().create_future()

    def decode(self, call: Call, model: ServedModel) -> Awaitable[Prepared]:
        return self.read


def open_plane(plane: DataPlane, model: ServedModel, **options: Any) -> Batcher:
    """The model answers from now on."""
    queue = BatchQueue(max_rows=2, queue_rows=100, cost=CostModel())
    batcher = Batcher(model.run, queue, loop=asyncio.get_running_loop(), **options)
    plane.open(model, batcher)
    return batcher


def ask(plane: DataPlane, route: Any, body: bytes = b"") -> tuple[Call, asyncio.Future[Reply]]:
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    call = Call(route=route, headers={}, body=body, reply=answered.set_result, received=0.0)
    plane.handle(call)
    return call, answered


async def test_a_request_abandoned_after_a_reload_leaves_the_batcher_it_is_in(settings: Settings) -> None:
    plane, model = DataPlane(settings, Recorder(settings)), load_model(settings)
    before = open_plane(plane, model, max_delay=10.0)
    before.arriving = 1  # so that it waits
    call, _ = ask(plane, PredictRoute(None), b'{"features": [1, 2]}')  # type: ignore[arg-type]
    after = open_plane(plane, model)
    plane.abandon(call)
    assert (before.in_flight, before.queue.rows) == (0, 0)
    assert (after.in_flight, after.queue.rows) == (0, 0)
    assert plane.idle.is_set()
    before.close()
    after.close()


async def test_what_was_read_for_one_model_is_not_answered_by_another(settings: Settings) -> None:
    plane, slow = DataPlane(settings, Recorder(settings)), Slow()
    before = open_plane(plane, load_model(settings))
    _, answered = ask(plane, slow)
    after = open_plane(plane, load_model(settings))
    slow.read.set_result(Prepared({"x": np.zeros((1, 2), dtype=np.float32)}, encode_one))
    reply = await answered
    assert (reply.status, dict(reply.headers)[b"x-mlserve-draining"]) == (503, b"true")
    before.close()
    after.close()


async def test_a_request_whose_reading_is_cancelled_is_answered(settings: Settings) -> None:
    plane, slow = DataPlane(settings, Recorder(settings)), Slow()
    batcher = open_plane(plane, load_model(settings))
    _, answered = ask(plane, slow)
    slow.read.cancel()
    assert (await answered).status == 503
    assert plane.in_flight == 0
    batcher.close()


async def test_a_v2_request_is_read_by_the_signature_of_the_model_that_answers(settings: Settings) -> None:
    spec = load_artifact(settings.model_dir).spec
    wider = spec.model_copy(update={"inputs": (TensorSpec(name="x", datatype="FP32", shape=(-1, 3)),)})
    plane = DataPlane(settings, Recorder(settings))
    batcher = open_plane(plane, load_model(settings))
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'
    _, answered = ask(plane, InferRoute(wider), body)  # the route that its headers were matched with
    reply = await answered
    assert reply.status == 400
    assert b"expected [-1, 2]" in reply.body
    batcher.close()


@pytest.mark.parametrize("body", [b'{"features": [1, 2]}', b'{"features": [1]}'], ids=["answered", "refused"])
async def test_a_request_that_cannot_be_counted_ends_all_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError

    recorder = Recorder(settings)
    for name in ("answered", "failed", "cached"):
        monkeypatch.setattr(recorder, name, fail)
    plane = DataPlane(replace(settings, response_cache_bytes=100_000), recorder)
    batcher = open_plane(plane, load_model(settings))
    for _ in range(2):  # the second comes from the cache
        _, answered = ask(plane, PredictRoute(None), body)  # type: ignore[arg-type]
        assert (await answered).status in {200, 400}
    assert plane.in_flight == 0
    batcher.close()
