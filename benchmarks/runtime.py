"""Requests per second, latency and CPU of the runtime and of its peers: same machine, same model, same requests.

    python benchmarks/runtime.py                          everything, peers included: about 15 minutes
    python benchmarks/runtime.py --peers                  ours, the floor, plain FastAPI, a raw ASGI handler
    python benchmarks/runtime.py --models tabular --peers torchserve --connections 64 --seconds 3

Every server has one worker and one torch thread, pinned to core 0; wrk runs on core 1. Answers are checked against
the module before anything is measured. Peers live in environments of their own (`.tools/bench/<name>`), made when
asked for; one that cannot be installed or started is reported, not hidden. Machines differ and are shared: compare
rows of one run, not figures of two.

The model `tabular` is a small perceptron over 30 features, `cnn` two convolutions over 28x28 numbers, `image` a cheap
look at 3x224x224 numbers that compares JSON with the binary tensor extension. "RSS" is followed by what it is above a
process that has torch and the model and nothing else, "first answer" by the seconds left when the import of torch,
timed in that process, is taken off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent / "runtime_peers"))
from catalog import APPS, TOOLS, Model, Peer, build_models, free_port, peers_for
from models import MODULES

SITE_PACKAGES = next(Path(path) for path in sys.path if path.endswith("site-packages"))

PEERS = ["litserve", "bentoml", "mlserver", "kserve", "ray", "torchserve"]


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
class Bare:
    """A process with torch and the model alone."""

    import_s: float
    rss_mb: float


@dataclass
class Results:
    rows: list[Row] = field(default_factory=list)
    bare: dict[str, Bare] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


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


def environment_for(model: Model) -> dict[str, str]:
    """Environment variables of every server: one thread, the model, our apps before what else the path names."""
    path = os.pathsep.join([str(APPS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "BENCH_MODEL": model.name,
        "BENCH_WEIGHTS": str(model.weights), "PYTHONPATH": path, "BENTOML_DO_NOT_TRACK": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip


def bare_torch(model: Model) -> Bare:
    """The median of three such processes, by the time the import takes."""
    command = ["taskset", "-c", "0", sys.executable, str(APPS / "bare_torch.py")]
    runs = [
        json.loads(subprocess.run(command, env=environment_for(model), check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    return Bare(**sorted(runs, key=lambda run: run["import_s"])[1])


def version_of(peer: Peer, python: Path) -> str:
    """The installed version of a peer's first package."""
    package = peer.packages[0].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def measure(peer: Peer, model: Model, scratch: Path, connections: list[int], seconds: int) -> list[Row]:
    python = environment_of(peer)
    port = free_port()
    peer.prepare(model, scratch, port)
    log = (scratch / "server.log").open("wb")
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", "0", *peer.command(python, model, port)],
        env=environment_for(model), cwd=scratch, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        body, headers = peer.body(model), peer.headers(model)
        url = f"http://127.0.0.1:{port}{peer.path}"
        answer = first_answer(process, urllib.request.Request(url, body, headers))
        first = time.perf_counter() - began
        if peer.checked:
            check(answer, model.expected)
        script = write_script(scratch, body, headers)
        wrk(url, script, max(connections), 1)
        return [run_wrk(process.pid, peer, model, url, script, count, seconds, first) for count in connections]
    finally:
        stop(process)
        log.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
            return


def settle(pid: int) -> None:
    """Wait until the server has finished what is still in its sockets."""
    used, deadline = -1.0, time.monotonic() + 30
    while (now := cpu_seconds(pid)) - used > 0.02 and time.monotonic() < deadline:
        used = now
        time.sleep(0.2)


def write_script(scratch: Path, body: bytes, headers: dict[str, str]) -> Path:
    """What wrk sends."""
    (scratch / "body").write_bytes(body)
    lines = ['wrk.method = "POST"', f'wrk.body = io.open("{scratch / "body"}", "rb"):read("*a")']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    script = scratch / "request.lua"
    script.write_text("\n".join(lines) + "\n")
    return script


def first_answer(process: subprocess.Popen[bytes], request: urllib.request.Request) -> Any:
    """The answer to the first request that gets one."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return json.load(response)
        except (OSError, ValueError):
            time.sleep(0.005)
    raise RuntimeError("no answer within 180 s")


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
    settle(pid)
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
        rss_mb=round(sum(member.memory_info().rss for member in family(pid)) / 2**20, 1),
        first_prediction_s=round(first, 2),
        errors=errors,
    )


def family(pid: int) -> list[psutil.Process]:
    """The server and all processes it started."""
    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    times = [member.cpu_times() for member in family(pid)]
    return sum(entry.user + entry.system for entry in times)


def milliseconds(text: str) -> float:
    for unit, factor in (("us", 1e-3), ("ms", 1.0), ("s", 1e3)):
        if text.endswith(unit):
            return round(float(text.removesuffix(unit)) * factor, 3)
    raise ValueError(text)


def table(results: Results) -> str:
    lines = [
        "| model | server | clients | requests/s | p50 ms | p99 ms | CPU µs | RSS MB | first answer s | non-200 |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.model} | {r.server} | {r.connections} | {r.requests_per_second:,.0f} | {r.p50_ms} | {r.p99_ms} "
        f"| {r.cpu_micros} | {r.rss_mb:.0f} ({r.rss_mb - results.bare[r.model].rss_mb:+.0f}) "
        f"| {r.first_prediction_s} ({r.first_prediction_s - results.bare[r.model].import_s:.2f}) | {r.errors} |"
        for r in sorted(results.rows, key=lambda row: (row.model, row.connections, -row.requests_per_second))
    ]
    lines += [
        f"\nBare torch process, {name}: RSS {bare.rss_mb:.0f} MB, torch imported in {bare.import_s:.2f} s"
        for name, bare in results.bare.items()
    ]
    lines += ["\nVersions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items())]
    lines += [f"\nNot measured: {name}: {reason}" for name, reason in results.failures.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODULES), choices=list(MODULES))
    parser.add_argument("--peers", nargs="*", default=PEERS, help="the peers to measure (installed when needed)")
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
            results.bare[model.name] = bare_torch(model)
            for peer in peers_for(model):
                wanted = not peer.packages or peer.name in arguments.peers
                if not wanted or (arguments.only and not any(text in peer.name for text in arguments.only)):
                    continue
                try:
                    results.rows += measure(peer, model, scratch, arguments.connections, arguments.seconds)
                    if peer.packages:
                        results.versions[peer.name] = version_of(peer, environment_of(peer))
                except (OSError, RuntimeError, subprocess.SubprocessError, StopIteration) as error:
                    tail = (scratch / "server.log").read_text(errors="replace")[-300:]
                    results.failures[f"{peer.name} ({model.name})"] = f"{error} {tail}".strip().replace("\n", " ")
                print(f"measured {peer.name} on {model.name}", file=sys.stderr)
    print(table(results))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(asdict(results), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
