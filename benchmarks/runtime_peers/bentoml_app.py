"""BentoML with adaptive batching: `bentoml serve bentoml_app:Service`."""

import bentoml
import numpy as np
import torch
from models import build


@bentoml.service(workers=1, traffic={"timeout": 30})
class Service:
    def __init__(self) -> None:
        self.module, self.shape = build()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def infer(self, rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(rows.astype(np.float32)).reshape(-1, *self.shape)
            return torch.softmax(self.module(x), dim=-1).numpy()
