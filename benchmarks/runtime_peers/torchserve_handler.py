"""TorchServe: a handler with batching."""

import json
from typing import Any

import torch
from models import build


class Handler:
    def initialize(self, _context: Any) -> None:
        self.module, self.shape = build()

    def handle(self, data: Any, _context: Any) -> Any:
        rows = []
        for entry in data:
            body = entry.get("body") or entry.get("data")
            body = json.loads(body) if isinstance(body, str | bytes | bytearray) else body
            rows.append(torch.tensor(body["inputs"][0]["data"], dtype=torch.float32).reshape(self.shape))
        with torch.inference_mode():
            answer = torch.softmax(self.module(torch.stack(rows)), dim=-1).tolist()
        return [{"outputs": [{"name": "probabilities", "data": row}]} for row in answer]


_HANDLER = Handler()


def handle(data: Any, context: Any) -> Any:
    if not hasattr(_HANDLER, "module"):
        _HANDLER.initialize(context)
    return _HANDLER.handle(data, context) if data else None
