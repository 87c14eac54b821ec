"""`grpc.health.v1`: what kubelet's grpc probe, `grpc_health_probe` and client-side balancers ask a gRPC server.

They do not know the inference protocol's ServerReady. The answer is the same: serving while the process is ready. It
is withdrawn when the process is asked to leave, before anything is refused, so that who watches goes elsewhere in time.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mlserve_runtime.dataplane import DataPlane, Phase
from mlserve_runtime.protocols.grpc_v2.messages import SERVICE

_NAMES = (health.OVERALL_HEALTH, SERVICE)
"""The server as a whole, and the one service it has; any other name is answered NOT_FOUND."""


class Health:
    """The health service of one gRPC server; follows the phases of the data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._servicer = health.aio.HealthServicer()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plane = plane

    async def serve(self, server: Any) -> None:
        """Add the service to a server that was not started yet."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self._publish()
        self._plane.on_phase = self._changed

    def _changed(self, _: Phase) -> None:
        task = asyncio.ensure_future(self._publish())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self) -> None:
        status = health_pb2.HealthCheckResponse
        for name in _NAMES:
            await self._servicer.set(name, status.SERVING if self._plane.ready else status.NOT_SERVING)
