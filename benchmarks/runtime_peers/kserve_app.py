"""KServe's Python server: one worker, no batching of its own."""

import sys
from typing import Any

import torch
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from models import build


class Runtime(Model):
    def load(self) -> bool:
        self.module, self.shape = build()
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        rows = torch.from_numpy(payload.inputs[0].as_numpy()).reshape(-1, *self.shape)
        with torch.inference_mode():
            answer = torch.softmax(self.module(rows), dim=-1).numpy()
        output = InferOutput("probabilities", list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=False)
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    model = Runtime(sys.argv[2])
    model.load()
    ModelServer(http_port=int(sys.argv[1]), workers=1, enable_grpc=False, enable_latency_logging=False).start([model])
