"""A hand-written ASGI handler, batch 1: as little framework as a forward pass per request can have."""

import sys
from typing import Any

import numpy as np
import orjson
import torch
import uvicorn
from models import build

MODULE, SHAPE = build()


async def application(_scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    rows = np.array(orjson.loads(body)["inputs"][0]["data"], dtype=np.float32).reshape(-1, *SHAPE)
    with torch.inference_mode():
        answer = torch.softmax(MODULE(torch.from_numpy(rows)), dim=-1).numpy()
    output = {"name": "probabilities", "shape": answer.shape, "data": answer.reshape(-1)}
    text = orjson.dumps({"outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


uvicorn.run(
    application, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off",
    access_log=False, log_level="warning",
)  # fmt: skip
