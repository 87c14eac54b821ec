"""LitServe with batching."""

import sys
from typing import Any

import litserve
import torch
from models import build


class Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.module, self.shape = build()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe makes the endpoint of the annotation
        return torch.tensor(request["inputs"][0]["data"], dtype=torch.float32).reshape(self.shape)

    def batch(self, inputs: Any) -> torch.Tensor:
        return torch.stack(inputs)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.softmax(self.module(x), dim=-1)

    def encode_response(self, output: torch.Tensor) -> Any:
        return {"outputs": [{"name": "probabilities", "data": output.tolist()}]}


if __name__ == "__main__":
    api = Api(max_batch_size=64, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
