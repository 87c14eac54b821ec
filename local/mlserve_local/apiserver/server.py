"""Running the API server: inside a program (``async with ApiServer(...)``) or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
import yaml

from mlserve_local.apiserver import bootstrap
from mlserve_local.apiserver.app import ApiServerApp
from mlserve_local.apiserver.cluster import Cluster
from mlserve_local.apiserver.controllers import Janitor
from mlserve_local.apiserver.http import KubernetesProtocol
from mlserve_local.apiserver.websocket import KubernetesWebSocket

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ApiServerSettings:
    """How to run. ``port`` 0 takes a free one; without ``data_dir`` the state lives in memory."""

    port: int = 0
    data_dir: Path | None = None
    host: str = LOOPBACK
    service_cidr: str = "10.96.0.0/16"


class ApiServer:
    """A running API server. ``url`` is known once it is entered."""

    def __init__(self, settings: ApiServerSettings | None = None) -> None:
        self.settings = settings or ApiServerSettings()
        self.url = ""
        self.cluster: Cluster | None = None
        self._app: ApiServerApp | None = None
        self._uvicorn: uvicorn.Server | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        settings = self.settings
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        self.cluster = Cluster(settings.data_dir, settings.service_cidr)
        bootstrap.populate(self.cluster)
        janitor = Janitor(self.cluster)
        janitor.start()
        self._app = ApiServerApp(self.cluster)
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            http=KubernetesProtocol,
            ws=KubernetesWebSocket,
            server_header=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=3,
            backlog=2048,
            ws_max_size=64 * 1024 * 1024,
        )
        self._uvicorn = uvicorn.Server(config)
        self._tasks = [
            asyncio.create_task(self._uvicorn.serve([sock]), name="http"),
            asyncio.create_task(janitor.run(), name="janitor"),
        ]
        while not self._uvicorn.started:
            if self._tasks[0].done():
                self._tasks[0].result()
            await asyncio.sleep(0.005)
        self.url = f"http://{settings.host}:{sock.getsockname()[1]}"
        return self

    async def wait(self) -> None:
        """Until the server ends by itself or one of its tasks fails."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._app is not None:
            self._app.stopping.set()
        if self._uvicorn is not None:
            self._uvicorn.should_exit = True
        http, *others = self._tasks
        for task in others:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(http, *others, return_exceptions=True)
        if self.cluster is not None:
            self.cluster.close()

    def kubeconfig(self) -> str:
        """A kubeconfig of the administrator, as YAML."""
        return kubeconfig(self.url)


def kubeconfig(url: str, name: str = "mlserve-local", token: str = "") -> str:
    """A kubeconfig for a server, as YAML; with a token it is that ServiceAccount's."""
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "users": [{"name": name, "user": {"token": token} if token else {}}],
    }
    return str(yaml.safe_dump(made, sort_keys=False))
