"""Who is measured and what they serve: the models of the comparison and how every server is started."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from models import MODULES
from safetensors.torch import save_file

from mlserve_core.artifact import write_manifest
from mlserve_core.statistics.build import build_profile

APPS = Path(__file__).resolve().parent
TOOLS = APPS.parent.parent / ".tools" / "bench"


@dataclass
class Model:
    """What is served: module, one row, and the weights in the forms the servers need."""

    name: str
    row: np.ndarray
    expected: list[float]
    weights: Path
    artifact: Path

    def v2_body(self) -> bytes:
        """The row as JSON numbers."""
        entry = {"name": "x", "shape": [1, *self.row.shape], "datatype": "FP32", "data": self.row.ravel().tolist()}
        return json.dumps({"inputs": [entry]}).encode()

    def v2_binary_body(self) -> bytes:
        """The row by the binary tensor extension; the header's length goes with `binary_headers`."""
        return self._binary_head() + self.row.tobytes()

    def binary_headers(self) -> dict[str, str]:
        """What makes a body binary."""
        length = str(len(self._binary_head()))
        return {"content-type": "application/octet-stream", "inference-header-content-length": length}

    def _binary_head(self) -> bytes:
        parameters = {"binary_data_size": self.row.nbytes}
        entry = {"name": "x", "shape": [1, *self.row.shape], "datatype": "FP32", "parameters": parameters}
        return json.dumps({"inputs": [entry]}).encode()


def json_headers(_: Model) -> dict[str, str]:
    """What makes a body JSON."""
    return {"content-type": "application/json"}


@dataclass
class Peer:
    """A server of the comparison."""

    name: str
    packages: tuple[str, ...] = ()
    command: Callable[[Path, Model, int], list[str]] = lambda python, model, port: []
    path: str = "/infer"
    body: Callable[[Model], bytes] = Model.v2_body
    prepare: Callable[[Model, Path, int], None] = lambda model, scratch, port: None
    headers: Callable[[Model], dict[str, str]] = json_headers
    checked: bool = True


def build_models(scratch: Path, names: list[str]) -> list[Model]:
    """Modules with seeded weights, one row for each and what the module itself answers to it."""
    models = []
    for name in names:
        torch.manual_seed(5)
        make, shape = MODULES[name]
        module = make().eval()
        weights = scratch / f"{name}.pt"
        torch.save(module.state_dict(), weights)
        row = np.random.default_rng(1).random(shape).round(4).astype(np.float32)
        with torch.inference_mode():
            expected = torch.softmax(module(torch.from_numpy(row[None])), dim=-1)[0].tolist()
        models.append(Model(name, row, expected, weights, _artifact(scratch / name, name, module, shape)))
    return models


ARCHITECTURES = {
    "tabular": {"name": "mlp", "arguments": {"inputs": 30, "outputs": 2, "hidden": [64, 32]}},
    "cnn": {"name": "small_cnn", "arguments": {"classes": 10, "height": 28, "width": 28}},
    "image": {"factory": "models:pooled_classifier"},
}


def _artifact(directory: Path, name: str, module: torch.nn.Module, shape: tuple[int, ...]) -> Path:
    """The same weights as an mlserve artifact, with a reference profile so that telemetry has all its work to do."""

    directory.mkdir()
    save_file(module.state_dict(), directory / "model.safetensors")
    classes = 2 if name == "tabular" else 10
    spec = {
        "name": name,
        "format": "safetensors",
        "weights": "model.safetensors",
        "architecture": ARCHITECTURES[name],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *shape]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]}],
        "postprocessing": {"activation": "softmax"},
    }
    (directory / "model.yaml").write_text(yaml.safe_dump(spec))
    rows = np.random.default_rng(2).random((100 if name == "image" else 500, *shape)).astype(np.float32)
    with torch.inference_mode():
        probabilities = torch.softmax(module(torch.from_numpy(rows)), dim=-1).numpy()
    names = [str(index) for index in range(classes)]
    profile = (
        build_profile(rows, feature_names=[f"x_{i}" for i in range(30)], classes=names, probabilities=probabilities)
        if name == "tabular"
        else build_profile(rows, projections=16, classes=names, probabilities=probabilities)
    )
    (directory / "profile.json").write_text(profile.to_json())
    write_manifest(directory)
    return directory


def _ours(_: Path, model: Model, port: int) -> list[str]:
    return [
        sys.executable, "-m", "mlserve_runtime.main", "serve", "--model-dir", str(model.artifact), "--threads", "1",
        "--host", "127.0.0.1", "--http-port", str(port), "--management-port", "0", "--grpc-port", "-1",
        "--drain-socket", str(model.artifact.parent / "drain.sock"),
    ]  # fmt: skip


def _script(name: str) -> Callable[[Path, Model, int], list[str]]:
    return lambda python, model, port: [str(python), str(APPS / name), str(port)]


def _bento(python: Path, model: Model, port: int) -> list[str]:
    return [str(python.parent / "bentoml"), "serve", "bentoml_app:Service", "--port", str(port), "--host", "127.0.0.1"]


def _mlserver(python: Path, model: Model, port: int) -> list[str]:
    return [str(python.parent / "mlserver"), "start", str(model.weights.parent / f"mlserver-{model.name}")]


def _kserve(python: Path, model: Model, port: int) -> list[str]:
    return [str(python), str(APPS / "kserve_app.py"), str(port), model.name]


def _prepare_mlserver(model: Model, scratch: Path, port: int) -> None:
    directory = scratch / f"mlserver-{model.name}"
    directory.mkdir(exist_ok=True)
    shutil.copy(APPS / "mlserver_app.py", directory)
    shutil.copy(APPS / "models.py", directory)
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "host": "127.0.0.1"}
    settings |= {"parallel_workers": 0, "debug": False}
    (directory / "settings.json").write_text(json.dumps(settings))
    batching = {"max_batch_size": 64, "max_batch_time": 0.005}
    entry = {"name": model.name, "implementation": "mlserver_app.Runtime", **batching}
    (directory / "model-settings.json").write_text(json.dumps(entry))


def _torchserve(python: Path, model: Model, port: int) -> list[str]:
    store = model.weights.parent / f"torchserve-{model.name}"
    return [
        str(python.parent / "torchserve"), "--start", "--foreground", "--ncs", "--model-store", str(store),
        "--ts-config", str(store / "config.properties"), "--disable-token-auth",
    ]  # fmt: skip


def _prepare_torchserve(model: Model, scratch: Path, port: int) -> None:
    store = scratch / f"torchserve-{model.name}"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    archiver = TOOLS / "torchserve" / "bin" / "torch-model-archiver"
    command = [archiver, "--model-name", "bench", "--version", "1.0", "--handler", APPS / "torchserve_handler.py"]
    command += ["--extra-files", APPS / "models.py", "--export-path", store]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    bench = {"defaultVersion": True, "marName": "bench.mar", "minWorkers": 1, "maxWorkers": 1}
    bench |= {"batchSize": 64, "maxBatchDelay": 1, "responseTimeout": 60}
    lines = [
        f"inference_address=http://127.0.0.1:{port}",
        f"management_address=http://127.0.0.1:{free_port()}",
        f"metrics_address=http://127.0.0.1:{free_port()}",
        "load_models=bench.mar",
        "default_workers_per_model=1",
        "job_queue_size=1000",
        "models=" + json.dumps({"bench": {"1.0": bench}}),
    ]
    (store / "config.properties").write_text("\n".join(lines))


def _nested_body(model: Model) -> bytes:
    return json.dumps({"rows": [model.row.tolist()]}).encode()


def peers_for(model: Model) -> list[Peer]:
    """The servers that serve this model, ours among them."""
    v2 = f"/v2/models/{model.name}/infer"
    ours = Peer("mlserve", command=_ours, path=v2)
    if model.name == "image":
        binary = Model.v2_binary_body, Model.binary_headers
        return [ours, Peer("mlserve, binary", command=_ours, path=v2, body=binary[0], headers=binary[1])]
    return [
        Peer("uvicorn, fixed body", command=_script("bare.py"), checked=False),
        Peer("raw ASGI, batch 1", command=_script("raw_asgi.py")),
        Peer("plain FastAPI, batch 1", command=_script("plain_fastapi.py")),
        ours,
        Peer("litserve", ("litserve",), _script("litserve_app.py"), "/predict"),
        Peer("bentoml", ("bentoml",), _bento, "/infer", body=_nested_body),
        Peer("mlserver", ("mlserver",), _mlserver, v2, prepare=_prepare_mlserver),
        Peer("kserve", ("kserve",), _kserve, v2),
        Peer("ray", ("ray[serve]",), _script("ray_app.py"), "/infer"),
        Peer("torchserve", ("torchserve", "torch-model-archiver"), _torchserve, "/predictions/bench",
             prepare=_prepare_torchserve),
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
