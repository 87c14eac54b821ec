"""The floor: uvicorn answering a fixed body."""

import sys
from typing import Any

import uvicorn

BODY = (
    b'{"model_name":"m","model_version":"1","outputs":[{"name":"probabilities","datatype":"FP32","shape":[1,2],'
    b'"data":[0.5147039,0.48529607]}]}'
)
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def application(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


uvicorn.run(
    application, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools",
    lifespan="off", access_log=False, log_level="warning",
)  # fmt: skip
