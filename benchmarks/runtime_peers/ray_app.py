"""Ray Serve with batching: one replica behind its own proxy."""

import signal
import sys
from typing import Any

import ray
import torch
from models import build
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0})
class Service:
    def __init__(self) -> None:
        self.module, self.shape = build()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def infer(self, rows: list[list[float]]) -> list[list[float]]:
        x = torch.tensor(rows, dtype=torch.float32).reshape(-1, *self.shape)
        with torch.inference_mode():
            answers: list[list[float]] = torch.softmax(self.module(x), dim=-1).tolist()
        return answers

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        answer = await self.infer(body["inputs"][0]["data"])
        return {"outputs": [{"name": "probabilities", "shape": [1, len(answer)], "data": answer}]}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1]), access_log=False))
    serve.run(Service.bind(), route_prefix="/infer")
    signal.sigwait({signal.SIGTERM})
    ray.shutdown()
