"""The embedded API server under the load it is made for: 1,000 ModelDeployments with their children and 50 watches.

    .venv/bin/python benchmarks/apiserver.py [--objects 1000] [--watches 50]

Prints one table. CPU is the server's own, read from the kernel; the client runs in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import httpx

from mlserve_local.apiserver.__main__ import READY

GROUP = "bench.mlserve.io"
MODELS = f"/apis/{GROUP}/v1/namespaces/bench/models"
CHILDREN = "/apis/apps/v1/namespaces/bench/deployments"
TICKS = os.sysconf("SC_CLK_TCK")
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"models.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "models", "kind": "Model"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "uri": {"type": "string", "maxLength": 200},
                                    "replicas": {"type": "integer", "minimum": 0, "default": 1},
                                    "steps": {
                                        "type": "array",
                                        "maxItems": 10,
                                        "items": {
                                            "type": "object",
                                            "properties": {
                                                "weight": {"type": "integer"},
                                                "holdSeconds": {"type": "integer", "default": 60},
                                            },
                                        },
                                    },
                                },
                                "x-kubernetes-validations": [
                                    {"rule": "!has(self.steps) || self.steps.all(s, s.weight >= 0 && s.weight <= 100)"},
                                    {"rule": "self.uri.startsWith('s3://')"},
                                ],
                            },
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def model(index: int) -> dict[str, Any]:
    steps = [{"weight": w} for w in (5, 25, 50)]
    metadata = {"name": f"m-{index:04}", "labels": {"app": f"m-{index:04}", "team": f"t{index % 10}"}}
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Model",
        "metadata": metadata,
        "spec": {"uri": f"s3://models/{index}", "steps": steps},
    }


def child(index: int, uid: str) -> dict[str, Any]:
    labels = {"app": f"m-{index:04}"}
    owner = {"apiVersion": f"{GROUP}/v1", "kind": "Model", "name": f"m-{index:04}", "uid": uid, "controller": True}
    container = {
        "name": "runtime",
        "image": "runtime:1",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": "A", "value": "1"}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    metadata = {"name": f"m-{index:04}", "labels": labels, "ownerReferences": [owner]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


class Measured:
    """Wall time and server CPU of a block."""

    def __init__(self, pid: int) -> None:
        self.pid, self.wall, self.cpu = pid, 0.0, 0.0

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def __enter__(self) -> Self:
        self.wall, self.cpu = time.perf_counter(), self._cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, self._cpu() - self.cpu


def resident(pid: int) -> float:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def many(count: int, call: Callable[[int], Awaitable[Any]], width: int = 8) -> list[Any]:
    """Run `call(0..count-1)`, `width` at a time."""
    results: list[Any] = [None] * count
    pending = iter(range(count))

    async def worker() -> None:
        for index in pending:
            results[index] = await call(index)

    await asyncio.gather(*(worker() for _ in range(width)))
    return results


class Watchers:
    """Open watches that note when each named object was last seen."""

    def __init__(self, base: str, count: int) -> None:
        self.base, self.count = base, count
        self.seen: list[dict[str, float]] = [{} for _ in range(count)]
        self.ready: list[asyncio.Event] = [asyncio.Event() for _ in range(count)]
        self.tasks: list[asyncio.Task[None]] = []

    async def _one(self, index: int) -> None:
        limits = httpx.Limits(max_connections=1)
        parameters = {
            "watch": "1",
            "sendInitialEvents": "true",
            "resourceVersionMatch": "NotOlderThan",
            "allowWatchBookmarks": "true",
        }
        client = httpx.AsyncClient(base_url=self.base, timeout=None, trust_env=False, limits=limits)
        async with client, client.stream("GET", MODELS, params=parameters) as answer:
            async for line in answer.aiter_lines():
                now = time.perf_counter()
                if '"BOOKMARK"' in line[:30]:
                    self.ready[index].set()
                    continue
                start = line.index('"name":"') + 8
                self.seen[index][line[start : line.index('"', start)]] = now

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(self._one(i)) for i in range(self.count)]
        await asyncio.gather(*(e.wait() for e in self.ready))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def latency(
    client: httpx.AsyncClient, watchers: Watchers, samples: int, offset: int = 2
) -> tuple[list[float], list[float]]:
    """Milliseconds from sending an apply to the event at the first and at the last watcher."""
    first, last = [], []
    headers = {"Content-Type": "application/apply-patch+yaml"}
    for index in range(samples):
        name = f"m-{index:04}"
        for seen in watchers.seen:
            seen.pop(name, None)
        body = model(index)
        body["spec"]["replicas"] = index + offset
        sent = time.perf_counter()
        answer = await client.patch(
            f"{MODELS}/{name}",
            params={"fieldManager": "bench", "force": "true"},
            content=json.dumps(body),
            headers=headers,
        )
        answer.raise_for_status()
        while not all(name in seen for seen in watchers.seen):
            await asyncio.sleep(0.0005)
        times = [(seen[name] - sent) * 1000 for seen in watchers.seen]
        first.append(min(times))
        last.append(max(times))
    return first, last


async def run(base: str, pid: int, objects: int, watches: int) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    async with httpx.AsyncClient(base_url=base, timeout=60, trust_env=False) as client:
        await client.post("/api/v1/namespaces", json={"metadata": {"name": "bench"}})
        (await client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=CRD)).raise_for_status()

        async def create(index: int) -> str:
            return str((await client.post(MODELS, json=model(index))).json()["metadata"]["uid"])

        with Measured(pid) as made:
            uids = await many(objects, create)
        rows.append(
            (
                "create a custom resource (schema, defaults, 2 CEL rules)",
                f"{objects / made.wall:,.0f}/s",
                f"{made.cpu / objects * 1000:.2f} ms CPU each",
            )
        )
        with Measured(pid) as made:
            answers = await many(objects, lambda i: client.post(CHILDREN, json=child(i, uids[i])))
        assert all(a.status_code == 201 for a in answers)
        rows.append(
            (
                "create a Deployment owned by it",
                f"{objects / made.wall:,.0f}/s",
                f"{made.cpu / objects * 1000:.2f} ms CPU each",
            )
        )
        for label, path in (("list the custom resources", MODELS), ("list the Deployments", CHILDREN)):
            walls = []
            with Measured(pid) as made:
                for _ in range(10):
                    started = time.perf_counter()
                    answer = await client.get(path)
                    walls.append((time.perf_counter() - started) * 1000)
            size = len(answer.content) / 1024
            rows.append(
                (
                    f"{label} ({objects})",
                    f"{statistics.median(walls):.1f} ms",
                    f"{made.cpu * 100:.1f} ms CPU each, {size:,.0f} KiB",
                )
            )
        async with Watchers(base, watches) as watchers:
            first, last = await latency(client, watchers, 50)
            rows.append(
                (
                    f"apply -> event, first of {watches} watches",
                    f"{statistics.median(first):.1f} ms",
                    f"worst {max(first):.1f} ms",
                )
            )
            rows.append(
                (
                    f"apply -> event, last of {watches} watches",
                    f"{statistics.median(last):.1f} ms",
                    f"worst {max(last):.1f} ms",
                )
            )
            merge = {"Content-Type": "application/merge-patch+json"}

            async def status(index: int) -> None:
                body = {"status": {"phase": "Ready", "observedGeneration": index}}
                (await client.patch(f"{MODELS}/m-{index:04}/status", json=body, headers=merge)).raise_for_status()

            with Measured(pid) as made:
                await many(objects, status)
            rows.append(
                (
                    f"patch a status, {watches} watches open",
                    f"{objects / made.wall:,.0f}/s",
                    f"{made.cpu / objects * 1000:.2f} ms CPU each",
                )
            )
        async with Watchers(base, 1) as watchers:
            first, _ = await latency(client, watchers, 50, offset=100)
            rows.append(
                (
                    "apply -> event, a single watch",
                    f"{statistics.median(first):.1f} ms",
                    f"worst {max(first):.1f} ms",
                )
            )
        with Measured(pid) as made:
            await client.delete(MODELS)
            while (await client.get(CHILDREN, params={"limit": "1"})).json()["items"]:
                await asyncio.sleep(0.02)
        rows.append(
            (f"delete all, children collected ({objects} + {objects})", f"{made.wall:.2f} s", f"{made.cpu:.2f} s CPU")
        )
        rows.append(
            (
                "resident memory at the end",
                f"{resident(pid):.0f} MiB",
                "history bounded at 4,096 events or 16 MiB per resource",
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--watches", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "mlserve_local.apiserver", "--data-dir", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith(READY), line
            try:
                rows = asyncio.run(run(line.split()[-1], server.pid, options.objects, options.watches))
            finally:
                server.terminate()
    width = max(len(r[0]) for r in rows)
    print(f"{'what':<{width}}  {'measured':>12}  also")
    for what, figure, also in rows:
        print(f"{what:<{width}}  {figure:>12}  {also}")


if __name__ == "__main__":
    main()
