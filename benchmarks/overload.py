"""Twice the load a model can carry, for minutes: what is still answered in time, how fast the rest is refused, memory.

    python benchmarks/overload.py                       five minutes at twice the measured capacity
    python benchmarks/overload.py --seconds 30 --factor 3

Capacity is measured first: a closed loop of 64 connections. Then requests are sent on an open-loop clock, whatever
becomes of the earlier ones, as the users of a public service do; a refused request is not asked again. The server is
pinned to core 0, the load to core 1. Every request has the same deadline, the server's --timeout-millis.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import torch
import uvloop
import yaml
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent / "runtime_peers"))
from catalog import free_port

from mlserve_core.artifact import write_manifest
from mlserve_runtime.backends.architectures import mlp

FEATURES = 30
CONNECTIONS = 64


@dataclass
class Answers:
    """What came back: seconds from the planned time of sending to the last byte, by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    lost: int = 0

    def add(self, status: int, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)

    def quantile(self, status: int, share: float) -> float:
        """Milliseconds; NaN without such answers."""
        values = self.seconds.get(status)
        return float(np.quantile(values, share) * 1000) if values else float("nan")


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request in flight. Answers are read by their Content-Length."""

    def __init__(self, answers: Answers, idle: Callable[[Connection], None]) -> None:
        self.answers, self.idle = answers, idle
        self.transport: asyncio.WriteTransport | None = None
        self.received = b""
        self.planned = -1.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def send(self, request: bytes, planned: float) -> None:
        assert self.transport is not None
        self.planned = planned
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.received = b""
        self.answers.add(int(head[9:12]), time.monotonic() - self.planned)
        self.planned = -1.0
        self.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.planned >= 0:
            self.answers.lost += 1
        self.transport = None


async def closed_loop(port: int, request: bytes, seconds: float) -> Answers:
    """As many requests as the server answers on CONNECTIONS connections."""
    answers, until = Answers(), time.monotonic() + seconds
    done = asyncio.Event()
    running = CONNECTIONS

    def again(connection: Connection) -> None:
        nonlocal running
        if time.monotonic() < until:
            connection.send(request, time.monotonic())
            return
        running -= 1
        if not running:
            done.set()

    connections = [await connect(port, answers, again) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.send(request, time.monotonic())
    await done.wait()
    close(connections)
    return answers


async def open_loop(port: int, request: bytes, rate: float, seconds: float) -> Answers:
    """`rate` requests per second on a clock of their own; a connection is opened whenever none is idle."""
    answers = Answers()
    free: list[Connection] = []
    opened: list[Connection] = []
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        planned = began + number / rate
        wait = planned - time.monotonic()
        if wait > 0.0005:
            await asyncio.sleep(wait)
        elif number % 32 == 0:
            await asyncio.sleep(0)
        connection = free.pop() if free else None
        if connection is None or connection.transport is None:
            connection = await connect(port, answers, free.append)
            opened.append(connection)
        connection.send(request, planned)
    deadline = time.monotonic() + 30
    while any(connection.planned >= 0 and connection.transport for connection in opened):
        if time.monotonic() > deadline:
            raise RuntimeError("requests are still unanswered after 30 s")
        await asyncio.sleep(0.05)
    close(opened)
    return answers


async def connect(port: int, answers: Answers, idle: Callable[[Connection], None]) -> Connection:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(lambda: Connection(answers, idle), "127.0.0.1", port))[1]


def close(connections: list[Connection]) -> None:
    for connection in connections:
        if connection.transport:
            connection.transport.close()


async def watch_memory(pid: int, samples: list[float]) -> None:
    process = psutil.Process(pid)
    while True:
        samples.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(1)


def artifact(directory: Path, hidden: list[int]) -> Path:
    """A tabular model whose forward pass takes most of a request's time, as that of most models does."""
    directory.mkdir()
    module = mlp(inputs=FEATURES, outputs=2, hidden=hidden)
    save_file(module.state_dict(), directory / "model.safetensors")
    spec = {
        "name": "overload",
        "format": "safetensors",
        "weights": "model.safetensors",
        "architecture": {"name": "mlp", "arguments": {"inputs": FEATURES, "outputs": 2, "hidden": hidden}},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
        "postprocessing": {"activation": "softmax"},
    }
    (directory / "model.yaml").write_text(yaml.safe_dump(spec))
    write_manifest(directory)
    return directory


def start(directory: Path, timeout_millis: int) -> tuple[subprocess.Popen[bytes], int]:
    """The server on core 0, answering."""
    port = free_port()
    flags = ["--host", "127.0.0.1", "--http-port", str(port), "--management-port", "0", "--grpc-port", "-1"]
    flags += ["--threads", "1", "--timeout-millis", str(timeout_millis), "--drain-socket", f"{directory}.sock"]
    command = ["taskset", "-c", "0", sys.executable, "-m", "mlserve_runtime.main", "serve"]
    process = subprocess.Popen(
        [*command, "--model-dir", str(directory), *flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                return process, port
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not become ready (status {process.poll()})")


async def run(process: subprocess.Popen[bytes], port: int, arguments: argparse.Namespace) -> str:
    body = b'{"features":[%s]}' % b",".join(b"%.4f" % value for value in np.random.default_rng(1).random(FEATURES))
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    await closed_loop(port, request, 3)
    peak = len((await closed_loop(port, request, 10)).seconds[200]) / 10
    memory: list[float] = []
    watcher = asyncio.create_task(watch_memory(process.pid, memory))
    answers = await open_loop(port, request, peak * arguments.factor, arguments.seconds)
    watcher.cancel()
    return report(peak, answers, memory, arguments)


def report(peak: float, answers: Answers, memory: list[float], arguments: argparse.Namespace) -> str:
    good = answers.seconds.get(200, [])
    late = sum(seconds > arguments.timeout_millis / 1000 for seconds in good)
    counts = {status: len(values) for status, values in sorted(answers.seconds.items())}
    # The first tenth of the time fills caches and connections; growth is what comes after it.
    settled = memory[len(memory) // 10 :]
    quarter = max(len(settled) // 4, 1)
    growth = float(np.median(settled[-quarter:]) - np.median(settled[:quarter]))
    seconds = arguments.seconds
    rows = {
        "capacity (closed loop)": f"{peak:,.0f} requests/s",
        "offered": f"{peak * arguments.factor:,.0f} requests/s for {seconds} s",
        "answers by status": f"{counts}, connections lost with a request: {answers.lost}",
        "goodput": f"{len(good) / seconds:,.0f}/s, {len(good) / seconds / peak:.1%} of capacity",
        "accepted, ms": f"p50 {answers.quantile(200, 0.5):.1f}, p99 {answers.quantile(200, 0.99):.1f}",
        f"later than {arguments.timeout_millis} ms": f"{late} ({late / max(len(good), 1):.3%} of the accepted)",
        "refused (429), ms": f"p50 {answers.quantile(429, 0.5):.1f}, p99 {answers.quantile(429, 0.99):.1f}",
        "RSS, MB": f"{min(settled):.0f} to {max(settled):.0f}, last quarter against first {growth:+.1f}",
    }
    return "\n".join(f"{name:24}{value}" for name, value in rows.items())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--factor", type=float, default=2.0, help="offered load as a multiple of the capacity")
    parser.add_argument("--timeout-millis", type=int, default=500)
    parser.add_argument("--hidden", nargs="+", type=int, default=[4096, 4096, 2048], help="layers of the model")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {1})
    torch.manual_seed(5)
    with tempfile.TemporaryDirectory() as scratch:
        process, port = start(artifact(Path(scratch) / "model", arguments.hidden), arguments.timeout_millis)
        try:
            print(uvloop.run(run(process, port, arguments)))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
