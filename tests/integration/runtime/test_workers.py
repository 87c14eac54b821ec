"""Several serving processes of one pod: shared ports, one set of counters, a crash that only one of them feels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from prometheus_client.parser import text_string_to_metric_families

from mlserve_core.wire import HEADER_UNIT, TelemetrySnapshot

from .conftest import FEATURES, RuntimeServer
from .test_lifecycle import Stream, until

ROW = {"features": [0.5] * FEATURES}
Start = Callable[..., RuntimeServer]

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes need two CPUs")


@pytest.fixture
def pod(start: Start, tabular: Path) -> RuntimeServer:
    server = start(tabular, "--processes", "2")
    server.wait_log(lambda entry: entry["message"] == "ready" and "process" not in entry, timeout=60)
    return server


def snapshot(server: RuntimeServer) -> TelemetrySnapshot:
    return TelemetrySnapshot.model_validate(server.telemetry())


def metrics(server: RuntimeServer) -> dict[str, float]:
    text = httpx.get(f"{server.management}/metrics").raise_for_status().text
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name] = samples.get(sample.name, 0) + sample.value
    return samples


def process_ids(server: RuntimeServer) -> dict[int, int]:
    """By place; the youngest process of each."""
    started = [entry for entry in server.logs if "processId" in entry]
    return {int(entry["message"].split()[1]): entry["processId"] for entry in started}


class Clients:
    """Threads with a connection each, asking one thing after another; what went wrong, by thread."""

    def __init__(self, url: str, count: int) -> None:
        self.answered = [0] * count
        self.statuses: set[int] = set()
        self.broken: list[list[str]] = [[] for _ in range(count)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, number)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str, number: int) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._stop.is_set():
                try:
                    self.statuses.add(client.post(f"{url}/predict", json=ROW).status_code)
                    self.answered[number] += 1
                except httpx.HTTPError as error:
                    self.broken[number].append(repr(error))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_killed_process_takes_only_its_own_connections_along(pod: RuntimeServer) -> None:
    clients = Clients(pod.url, 16)
    until(lambda: min(clients.answered) > 20)
    before = snapshot(pod)
    victim = process_ids(pod)[0]
    os.kill(victim, signal.SIGKILL)
    answered = list(clients.answered)
    until(lambda: all(now > then + 50 for now, then in zip(clients.answered, answered, strict=True)))
    assert httpx.get(f"{pod.management}/readyz").status_code == 200, "the other process still answers"
    after = snapshot(pod)
    assert (after.boot_id, after.ready) == (before.boot_id, True)
    assert after.live.requests > before.live.requests, "what the dead process counted is still there"
    pod.wait_log(lambda entry: entry["message"].startswith("process 0 ended with status -9"))
    until(lambda: metrics(pod)["mlserve_processes"] == 2, timeout=60)
    clients.stop()
    assert clients.statuses == {200}, "a request is answered, or its connection breaks"
    # One request can be on its way on a connection at a time, so that is what a broken connection costs. The kernel
    # closes the files of a killed process one after another: whoever comes back at once may meet its listener.
    assert all(len(broken) <= 2 for broken in clients.broken), clients.broken
    assert any(not broken for broken in clients.broken), "connections of the other process were not touched"
    seen = metrics(pod)
    assert seen["mlserve_process_restarts_total"] == 1
    # Counters are read every second: the last moments of the dead process are lost, and nothing is counted twice.
    sent = sum(clients.answered) + sum(map(len, clients.broken))
    assert after.live.requests < snapshot(pod).live.requests <= sent
    assert before.live.requests < seen["mlserve_requests_total"] <= sent
    stream = Stream(f"{pod.url}/predict", ROW, threads=8)
    until(lambda: len(stream.answers) > 100)
    assert pod.stop() == 0
    stream.stop()
    assert stream.broken == [], "SIGTERM drains both"
    assert {answer.status_code for answer in stream.answers} <= {200, 503}


def test_counters_are_of_the_pod(pod: RuntimeServer) -> None:
    for _ in range(40):  # a connection each: the kernel shares them out
        assert httpx.post(f"{pod.url}/predict", json=ROW).status_code == 200
    for number in range(40):
        headers = {HEADER_UNIT: f"user-{number % 5}"}
        assert httpx.post(f"{pod.url}/predict", json=ROW, headers=headers).status_code == 200
    told = snapshot(pod)
    assert told.live.requests == 40 + 5, "a unit is judged once, whichever process it meets"
    assert sum(told.live.latency) == 45
    assert (told.revision, told.in_flight, told.ready) == ("local", 0, True)
    assert snapshot(pod).sequence > told.sequence
    client = triton_grpc.InferenceServerClient(pod.grpc)
    tensor = triton_grpc.InferInput("x", [1, FEATURES], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, FEATURES), dtype=np.float32))
    assert client.infer("tabular", [tensor]).as_numpy("probabilities").shape == (1, 2)
    client.close()
    assert snapshot(pod).live.requests == 46
    seen = metrics(pod)
    assert seen["mlserve_requests_total"] == 81
    assert seen["mlserve_ready"] == 1
    assert seen["mlserve_processes"] == 2
    assert seen["mlserve_model_info"] == 1
    drain = [sys.executable, "-m", "mlserve_runtime.main", "drain", "--socket", str(pod.socket)]
    assert subprocess.run(drain, check=False, timeout=30).returncode == 0
    assert httpx.get(f"{pod.management}/readyz").status_code == 503
    assert httpx.post(f"{pod.url}/predict", json=ROW).status_code == 503
    assert snapshot(pod).draining
    assert pod.stop() == 0


def test_a_model_that_does_not_load_ends_the_pod(start: Start, tabular: Path, tmp_path: Path) -> None:
    server = start(tabular, "--processes", "2", MLSERVE_MODEL_DIGEST="sha256:" + "0" * 64)
    assert server.process.wait(60) == 1
    assert server.termination_log.read_text().startswith("ChecksumMismatch: ")


def test_processes_end_with_their_parent(pod: RuntimeServer, start: Start, tabular: Path) -> None:
    second = start(tabular, "--processes", "2", "--http-port", str(pod.ports["http"]))
    assert second.process.wait(30) != 0, "ports are shared with nobody else"
    workers = process_ids(pod)
    pod.process.kill()
    pod.process.wait(10)
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers.values()))
