"""One digit asked in every style a client might speak."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image
from shell import ROOT, DemoError, Shell, say

SAMPLES = ROOT / "models/digits/samples"


def _sample() -> tuple[Path, int]:
    """An image and its label, which its name begins with."""
    path = min(SAMPLES.glob("*.png"))
    return path, int(path.stem.split("_")[0])


def _expect(style: str, answer: Any, label: int) -> None:
    say(f"{style:<34} -> {answer}")
    if int(answer) != label:
        raise DemoError(f"{style}: expected {label}, got {answer}")


def ask_in_every_style(shell: Shell, url: str) -> None:
    """JSON, multipart, batch, Open Inference Protocol (JSON, binary, gRPC), V1 and the command line."""
    path, label = _sample()
    image = path.read_bytes()
    encoded = base64.b64encode(image).decode()
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("L"), dtype=np.float32)
    name = "digits"
    with httpx.Client(base_url=url, timeout=20) as client:
        one = client.post("/predict", json={"image": encoded}).raise_for_status().json()
        _expect("POST /predict (JSON, base64)", one["prediction"], label)
        one = client.post("/predict", files={"image": (path.name, image, "image/png")}).raise_for_status().json()
        _expect("POST /predict (multipart)", one["prediction"], label)
        batch = client.post("/predict/batch", json={"instances": [{"image": encoded}] * 3}).raise_for_status().json()
        _expect("POST /predict/batch", batch["predictions"][2]["prediction"], label)
        metadata = client.get(f"/v2/models/{name}").raise_for_status().json()
        _open_inference(client, url, metadata, pixels, label)
        first = (
            client.post(f"/v1/models/{name}:predict", json={"instances": [{"b64": encoded}]}).raise_for_status().json()
        )
        _expect("V1", _class_of(first["predictions"][0]), label)
    out = json.loads(shell.run(f"mlserve predict {name} {path.relative_to(ROOT)} --output json", quiet=True))
    _expect("mlserve predict", out["prediction"], label)


def _open_inference(client: httpx.Client, url: str, metadata: dict[str, Any], pixels: np.ndarray, label: int) -> None:
    import tritonclient.grpc as triton_grpc
    import tritonclient.http as triton_http

    name, tensor = metadata["name"], metadata["inputs"][0]
    shape = [1, *tensor["shape"][1:]]
    data = pixels.reshape(shape)
    body = {"inputs": [{"name": tensor["name"], "datatype": "FP32", "shape": shape, "data": data.ravel().tolist()}]}
    answer = client.post(f"/v2/models/{name}/infer", json=body).raise_for_status().json()
    _expect("OIP V2 REST (JSON)", _class_of(answer["outputs"][0]["data"]), label)
    host = url.removeprefix("http://")
    for style, module in (
        ("OIP V2 REST (binary, tritonclient)", triton_http),
        ("OIP V2 gRPC (tritonclient)", triton_grpc),
    ):
        triton = module.InferenceServerClient(host)
        request = module.InferInput(tensor["name"], shape, "FP32")
        request.set_data_from_numpy(data)
        result = triton.infer(name, [request])
        _expect(style, _class_of(result.as_numpy(metadata["outputs"][0]["name"]).ravel().tolist()), label)
        triton.close()


def _class_of(scores: list[float]) -> int:
    return int(np.argmax(scores))
