"""The management port: read-only, for the kubelet, the operator and Prometheus; never routed to users.

The same paths are answered by a process that serves alone and by the parent of several, so what they say comes from a
`Source`: one process, or the pod.
"""

from __future__ import annotations

from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mlserve_core.wire import PATH_LIVEZ, PATH_METRICS, PATH_PROFILE, PATH_READYZ, PATH_TELEMETRY, TelemetrySnapshot
from mlserve_runtime.dataplane import DataPlane, Phase


class Source(Protocol):
    """What the management port tells about."""

    @property
    def phase(self) -> Phase:
        """Where it is in its life; READY is what makes it ready."""

    async def metrics(self) -> bytes:
        """All metrics in Prometheus' text format."""

    async def telemetry(self) -> TelemetrySnapshot:
        """The counters since it began."""

    async def profile(self) -> bytes | None:
        """The reference profile of the served artifact; None if it has none."""


class PlaneSource:
    """One serving process."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._registry: Any = None

    @property
    def phase(self) -> Phase:
        """See Source."""
        return self._plane.phase

    async def metrics(self) -> bytes:
        """See Source; the client library is imported when somebody scrapes."""
        from mlserve_runtime.telemetry.metrics import build_registry, exposition

        self._registry = self._registry or build_registry(self._plane)
        return exposition(self._registry)

    async def telemetry(self) -> TelemetrySnapshot:
        """See Source."""
        plane = self._plane
        return plane.recorder.snapshot(
            plane.model,
            ready=plane.ready,
            draining=plane.draining,
            in_flight=plane.in_flight,
            queue_rows=plane.batcher.queue.rows if plane.batcher else 0,
        )

    async def profile(self) -> bytes | None:
        """See Source."""
        path = self._plane.model.artifact.profile_path if self._plane.model is not None else None
        return path.read_bytes() if path is not None else None


def build_management(source: Source) -> Starlette:
    """The application of the management port."""

    async def metrics(_: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST

        return Response(await source.metrics(), media_type=CONTENT_TYPE_LATEST)

    async def telemetry(_: Request) -> Response:
        snapshot = await source.telemetry()
        return Response(snapshot.model_dump_json(by_alias=True), media_type="application/json")

    async def profile(_: Request) -> Response:
        document = await source.profile()
        if document is None:
            return PlainTextResponse("the artifact has no reference profile\n", 404)
        return Response(document, media_type="application/json")

    async def livez(_: Request) -> Response:
        if source.phase is Phase.FAILED:
            return PlainTextResponse("the model cannot be served\n", 500)
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        if source.phase is Phase.READY:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"{source.phase.value}\n", 503)

    return Starlette(
        routes=[
            Route(PATH_METRICS, metrics),
            Route(PATH_TELEMETRY, telemetry),
            Route(PATH_PROFILE, profile),
            Route(PATH_LIVEZ, livez),
            Route(PATH_READYZ, readyz),
        ]
    )
