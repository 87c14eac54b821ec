"""Weights files that were made to do harm, or are simply broken: refused with a reason, and nothing of them runs."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from mlserve_core.artifact import ArtifactError
from mlserve_runtime.artifacts.package import package

MLP = {"name": "mlp", "arguments": {"inputs": 2, "outputs": 2, "hidden": []}}


class Payload:
    """Unpickling this creates a file: the smallest program that proves that code ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def linear(dtype: str = "F32", shape: tuple[int, ...] = (2, 2), offsets: tuple[int, int] = (0, 16)) -> dict[str, Any]:
    return {"0.weight": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def torchscript_with_pickle(marker: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/version", "3\n")
        archive.writestr("model/constants.pkl", pickle.dumps(Payload(marker)))
        archive.writestr("model/data.pkl", pickle.dumps(Payload(marker)))
    return buffer.getvalue()


def onnx_reading(location: str) -> bytes:
    """A model whose weights lie in another file, which it names itself."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    weight.external_data.add(key="length", value="16")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(onnx.ModelProto.SerializeToString(model))


Case = tuple[str, Callable[[Path], bytes]]
CASES: dict[str, Case] = {
    "pickled module": ("state_dict", lambda _: saved(torch.nn.Linear(2, 2))),
    "pickle in torch.save": ("state_dict", lambda m: saved({"0.weight": Payload(m)})),
    "pickle in the old format": (
        "state_dict",
        lambda m: saved({"0.weight": Payload(m)}, _use_new_zipfile_serialization=False),
    ),
    "bare pickle": ("state_dict", lambda m: pickle.dumps(Payload(m), 2)),
    "bare pickle of a later protocol": ("state_dict", lambda m: pickle.dumps(Payload(m))),
    "list instead of a dictionary": ("state_dict", lambda _: saved([torch.zeros(2)])),
    "numbers instead of tensors": ("state_dict", lambda _: saved({"0.weight": 1})),
    "tensors of another shape": ("state_dict", lambda _: saved({"0.weight": torch.zeros(3, 3)})),
    "names of another network": ("state_dict", lambda _: saved({"fc.weight": torch.zeros(2, 2)})),
    "truncated state_dict": ("state_dict", lambda _: saved({"0.weight": torch.zeros(2, 2)})[:200]),
    "empty file": ("state_dict", lambda _: b""),
    "noise": ("state_dict", lambda _: bytes(range(256)) * 10),
    "empty safetensors": ("safetensors", lambda _: b""),
    "safetensors with a header of 2^63 bytes": ("safetensors", lambda _: safetensors({}, length=2**63)),
    "safetensors with a header longer than the file": ("safetensors", lambda _: safetensors({}, length=10_000)),
    "safetensors with no JSON": ("safetensors", lambda _: safetensors(b"\xff\xfe")),
    "safetensors with deep JSON": ("safetensors", lambda _: safetensors(b"[" * 100_000)),
    "safetensors beyond its end": ("safetensors", lambda _: safetensors(linear(offsets=(0, 1 << 40)), b"\0" * 16)),
    "safetensors with a shape that lies": (
        "safetensors",
        lambda _: safetensors(linear(shape=(1 << 31, 1 << 31)), b"\0" * 16),
    ),
    "safetensors with an unknown type": ("safetensors", lambda _: safetensors(linear(dtype="X9"), b"\0" * 16)),
    "safetensors that is a pickle": ("safetensors", lambda m: pickle.dumps(Payload(m))),
    "TorchScript that is a pickle": ("torchscript", lambda m: saved({"x": Payload(m)})),
    "TorchScript with a pickle inside": ("torchscript", torchscript_with_pickle),
    "TorchScript of noise": ("torchscript", lambda _: b"PK\x03\x04" + bytes(range(256))),
    "pt2 that is a pickle": ("pt2", lambda m: saved({"x": Payload(m)})),
    "pt2 of noise": ("pt2", lambda _: b"noise"),
    "ONNX of noise": ("onnx", lambda _: bytes(range(256))),
    "empty ONNX": ("onnx", lambda _: b""),
    "ONNX that is a pickle": ("onnx", lambda m: pickle.dumps(Payload(m))),
    "ONNX that reads an absolute path": ("onnx", lambda m: onnx_reading(str(secret_beside(m)))),
    "ONNX that reads outside of the artifact": ("onnx", lambda m: onnx_reading(f"../{secret_beside(m).name}")),
}


def secret_beside(marker: Path) -> Path:
    path = marker.with_name("secret.bin")
    path.write_bytes(b"\0" * 16)
    return path


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:Detected pickle protocol")
def test_refused_and_not_run(name: str, tmp_path: Path) -> None:
    form, build = CASES[name]
    marker, directory = tmp_path / "it-ran", tmp_path / "model"
    directory.mkdir()
    document: dict[str, Any] = {
        "name": "hostile",
        "format": form,
        "weights": "weights.bin",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }
    if form in {"safetensors", "state_dict"}:
        document["architecture"] = MLP
    (directory / "model.yaml").write_text(yaml.safe_dump(document))
    (directory / "weights.bin").write_bytes(build(marker))
    with pytest.raises(ArtifactError) as caught:
        package(directory)
    assert str(caught.value).strip()
    assert str(tmp_path) not in str(caught.value), "the message reaches status and clients"
    assert not marker.exists()
