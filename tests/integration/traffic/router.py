"""The router alone: a real Envoy under the operator's own configuration, before pods that a test makes misbehave.

The files lie as a kubelet lays them, and change as it changes them: a symbolic link to a directory is swapped. Only
addresses are replaced, because everything lives on one machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import grpc
from aiohttp import web

from mlserve_core import wire
from mlserve_local.network.dns import DnsServer
from mlserve_local.network.names import UNKNOWN, Answer
from mlserve_operator.traffic import clusters, envoy
from mlserve_operator.traffic.entry import Entry

ENVOY = Path(sys.executable).parent / "envoy"
NAMESPACE, DOMAIN = "team", "cluster.local"
_addresses = (
    f"127.{64 + os.getpid() % 60}.{block}.{host}" for block, host in itertools.product(range(256), range(1, 250))
)
"""Loopback addresses that no other process of the test run uses."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GrpcHandler = Callable[[bytes, Any], Awaitable[bytes]]
_CLUSTERS = (clusters.http_cluster, clusters.grpc_cluster, clusters.feedback_cluster)
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"


async def content(request: web.Request) -> web.StreamResponse:
    """Say 200 once the whole body is there."""
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.json_response({"size": size})


@dataclass
class Pod:
    """A pod of a revision: ready, and answering as its handlers say.

    Attributes:
        revision: whose pod it is.
        handler: answers every request to the HTTP port.
        calls: answers every ModelInfer at the gRPC port, in bytes; None: nobody listens there.
    """

    revision: str
    handler: Handler = content
    calls: GrpcHandler | None = None
    address: str = field(default_factory=lambda: next(_addresses))
    seen: list[web.Request] = field(default_factory=list)
    _runners: list[web.AppRunner] = field(default_factory=list)
    _grpc: Any = None

    async def start(self) -> Self:
        await self._listen(wire.HTTP_PORT, self._answer)
        await self._listen(wire.MANAGEMENT_PORT, self._ready)
        if self.calls is not None:
            self._grpc = grpc.aio.server()
            method = {"ModelInfer": grpc.unary_unary_rpc_method_handler(self.calls)}
            handlers = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", method)
            self._grpc.add_generic_rpc_handlers((handlers,))
            self._grpc.add_insecure_port(f"{self.address}:{wire.GRPC_PORT}")
            await self._grpc.start()
        return self

    async def stop(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop(None)
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(self, port: int, handler: Handler) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, self.address, port).start()
        self._runners.append(runner)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return await self.handler(request)

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")


@dataclass
class Router:
    """An Envoy process, the pods behind it and a client before it."""

    directory: Path
    client: aiohttp.ClientSession
    dns: str
    pods: list[Pod]
    address: str = field(default_factory=lambda: next(_addresses))
    process: subprocess.Popen[bytes] | None = None
    _generation: int = 0

    @property
    def log(self) -> Path:
        return self.directory / "envoy.log"

    def url(self, entry: Entry) -> str:
        """The front door of a ModelDeployment."""
        return f"http://{self.address}:{entry.port}"

    async def run(self, *entries: Entry) -> None:
        """Make Envoy run exactly these, as the operator would, and wait until it says so and knows every pod."""
        files = envoy.files(entries, cluster_domain=DOMAIN, dns_resolver=self.dns)
        self._lay(files)
        if self.process is None:
            self._start()
        version = envoy.version_of(files)
        known = {revision for entry in entries for revision in entry.route.weights}
        pods = Counter(pod.revision for pod in self.pods if pod.revision in known)
        wanted = {f"cluster.{name(pod)}": count for pod, count in pods.items() for name in _CLUSTERS}
        async with asyncio.timeout(20):
            while (await self._ask(wire.PATH_CONFIG_HASH)).get("hash") != version:
                await asyncio.sleep(0.05)
            while wanted.items() - (await self.counters("membership_healthy")).items():
                await asyncio.sleep(0.05)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def _lay(self, files: dict[str, str]) -> None:
        self._generation += 1
        content_directory = self.directory / f"..{self._generation}"
        content_directory.mkdir()
        for name, text in files.items():
            (content_directory / name).write_text(text.replace("0.0.0.0", self.address))
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        fresh = self.directory / "..data_tmp"
        fresh.symlink_to(content_directory.name)
        fresh.rename(self.directory / "..data")

    def _start(self) -> None:
        bootstrap = json.dumps(envoy.bootstrap()).replace("0.0.0.0", self.address).replace("127.0.0.1", self.address)
        switches = ["--service-node", "test", "--service-cluster", "test", "--concurrency", "2", "--log-level", "info"]
        command = [str(ENVOY), "--config-yaml", bootstrap, "--disable-hot-restart", "--drain-time-s", "1", *switches]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, stdout=log, stderr=log)

    async def counters(self, ending: str) -> dict[str, int]:
        """Envoy's own statistics whose name ends like that, by what comes before."""
        found = await self._ask(f"/stats?format=json&filter={ending}$")
        named = [item for item in found.get("stats", []) if "name" in item]
        return {item["name"].removesuffix(f".{ending}"): item["value"] for item in named}

    async def _ask(self, path: str) -> Any:
        try:
            async with self.client.get(f"http://{self.address}:{wire.MANAGEMENT_PORT}{path}") as answer:
                return json.loads(await answer.read())
        except (aiohttp.ClientError, ValueError):
            return {}


@asynccontextmanager
async def router(directory: Path, *pods: Pod) -> AsyncIterator[Router]:
    """A router, not yet started, with its pods; everything ends with the block."""

    def resolve(name: str) -> Answer:
        service = name.partition(".")[0]
        found = tuple(pod.address for pod in pods if pod.revision == service)
        return Answer(known=True, addresses=found) if found else UNKNOWN

    connector = aiohttp.TCPConnector(limit=0)
    async with (
        DnsServer(resolve, "127.0.0.1", 0, upstream=[]) as dns,
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=20)) as client,
    ):
        made = Router(directory, client, f"127.0.0.1:{dns.port}", list(pods))
        try:
            for pod in pods:
                await pod.start()
            yield made
        finally:
            made.end()
            for pod in pods:
                await pod.stop()
