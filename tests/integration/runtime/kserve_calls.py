"""Everything KServe's clients do with a server, as JSON on standard output.

Run by test_kserve.py with the Python of an environment that has `kserve`:
    python kserve_calls.py HTTP_URL GRPC_ADDRESS    with the rows on standard input
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput


def request(
    rows: np.ndarray, *, binary: bool, name: str = "tabular", binary_out: bool | None = None, identifier: str = "k-1"
) -> InferRequest:
    tensor = InferInput("x", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    wanted = None if binary_out is None else [RequestedOutput("probabilities", {"binary_data": binary_out})]
    return InferRequest(name, [tensor], request_id=identifier, request_outputs=wanted)


def summary(response: InferResponse) -> dict[str, Any]:
    (output,) = response.outputs
    return {
        "id": response.id,
        "model": response.model_name,
        "name": output.name,
        "datatype": output.datatype,
        "values": output.as_numpy().tolist(),
    }


async def rest(url: str, rows: np.ndarray) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        answers: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model ready": await client.is_model_ready(url, "tabular"),
            "other model ready": await client.is_model_ready(url, "other"),
        }
        for binary in (False, True):
            for binary_out in (None, False, True):
                asked = request(rows, binary=binary, binary_out=binary_out)
                answers[f"infer {binary} {binary_out}"] = summary(await client.infer(url, asked, model_name="tabular"))
        wrong = {"other model": ("other", rows), "wrong shape": ("tabular", rows[:, :7].copy())}
        for what, (name, values) in wrong.items():
            try:
                await client.infer(url, request(values, binary=False), model_name=name)
            except httpx.HTTPStatusError as error:
                answers[what] = {"status": error.response.status_code, "text": str(error)}
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        answers["v1 live"] = await client.is_server_live(url)
        answers["v1 ready"] = await client.is_model_ready(url, "tabular")
        answers["v1"] = await client.infer(url, {"instances": rows.tolist()}, model_name="tabular")
    return answers


async def over_grpc(address: str, rows: np.ndarray) -> dict[str, Any]:
    async with InferenceGRPCClient(address) as client:
        answers: dict[str, Any] = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready("tabular"),
        }
        for binary in (False, True):
            answers[f"infer {binary}"] = summary(await client.infer(request(rows, binary=binary)))
        wrong = {"other model": ("other", rows), "wrong shape": ("tabular", rows[:, :7].copy())}
        for what, (name, values) in wrong.items():
            try:
                await client.infer(request(values, binary=True, name=name))
            except grpc.RpcError as error:
                answers[what] = {"status": error.code().name, "text": error.details()}
    return answers


async def main() -> None:
    logging.disable()  # the client logs each expected failure with a traceback
    rows = np.array(json.load(sys.stdin), dtype=np.float32)
    url, address = sys.argv[1:]
    print(json.dumps({"rest": await rest(url, rows), "grpc": await over_grpc(address, rows)}))


asyncio.run(main())
