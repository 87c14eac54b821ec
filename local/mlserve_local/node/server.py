"""The kubelet's own HTTP API, which the API server asks for logs, commands in containers, ports and statistics.

It speaks HTTPS (with a certificate made at start) if the API server does, as that expects of a kubelet, else HTTP.
It listens on loopback only.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from mlserve_local.node import exec as exec_
from mlserve_local.node import port_forward
from mlserve_local.node.certificate import self_signed
from mlserve_local.node.container import Container
from mlserve_local.node.logs import LogOptions, read
from mlserve_local.node.pod import PodWorker
from mlserve_local.node.settings import NodeSettings
from mlserve_local.node.stats import Stats
from mlserve_local.objects import moment_of, name_of, namespace_of


class NodeServer:
    """Serves one node; an async context manager. `port` is known once it is entered."""

    def __init__(self, settings: NodeSettings, workers: Mapping[str, PodWorker], stats: Stats) -> None:
        self._settings = settings
        self._workers = workers
        self._stats = stats
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        pod = "/{namespace}/{pod}"
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._pods),
                web.get("/stats/summary", self._summary),
                web.get(f"/containerLogs{pod}/{{container}}", self._logs),
                web.route("*", f"/exec{pod}/{{container}}", self._exec),
                web.route("*", f"/exec{pod}/{{uid}}/{{container}}", self._exec),
                web.route("*", f"/attach{pod}/{{container}}", self._attach),
                web.route("*", f"/portForward{pod}", self._port_forward),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        settings = self._settings
        site = web.TCPSite(self._runner, settings.host_ip, settings.port, ssl_context=self._tls(), shutdown_timeout=1)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _worker_of(self, namespace: str, name: str) -> PodWorker | None:
        for worker in self._workers.values():
            pod = worker.context.pod
            if name_of(pod) == name and namespace_of(pod) == namespace:
                return worker
        return None

    def _tls(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not settings.api_server.startswith("https"):
            return None
        return self_signed(settings.name, settings.host_ip, Path(settings.data_dir) / "pki")

    # --- plain answers ----------------------------------------------------------------------------------------------

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text="ok")

    async def _pods(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"kind": "PodList", "items": [w.context.pod for w in self._workers.values()]})

    async def _summary(self, request: web.Request) -> web.Response:
        del request
        return web.json_response(self._stats.summary(self._settings.name, self._workers))

    # --- containers -------------------------------------------------------------------------------------------------

    def _find(self, request: web.Request) -> tuple[PodWorker, Container]:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        worker = self._worker_of(namespace, name)
        if worker is None:
            raise web.HTTPNotFound(text=f"pod {namespace}/{name} is not on this node")
        wanted = request.match_info["container"]
        for container in worker.containers:
            if container.record.name == wanted:
                return worker, container
        raise web.HTTPNotFound(text=f"container {wanted} not found in pod {name}")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        _, container = self._find(request)
        options = log_options(request.query)
        run = container.record.restarts
        previous = request.query.get("previous") in ("true", "1")
        if previous:
            run -= 1
        path = container.log_path(run)
        live = container.live_log if container.live_log is not None and container.live_log.path == path else None
        if live is None and not path.exists():
            pod, name = request.match_info["pod"], container.record.name
            if previous:
                raise web.HTTPBadRequest(text=f'previous terminated container "{name}" in pod "{pod}" not found')
            if run == 0 or not container.log_path(run - 1).exists():
                reason = (container.record.state.get("waiting") or {}).get("reason", "ContainerCreating")
                raise web.HTTPBadRequest(text=f'container "{name}" in pod "{pod}" is waiting to start: {reason}')
            # Between two runs the log of the last one is what there is.
            path = container.log_path(run - 1)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        async for chunk in read(path, live, options):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        _, container = self._find(request)
        return await exec_.serve(request, container)

    async def _attach(self, request: web.Request) -> web.Response:
        del request
        raise web.HTTPNotImplemented(text="attach: this node does not connect terminals to running processes; use exec")

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker_of(request.match_info["namespace"], request.match_info["pod"])
        if worker is None:
            raise web.HTTPNotFound(text=f"pod {request.match_info['pod']} is not on this node")
        return await port_forward.serve(request, worker.context.pod_ip)


def log_options(query: Mapping[str, str]) -> LogOptions:
    """The query parameters of `pods/log`."""
    since = moment_of(query.get("sinceTime"))
    if "sinceSeconds" in query:
        since = time.time() - int(query["sinceSeconds"])
    return LogOptions(
        follow=query.get("follow") in ("true", "1"),
        timestamps=query.get("timestamps") in ("true", "1"),
        tail_lines=int(query["tailLines"]) if "tailLines" in query else None,
        since=since,
        limit_bytes=int(query["limitBytes"]) if "limitBytes" in query else None,
    )
