"""What the operator costs: seconds from the first apply to Ready, and what it does while nothing happens.

    .venv/bin/python benchmarks/operator_cost.py [--runs 5] [--models 50] [--seconds 60]

The first table is the whole path with a real model on a cold node: pods, model load, warm-up, router, front door. For
the second one a counting proxy stands between operator and API server, and the pods are stand-ins that answer probes
and telemetry only (50 pods with torch would leave no core to measure on); operator, API server, controllers, node and
Envoy are the real ones. CPU is read from the kernel: once as it is (telemetry of every pod is read once a minute for
drift), once with drift watching off, which leaves what is not the scrape.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web
from rich.console import Console
from rich.table import Table

from mlserve_local.node.prepare import FILE_ROOT
from mlserve_local.up import Cluster, UpOptions, down, up

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
STAND_IN = ROOT / "tests" / "chaos" / "model_server.py"
MODELS = "/apis/mlserve.io/v1alpha1/namespaces/default/modeldeployments"
PATIENCE_SECONDS = 300.0
Object = dict[str, Any]
console = Console()


@dataclasses.dataclass
class CountingProxy:
    """Passes every request on to the API server and counts it by verb."""

    target: str
    session: aiohttp.ClientSession
    counts: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    writes: list[str] = dataclasses.field(default_factory=list)
    """What was written, for whoever has to find out why."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request; a watch is streamed as it comes."""
        kind, body = (_verb(request), _resource(request.path)), await request.read()
        self.counts[kind] += 1
        if _is_write(kind):
            self.writes.append(f"{request.method} {request.path} {body.decode()}")
        headers = {key: value for key, value in request.headers.items() if key.lower() != "host"}
        async with self.session.request(
            request.method, self.target + request.raw_path, headers=headers, data=body
        ) as answer:
            skipped = {"transfer-encoding", "content-encoding", "content-length"}
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in skipped}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):  # the operator ended in the middle of a watch
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            return response


def _verb(request: web.Request) -> str:
    if request.method != "GET":
        return request.method.lower()
    if request.query.get("watch") in ("true", "1"):
        return "watch"
    return "list" if _parts(request.path)[-1:] == [_resource(request.path)] else "get"


def _parts(path: str) -> list[str]:
    """What follows the API version, without the namespace."""
    parts = path.strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
    return parts[2:] if parts[:1] == ["namespaces"] and len(parts) > 2 else parts


def _resource(path: str) -> str:
    return next(iter(_parts(path)), "discovery")


@contextlib.asynccontextmanager
async def counting_proxy(target: str) -> AsyncIterator[tuple[CountingProxy, str]]:
    """A proxy on a free port, and its address."""
    forever = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=forever, connector=aiohttp.TCPConnector(limit=0)) as session:
        proxy = CountingProxy(target, session)
        application = web.Application(client_max_size=64 * 1024**2)
        application.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, shutdown_timeout=1)
        await site.start()
        port = runner.addresses[0][1]
        try:
            yield proxy, f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


# --- first apply to Ready -------------------------------------------------------------------------------------------


def model(name: str, **spec: Any) -> Object:
    """A ModelDeployment of the digits model."""
    return {
        "apiVersion": "mlserve.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": {"uri": "file:///models/digits/artifacts/v1", "version": "1"},
            "runtime": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
            **spec,
        },
    }


async def _request(session: aiohttp.ClientSession, method: str, path: str, body: Object | None = None) -> Object:
    merge = {"content-type": "application/merge-patch+json"} if method == "PATCH" else {}
    async with session.request(method, path, json=body, headers=merge) as answer:
        found: Object = await answer.json()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {found.get('message')}")
        return found


def _ready(body: Object) -> bool:
    return any(
        item["type"] == "Ready" and item["status"] == "True" and item["observedGeneration"] == _generation(body)
        for item in body.get("status", {}).get("conditions", ())
    )


def _generation(body: Object) -> int:
    return int(body["metadata"]["generation"])


async def _until(session: aiohttp.ClientSession, count: int) -> None:
    """Wait until so many ModelDeployments exist and all of them are Ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        items = (await _request(session, "GET", MODELS))["items"]
        if len(items) == count and all(_ready(item) for item in items):
            return
        if time.monotonic() > deadline:
            ready = sum(_ready(item) for item in items)
            raise RuntimeError(f"{ready} of {count} were Ready after {PATIENCE_SECONDS:g} s")
        await asyncio.sleep(0.05)


async def _until_pods(session: aiohttp.ClientSession, count: int) -> None:
    while len((await _request(session, "GET", "/api/v1/namespaces/default/pods"))["items"]) > count:
        await asyncio.sleep(0.1)


async def time_to_ready(cluster: Cluster, runs: int) -> list[float]:
    """Seconds from apply to Ready, each time with nothing there but the operator."""
    seconds = []
    async with aiohttp.ClientSession(cluster.settings.api_url) as session:
        for _ in range(runs):
            began = time.perf_counter()
            await _request(session, "POST", MODELS, model("digits"))
            await _until(session, 1)
            seconds.append(time.perf_counter() - began)
            await _request(session, "DELETE", f"{MODELS}/digits")
            await _until_pods(session, 0)
    return seconds


# --- a settled operator ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Quiet:
    """What the operator did in a time in which nobody asked for anything."""

    seconds: float
    cpu_percent: float
    requests: Counter[tuple[str, str]]
    writes: tuple[str, ...]


async def watch_idle(operator: psutil.Process, proxy: CountingProxy, seconds: float) -> Quiet:
    """Count for a while."""
    before, began = operator.cpu_times(), time.perf_counter()
    proxy.counts.clear()
    proxy.writes.clear()
    await asyncio.sleep(seconds)
    after, passed = operator.cpu_times(), time.perf_counter() - began
    used = after.user + after.system - before.user - before.system
    return Quiet(passed, 100 * used / passed, Counter(proxy.counts), tuple(proxy.writes))


async def _until_quiet(proxy: CountingProxy) -> None:
    """Wait for ten seconds in a row without a write: then everything is settled."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    quiet_since, writes = time.monotonic(), -1
    while time.monotonic() - quiet_since < 10:
        now = sum(count for kind, count in proxy.counts.items() if _is_write(kind))
        if now != writes:
            quiet_since, writes = time.monotonic(), now
        if time.monotonic() > deadline:
            raise RuntimeError(f"the operator still writes after {PATIENCE_SECONDS:g} s: {proxy.counts}")
        await asyncio.sleep(0.2)


def _is_write(kind: tuple[str, str]) -> bool:
    verb, resource = kind
    return verb not in ("get", "list", "watch") and resource != "leases"


@contextlib.contextmanager
def operator_process(cluster: Cluster, server: str) -> Any:
    """The operator, talking to the API server through the proxy."""
    kubeconfig = json.loads(cluster.settings.kubeconfig.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = server
    path = cluster.data_dir / "proxied-kubeconfig"
    path.write_text(json.dumps(kubeconfig))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [
        *(BIN / "mlserve-operator", "--kubeconfig", path, "--data-dir", cluster.data_dir / "operator"),
        *("--management-host", "127.0.0.1", "--management-port", port, "--dns-resolver", cluster.settings.dns),
    ]
    with (cluster.data_dir / "operator.log").open("wb") as log:
        process = subprocess.Popen([str(item) for item in arguments], stdout=log, stderr=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(20)


async def settled(cluster: Cluster, models: int, seconds: float) -> tuple[float, Quiet, Quiet]:
    """Seconds until all are Ready, and the operator at rest with and without reading telemetry for drift."""
    async with (
        counting_proxy(cluster.settings.api_url) as (proxy, address),
        aiohttp.ClientSession(cluster.settings.api_url) as session,
    ):
        with operator_process(cluster, address) as operator:
            began = time.perf_counter()
            for i in range(models):
                await _request(session, "POST", MODELS, model(f"digits-{i}"))
            await _until(session, models)
            ready = time.perf_counter() - began
            await _until_quiet(proxy)
            with_scrape = await watch_idle(operator, proxy, seconds)
            for i in range(models):
                await _request(session, "PATCH", f"{MODELS}/digits-{i}", {"spec": {"drift": {"enabled": False}}})
            await _until(session, models)
            await _until_quiet(proxy)
            return ready, with_scrape, await watch_idle(operator, proxy, seconds)


# --- the report -----------------------------------------------------------------------------------------------------


def _row(table: Table, what: str, value: str, target: str, reached: bool | None) -> None:
    table.add_row(what, value, target, "" if reached is None else "yes" if reached else "[red]no[/red]")


def _quiet_rows(table: Table, name: str, quiet: Quiet) -> bool:
    writes = sum(count for kind, count in quiet.requests.items() if _is_write(kind))
    lists = sum(count for (verb, _), count in quiet.requests.items() if verb == "list")
    described = ", ".join(f"{n} {verb} {what}" for (verb, what), n in sorted(quiet.requests.items())) or "none"
    _row(table, f"{name}: writes, lists", f"{writes}, {lists}", "0, 0", writes == lists == 0)
    _row(table, f"{name}: requests", described, "", None)
    return writes == lists == 0


def main() -> int:
    """Measure both; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5, help="applies that are timed (default %(default)s)")
    parser.add_argument("--models", type=int, default=50, help="ModelDeployments at rest (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="time at rest (default %(default)s)")
    options = parser.parse_args()
    os.environ[FILE_ROOT] = str(ROOT)
    table = Table("what", "measured", "target", "reached", title="The operator's cost")
    reached = True
    with tempfile.TemporaryDirectory(prefix="mlserve-bench-") as directory:
        real = up(UpOptions(data_dir=Path(directory, "real")), report=console.print)
        try:
            seconds = asyncio.run(time_to_ready(real, options.runs))
        finally:
            down(real.data_dir)
        middle = statistics.median(seconds)
        reached &= middle <= 20
        shown = f"{middle:.1f} s (of {options.runs}: {min(seconds):.1f} to {max(seconds):.1f} s)"
        _row(table, "first apply to Ready, real model, median", shown, "20 s", middle <= 20)

        stand_in = f"mlserve-runtime={sys.executable} -I -S {STAND_IN} {directory}"
        many = UpOptions(
            data_dir=Path(directory, "many"), operator=False, crds=ROOT / "crds", images=(stand_in,), node_cpu=64
        )
        cluster = up(many, report=console.print)
        try:
            ready, scraped, silent = asyncio.run(settled(cluster, options.models, options.seconds))
        finally:
            down(cluster.data_dir)
        _row(table, f"{options.models} applied until all are Ready (stand-in pods)", f"{ready:.1f} s", "", None)
        reached &= _quiet_rows(table, f"at rest for {scraped.seconds:.0f} s", scraped)
        _row(table, "CPU with telemetry of every pod once a minute", f"{scraped.cpu_percent:.2f} % of a core", "", None)
        reached &= _quiet_rows(table, "at rest without the scrape", silent)
        cpu = silent.cpu_percent
        _row(table, "CPU beside the scrape", f"{cpu:.2f} % of a core", "1 %", cpu < 1)
        reached &= cpu < 1
    console.print(table)
    for write in (*scraped.writes, *silent.writes):
        console.print(f"written at rest: {write[:2000]}", markup=False, highlight=False)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
