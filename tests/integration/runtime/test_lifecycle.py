"""Start, failure to start, draining and the end, with real processes and signals."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from safetensors.torch import load_file, save_file

from mlserve_core.artifact import write_manifest
from mlserve_core.wire import HEADER_DRAINING, HEADER_REVISION

from .conftest import FEATURES, RuntimeServer, write_artifact

ROW = {"features": [0.5] * FEATURES}
Start = Callable[..., RuntimeServer]

SLOW_MODEL = '''
import threading

import torch


class Slow(torch.nn.Module):
    """Takes as long as it is told; fails on negative rows."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (x < 0).any():
            raise ValueError("negative values are out of range")
        threading.Event().wait(self.seconds)
        return x * self.weight
'''


@pytest.fixture
def slow(tmp_path: Path) -> Callable[[float], tuple[Path, dict[str, str]]]:
    """An artifact whose factory lies in a module of the test; the path to it goes by PYTHONPATH."""
    import torch

    package = tmp_path / "code"
    package.mkdir()
    (package / "slow_model.py").write_text(SLOW_MODEL)

    def build(seconds: float) -> tuple[Path, dict[str, str]]:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.ones(1))
        directory = write_artifact(
            tmp_path / "slow",
            module,
            {
                "name": "slow",
                "task": "regression",
                "format": "safetensors",
                "architecture": {"factory": "slow_model:Slow", "arguments": {"seconds": seconds}},
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 1]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
            },
        )
        return directory, {"PYTHONPATH": str(package)}

    return build


class Stream:
    """Threads that ask the server one thing after another until it sends them elsewhere, as a router would go."""

    def __init__(self, url: str, body: Any, threads: int) -> None:
        self.answers: list[httpx.Response] = []
        self.broken: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, body)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str, body: Any) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(url, json=body)
                    self.answers.append(answer)
                    if HEADER_DRAINING in answer.headers:
                        return
                except httpx.ConnectError:
                    return
                except httpx.HTTPError as error:
                    self.broken.append(repr(error))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def until(condition: Callable[[], Any], timeout: float = 15.0) -> Any:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        threading.Event().wait(0.01)
    raise AssertionError("the condition was not met in time")


def test_sigterm_under_load_loses_no_accepted_request(start: Start, slow: Any) -> None:
    directory, environment = slow(0.01)
    server = start(directory, **environment).wait_ready()
    stream = Stream(f"{server.url}/predict", {"features": [1.0]}, threads=8)
    until(lambda: len(stream.answers) > 100)
    status = server.stop()
    stream.stop()
    assert status == 0
    assert stream.broken == []
    assert {answer.status_code for answer in stream.answers} <= {200, 503}
    for answer in stream.answers:
        if answer.status_code == 503:
            assert answer.headers[HEADER_DRAINING] == "true"


def test_drain_is_unready_first_then_refuses_then_reports(start: Start, slow: Any) -> None:
    directory, environment = slow(0.3)
    server = start(directory, "--drain-delay", "1.0", **environment).wait_ready()
    with httpx.Client(base_url=server.url, timeout=30) as client:
        drain = subprocess.Popen(
            [sys.executable, "-m", "mlserve_runtime.main", "drain", "--socket", str(server.socket)]
        )
        until(lambda: httpx.get(f"{server.management}/readyz").status_code == 503)
        assert client.get("/v2/health/ready").status_code == 503
        leaving = client.post("/predict", json={"features": [1.0]})
        assert leaving.status_code == 200
        server.wait_log(lambda entry: entry["message"].startswith("draining"))
        refused = client.post("/predict", json={"features": [1.0]})
        assert refused.status_code == 503
        assert refused.headers[HEADER_DRAINING] == "true"
        assert "draining" in refused.json()["error"]
        assert drain.wait(20) == 0
    assert httpx.get(f"{server.management}/livez").status_code == 200
    assert server.telemetry()["draining"] is True
    assert server.stop() == 0


def test_a_second_signal_does_not_hurt(start: Start, tabular: Path) -> None:
    server = start(tabular).wait_ready()
    server.process.terminate()
    server.process.terminate()
    assert server.stop() == 0


def test_drain_without_a_server_is_done(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlserve_runtime.main", "drain", "--socket", str(tmp_path / "none.sock")]
    assert subprocess.run(command, check=False, timeout=30).returncode == 0


def test_ports_answer_while_the_model_loads(start: Start, slow: Any) -> None:
    directory, environment = slow(0.4)  # several warm-up passes of 0.4 s
    server = start(directory, **environment)
    server.wait_log(lambda entry: entry.get("listener") == "management")
    until(lambda: httpx.get(f"{server.management}/livez").status_code == 200)
    assert httpx.get(f"{server.management}/readyz").status_code == 503
    refused = httpx.post(f"{server.url}/predict", json={"features": [1.0]})
    assert refused.status_code == 503
    assert "loading" in refused.json()["error"]
    assert refused.headers[HEADER_DRAINING] == "true", "the router may ask another pod"
    assert httpx.post(f"{server.url}/v2/models/slow/infer", json={}).status_code == 503
    assert httpx.get(f"{server.url}/health").status_code == 503
    server.wait_ready()
    assert httpx.get(f"{server.management}/readyz").status_code == 200


def _break_yaml(directory: Path) -> None:
    (directory / "model.yaml").write_text("name: [")
    write_manifest(directory)


def _break_weights(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"not tensors at all")
    write_manifest(directory)


def _change_weights_after_packaging(directory: Path) -> None:
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _other_architecture(directory: Path) -> None:
    path = directory / "model.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["architecture"]["arguments"]["hidden"] = [8]
    path.write_text(yaml.safe_dump(spec))
    write_manifest(directory)


def _unknown_architecture(directory: Path) -> None:
    path = directory / "model.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["architecture"] = {"name": "transformer"}
    path.write_text(yaml.safe_dump(spec))
    write_manifest(directory)


def _pickled_module(directory: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 2), directory / "model.pt")
    path = directory / "model.yaml"
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**spec, "format": "state_dict", "weights": "model.pt"}))
    write_manifest(directory)


@pytest.mark.parametrize(
    ("spoil", "reason", "text"),
    [
        (_break_yaml, "ModelLoadFailed", "model.yaml is not valid YAML"),
        (_break_weights, "ModelLoadFailed", "is no safetensors file"),
        (_change_weights_after_packaging, "ChecksumMismatch", "model.safetensors has another sha256"),
        (_other_architecture, "ModelLoadFailed", "do not fit the architecture"),
        (_unknown_architecture, "ModelLoadFailed", "the registry has mlp"),
        (_pickled_module, "ModelLoadFailed", "pickled modules are refused"),
    ],
    ids=["bad-yaml", "bad-weights", "tampered", "other-shape", "unknown-architecture", "pickle"],
)
def test_a_model_that_does_not_load_says_why_and_ends(
    start: Start, tabular: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str, text: str
) -> None:
    import shutil

    directory = tmp_path / "spoiled"
    shutil.copytree(tabular, directory)
    spoil(directory)
    server = start(directory)
    assert server.process.wait(30) == 1
    message = server.termination_log.read_text()
    assert message.startswith(f"{reason}: ")
    assert text in message


def test_code_in_the_artifact_needs_a_pinned_digest(start: Start, tmp_path: Path) -> None:
    import torch

    directory = tmp_path / "script"
    directory.mkdir()
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.script(module).save(directory / "model.pt")
    spec = {
        "name": "script",
        "format": "torchscript",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        "postprocessing": {"activation": "softmax"},
    }
    write_artifact(directory, None, spec, weights="model.pt")
    digest = write_manifest(directory).digest
    refused = start(directory)
    assert refused.process.wait(30) == 1
    assert digest in refused.termination_log.read_text()
    pinned = start(directory, MLSERVE_MODEL_DIGEST=digest).wait_ready()
    answer = httpx.post(f"{pinned.url}/predict", json={"features": [1, 2, 3, 4]})
    assert answer.status_code == 200
    executables = httpx.get(f"{pinned.url}/model/info").json()["backend"]["executables"]
    assert set(executables) >= {"script", "frozen"}


def test_one_poisoned_request_among_many_fails_alone(start: Start, slow: Any) -> None:
    directory, environment = slow(0.02)
    server = start(directory, **environment).wait_ready()
    answers: dict[int, httpx.Response] = {}

    def ask(number: int) -> None:
        value = -1.0 if number == 13 else float(number)
        answers[number] = httpx.post(f"{server.url}/predict", json={"features": [value]}, timeout=30)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bad = answers.pop(13)
    assert bad.status_code == 500
    assert "negative values are out of range" in bad.json()["error"]
    for number, answer in answers.items():
        assert answer.status_code == 200
        assert answer.json()["value"] == number


def test_every_answer_names_its_revision(server: RuntimeServer) -> None:
    for method, path in [("GET", "/health"), ("GET", "/nowhere"), ("POST", "/predict"), ("GET", "/v2")]:
        assert httpx.request(method, server.url + path, content=b"{").headers[HEADER_REVISION] == "tabular-abc123"


def test_logs_are_json_without_payloads(server: RuntimeServer) -> None:
    httpx.post(f"{server.url}/predict", json={"features": [12345.678] * FEATURES})
    text = json.dumps(server.logs)
    assert "12345.678" not in text
    assert all("level" in entry and "time" in entry for entry in server.logs)


def test_a_replaced_artifact_is_served_in_place(start: Start, tabular: Path, tmp_path: Path) -> None:
    import shutil

    live = tmp_path / "live"
    shutil.copytree(tabular, live)
    server = start(live, "--watch").wait_ready()
    stream = Stream(f"{server.url}/predict", ROW, threads=4)

    def replace_version(version: str, *, spoil: bool = False) -> None:
        fresh = tmp_path / f"fresh-{version}"
        shutil.copytree(tabular, fresh)
        spec = yaml.safe_load((fresh / "model.yaml").read_text())
        (fresh / "model.yaml").write_text(yaml.safe_dump({**spec, "version": version}))
        if spoil:
            (fresh / "model.safetensors").write_bytes(b"spoilt")
        write_manifest(fresh)
        live.rename(tmp_path / f"old-{version}")
        fresh.rename(live)

    replace_version("4")
    until(lambda: stream.answers and stream.answers[-1].json().get("version") == "4")
    replace_version("5", spoil=True)
    server.wait_log(lambda entry: "the changed artifact is not served" in entry["message"])
    count = len(stream.answers)
    until(lambda: len(stream.answers) > count + 20)
    replace_version("6")
    until(lambda: stream.answers and stream.answers[-1].json().get("version") == "6")

    # Copied over it file by file, the weights last, and slowly: what was half there is tried again.
    fresh = tmp_path / "fresh-7"
    shutil.copytree(live, fresh)
    weights = load_file(fresh / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, fresh / "model.safetensors")
    spec = yaml.safe_load((fresh / "model.yaml").read_text())
    (fresh / "model.yaml").write_text(yaml.safe_dump({**spec, "version": "7"}))
    write_manifest(fresh)
    for name in ("manifest.json", "model.yaml"):
        shutil.copy(fresh / name, live / name)
    server.wait_log(lambda entry: "model.safetensors has another sha256" in entry["message"])
    shutil.copy(fresh / "model.safetensors", live / "model.safetensors")
    until(lambda: stream.answers and stream.answers[-1].json().get("version") == "7")
    stream.stop()
    assert stream.broken == []
    assert {answer.status_code for answer in stream.answers} == {200}
    assert httpx.get(f"{server.url}/v2/models/tabular").json()["versions"] == ["7"]


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("name", ["http", "management", "grpc"])
def test_a_port_that_is_taken_is_named_and_ends_the_process(
    start: Start, tabular: Path, name: str, processes: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start(tabular, f"--{name}-port", str(port), "--processes", processes)
        assert server.process.wait(30) == 1
    said = server.termination_log.read_text()
    assert said.startswith(f"cannot listen for {name} at 127.0.0.1:{port}: ")
    assert f"--{name}-port names another port" in said
    assert not any("exception" in entry or "Traceback" in entry["message"] for entry in server.logs)


def test_a_failure_is_logged_with_the_ids_of_its_request(start: Start, slow: Any) -> None:
    directory, environment = slow(0.0)
    server = start(directory, **environment).wait_ready()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"X-Request-Id": "req-77", "Traceparent": trace}
    assert httpx.post(f"{server.url}/predict", json={"features": [-1.0]}, headers=headers).status_code == 500
    entry = server.wait_log(lambda entry: entry["message"].startswith("a request failed"))
    assert (entry["requestId"], entry["traceId"]) == ("req-77", "0af7651916cd43dd8448eb211c80319c")
    assert "slow_model.py" in entry["exception"]
