"""Real server processes over small artifacts, on free ports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mlserve_core.artifact import write_manifest
from mlserve_runtime.backends.architectures import ARCHITECTURES

FEATURES = 30


class RuntimeServer:
    """A `mlserve-runtime serve` process; its log tells the ports it got."""

    def __init__(self, model_dir: Path, scratch: Path, *flags: str, **environment: str) -> None:
        self.scratch = scratch
        self.socket = scratch / "drain.sock"
        self.termination_log = scratch / "termination-log"
        self.ports: dict[str, int] = {}
        self.logs: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlserve_runtime.main", "serve", "--model-dir", str(model_dir)),
                *("--host", "127.0.0.1", "--http-port", "0", "--management-port", "0", "--grpc-port", "0"),
                *("--drain-socket", str(self.socket), "--termination-log", str(self.termination_log)),
                *("--threads", "1", *flags),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(scratch), **environment},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"message": line}
            with self._heard:
                self.logs.append(entry)
                if "listener" in entry:
                    self.ports[entry["listener"]] = entry["port"]
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()

    def wait_log(self, matches: Callable[[dict[str, Any]], bool], timeout: float = 30) -> dict[str, Any]:
        """The first log entry that matches, as soon as it is written."""
        deadline = time.monotonic() + timeout
        with self._heard:
            while True:
                for entry in self.logs:
                    if matches(entry):
                        return entry
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise AssertionError(f"no such log line; the log was {self.logs}")
                self._heard.wait(min(left, 1))

    def wait_ready(self) -> RuntimeServer:
        self.wait_log(lambda entry: entry["message"] == "ready")
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def management(self) -> str:
        return f"http://127.0.0.1:{self.ports['management']}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports['grpc']}"

    def telemetry(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.management}/telemetry").raise_for_status().json()
        return answer

    def stop(self, timeout: float = 20) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Give the pipe back once the process is gone."""
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()


def write_artifact(
    directory: Path, module: torch.nn.Module | None, spec: dict[str, Any], weights: str = "model.safetensors"
) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    if module is not None:
        save_file(module.state_dict(), directory / weights)
    (directory / "model.yaml").write_text(yaml.safe_dump({"weights": weights, **spec}))
    write_manifest(directory)
    return directory


def tabular_module() -> torch.nn.Module:
    torch.manual_seed(7)
    module: torch.nn.Module = ARCHITECTURES["mlp"](inputs=FEATURES, outputs=2, hidden=[64, 32])
    return module.eval()


@pytest.fixture(scope="session")
def tabular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(
        tmp_path_factory.mktemp("tabular"),
        tabular_module(),
        {
            "name": "tabular",
            "version": "3",
            "format": "safetensors",
            "architecture": {"name": "mlp", "arguments": {"inputs": FEATURES, "outputs": 2, "hidden": [64, 32]}},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
            "classes": ["no", "yes"],
            "postprocessing": {"activation": "softmax"},
        },
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    return write_artifact(
        tmp_path_factory.mktemp("pictures"),
        ARCHITECTURES["small_cnn"](classes=10, height=28, width=28),
        {
            "name": "pictures",
            "format": "safetensors",
            "architecture": {"name": "small_cnn", "arguments": {"classes": 10, "height": 28, "width": 28}},
            "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 1, 28, 28]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
            "image": {"mode": "L", "width": 28, "height": 28},
            "preprocessing": [{"op": "scale", "factor": 1 / 255}],
            "postprocessing": {"activation": "softmax"},
        },
    )


@pytest.fixture(scope="session")
def server(tabular: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """One server for all tests that only ask it things."""
    running = RuntimeServer(tabular, tmp_path_factory.mktemp("server"), "--revision", "tabular-abc123")
    try:
        yield running.wait_ready()
        assert running.process.poll() is None, "the server died during the tests"
    finally:
        running.stop()


@pytest.fixture(scope="session")
def picture_server(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    running = RuntimeServer(pictures, tmp_path_factory.mktemp("picture-server"))
    try:
        yield running.wait_ready()
        assert running.process.poll() is None, "the server died during the tests"
    finally:
        running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RuntimeServer]]:
    """Start servers of one's own; they are stopped at the end."""
    running: list[RuntimeServer] = []

    def begin(model_dir: Path, *flags: str, **environment: str) -> RuntimeServer:
        scratch = tmp_path / f"server{len(running)}"
        scratch.mkdir()
        running.append(RuntimeServer(model_dir, scratch, *flags, **environment))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)
        one.close()
