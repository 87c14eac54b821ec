"""Requests per second, latency and CPU of the runtime and of its peers: same machine, same model, same requests.

    python benchmarks/runtime.py                          ours, the floor, plain FastAPI, a raw ASGI handler
    python benchmarks/runtime.py --peers litserve bentoml mlserver torchserve
    python benchmarks/runtime.py --models tabular --connections 64 --seconds 3 --output benchmarks/results/runtime.json

Every server has one worker and one torch thread, pinned to core 0; wrk runs on core 1. Answers are checked against
the module before anything is measured. Peers live in environments of their own (`.tools/bench/<name>`), made when
asked for; one that cannot be installed or started is reported, not hidden. Machines differ and are shared: compare
rows of one run, not figures of two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "benchmarks" / "runtime_peers"
TOOLS = ROOT / ".tools" / "bench"
SITE_PACKAGES = next(Path(path) for path in sys.path if path.endswith("site-packages"))
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Model:
    """What is served: module, one row, and the weights in the forms the servers need."""

    name: str
    row: np.ndarray
    expected: list[float]
    weights: Path
    artifact: Path

    def v2_body(self) -> bytes:
        entry = {"name": "x", "shape": [1, *self.row.shape], "datatype": "FP32", "data": self.row.ravel().tolist()}
        return json.dumps({"inputs": [entry]}).encode()


@dataclass
class Peer:
    """A server of the comparison."""

    name: str
    packages: tuple[str, ...] = ()
    command: Callable[[Path, Model, int], list[str]] = lambda python, model, port: []
    path: str = "/infer"
    body: Callable[[Model], bytes] = Model.v2_body
    prepare: Callable[[Model, Path, int], None] = lambda model, scratch, port: None
    checked: bool = True


@dataclass
class Row:
    """One line of the table."""

    model: str
    server: str
    connections: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_micros: float
    rss_mb: float
    first_prediction_s: float
    errors: int = 0


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def build_models(scratch: Path, names: list[str]) -> list[Model]:
    sys.path.insert(0, str(APPS))
    models = []
    for name in names:
        os.environ["BENCH_MODEL"] = name
        torch.manual_seed(5)
        shape = (30,) if name == "tabular" else (1, 28, 28)
        module = _module(name)
        weights = scratch / f"{name}.pt"
        torch.save(module.state_dict(), weights)
        row = np.random.default_rng(1).random(shape).round(4).astype(np.float32)
        with torch.inference_mode():
            expected = torch.softmax(module(torch.from_numpy(row[None])), dim=-1)[0].tolist()
        models.append(Model(name, row, expected, weights, _artifact(scratch / name, name, module, shape)))
    return models


def _module(name: str) -> torch.nn.Module:
    from models import SmallCNN
    from torch import nn

    if name == "cnn":
        return SmallCNN().eval()
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)).eval()


def _artifact(directory: Path, name: str, module: torch.nn.Module, shape: tuple[int, ...]) -> Path:
    """The same weights as an mlserve artifact, with a reference profile so that telemetry has all its work to do."""
    import yaml
    from safetensors.torch import save_file

    from mlserve_core.artifact import write_manifest
    from mlserve_core.statistics.build import build_profile

    directory.mkdir()
    save_file(module.state_dict(), directory / "model.safetensors")
    architecture = (
        {"name": "mlp", "arguments": {"inputs": 30, "outputs": 2, "hidden": [64, 32]}}
        if name == "tabular"
        else {"name": "small_cnn", "arguments": {"classes": 10, "height": 28, "width": 28}}
    )
    classes = 2 if name == "tabular" else 10
    spec = {
        "name": name,
        "format": "safetensors",
        "weights": "model.safetensors",
        "architecture": architecture,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *shape]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]}],
        "postprocessing": {"activation": "softmax"},
    }
    (directory / "model.yaml").write_text(yaml.safe_dump(spec))
    rows = np.random.default_rng(2).random((500, *shape)).astype(np.float32)
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
    v2 = f"/v2/models/{model.name}/infer"
    return [
        Peer("uvicorn, fixed body", command=_script("bare.py"), checked=False),
        Peer("raw ASGI, batch 1", command=_script("raw_asgi.py")),
        Peer("plain FastAPI, batch 1", command=_script("plain_fastapi.py")),
        Peer("mlserve", command=_ours, path=v2),
        Peer("litserve", ("litserve",), _script("litserve_app.py"), "/predict"),
        Peer("bentoml", ("bentoml",), _bento, "/infer", body=_nested_body),
        Peer("mlserver", ("mlserver",), _mlserver, v2, prepare=_prepare_mlserver),
        Peer("torchserve", ("torchserve", "torch-model-archiver"), _torchserve, "/predictions/bench",
             prepare=_prepare_torchserve),
    ]  # fmt: skip


def environment_of(peer: Peer) -> Path:
    """The Python of a peer; an environment that sees this one's packages (torch above all) is made when it is new."""
    if not peer.packages:
        return Path(sys.executable)
    directory = TOOLS / peer.name
    python = directory / "bin" / "python"
    if not (directory / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
        site = next((directory / "lib").glob("python*")) / "site-packages"
        (site / "zz_shared.pth").write_text(f"{SITE_PACKAGES}\n")
        subprocess.run([str(python), "-m", "pip", "install", "-q", *peer.packages], check=True, timeout=900)
        (directory / "installed").touch()
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(peer: Peer, model: Model, scratch: Path, connections: list[int], seconds: int) -> list[Row]:
    python = environment_of(peer)
    port = free_port()
    peer.prepare(model, scratch, port)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "BENCH_MODEL": model.name,
        "BENCH_WEIGHTS": str(model.weights), "PYTHONPATH": str(APPS), "BENTOML_DO_NOT_TRACK": "true",
    }  # fmt: skip
    log = (scratch / "server.log").open("wb")
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", "0", *peer.command(python, model, port)],
        env=environment, cwd=APPS, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        body = peer.body(model)
        url = f"http://127.0.0.1:{port}{peer.path}"
        answer = first_answer(process, url, body)
        first = time.perf_counter() - began
        if peer.checked:
            check(answer, model.expected)
        script = scratch / "request.lua"
        script.write_text(
            f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\nwrk.body = [==[{body.decode()}]==]\n'
        )
        wrk(url, script, 64, 1)
        return [run_wrk(process.pid, peer, model, url, script, count, seconds, first) for count in connections]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


def first_answer(process: subprocess.Popen[bytes], url: str, body: bytes) -> Any:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return json.load(response)
        except (OSError, ValueError):
            time.sleep(0.005)
    raise RuntimeError("no answer within 90 s")


def check(answer: Any, expected: list[float]) -> None:
    """The answer must contain the module's own probabilities, whatever envelope a server puts around them."""
    numbers: list[float] = []

    def walk(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                walk(item, name)
        elif isinstance(value, list):
            for item in value:
                walk(item, key)
        elif isinstance(value, float):
            numbers.append(value)

    walk(answer)
    if not np.allclose(numbers[-len(expected) :], expected, atol=1e-4):
        raise RuntimeError(f"wrong answer {str(answer)[:200]}, expected {expected}")


def wrk(url: str, script: Path, connections: int, seconds: int) -> str:
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    return subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout


def run_wrk(
    pid: int, peer: Peer, model: Model, url: str, script: Path, connections: int, seconds: int, first: float
) -> Row:
    before = cpu_seconds(pid)
    output = wrk(url, script, connections, seconds)
    used = cpu_seconds(pid) - before
    numbers = {words[0]: words[1] for line in output.splitlines() if len(words := line.split()) >= 2}
    total = next(int(line.split()[0]) for line in output.splitlines() if "requests in" in line)
    errors = sum(int(line.split()[-1]) for line in output.splitlines() if "Non-2xx" in line)
    return Row(
        model=model.name,
        server=peer.name,
        connections=connections,
        requests_per_second=round(float(numbers["Requests/sec:"]), 1),
        p50_ms=milliseconds(numbers["50%"]),
        p99_ms=milliseconds(numbers["99%"]),
        cpu_micros=round(used / max(total, 1) * 1e6, 1),
        rss_mb=round(sum(rss_bytes(member) for member in group_of(pid)) / 2**20, 1),
        first_prediction_s=round(first, 2),
        errors=errors,
    )


def group_of(pid: int) -> list[int]:
    """All processes of the server's session."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == pid:
                members.append(int(entry.name))
    return members


def cpu_seconds(pid: int) -> float:
    total = 0
    for member in group_of(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor, 3)
    raise ValueError(text)


def table(results: Results) -> str:
    lines = [
        "| model | server | clients | requests/s | p50 ms | p99 ms | CPU µs/request | RSS MB | first prediction s | non-200 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in sorted(results.rows, key=lambda row: (row.model, row.connections, -row.requests_per_second)):
        lines.append(
            f"| {r.model} | {r.server} | {r.connections} | {r.requests_per_second:,.0f} | {r.p50_ms} | {r.p99_ms} "
            f"| {r.cpu_micros} | {r.rss_mb:.0f} | {r.first_prediction_s} | {r.errors} |"
        )
    lines += [f"\nNot measured: {name}: {reason}" for name, reason in results.failures.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tabular", "cnn"], choices=["tabular", "cnn"])
    parser.add_argument("--peers", nargs="*", default=[], help="also measure these (installed when needed)")
    parser.add_argument("--only", nargs="*", default=[], help="measure only servers whose name contains one of these")
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 16, 64, 128])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        print("wrk and taskset are needed: apt-get install wrk util-linux", file=sys.stderr)
        return 2
    results = Results()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for model in build_models(scratch, arguments.models):
            for peer in peers_for(model):
                wanted = not peer.packages or peer.name in arguments.peers
                if not wanted or (arguments.only and not any(text in peer.name for text in arguments.only)):
                    continue
                try:
                    results.rows += measure(peer, model, scratch, arguments.connections, arguments.seconds)
                except (OSError, RuntimeError, subprocess.SubprocessError, StopIteration) as error:
                    tail = (scratch / "server.log").read_text(errors="replace")[-300:] if peer.packages else ""
                    results.failures[f"{peer.name} ({model.name})"] = f"{error} {tail}".strip().replace("\n", " ")
                print(f"measured {peer.name} on {model.name}", file=sys.stderr)
    print(table(results))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(asdict(results), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
