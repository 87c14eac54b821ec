"""What people write first: a FastAPI handler that runs the model for every request."""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from models import build

MODULE, SHAPE = build()
app = FastAPI()


@app.post("/infer")
async def infer(request: Request) -> dict[str, Any]:
    body = await request.json()
    rows = torch.tensor(body["inputs"][0]["data"], dtype=torch.float32).reshape(-1, *SHAPE)
    with torch.inference_mode():
        answer = torch.softmax(MODULE(rows), dim=-1)
    return {"outputs": [{"name": "probabilities", "shape": list(answer.shape), "data": answer.flatten().tolist()}]}


uvicorn.run(
    app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False,
    log_level="warning",
)  # fmt: skip
