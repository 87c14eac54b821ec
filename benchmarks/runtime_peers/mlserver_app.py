"""MLServer with adaptive batching: a custom runtime over the same module."""

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from models import build


class Runtime(MLModel):
    async def load(self) -> bool:
        self.module, self.shape = build()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = torch.from_numpy(NumpyCodec.decode_input(payload.inputs[0])).float().reshape(-1, *self.shape)
        with torch.inference_mode():
            answer = torch.softmax(self.module(rows), dim=-1).numpy()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", answer)])
