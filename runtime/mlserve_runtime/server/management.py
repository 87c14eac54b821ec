"""The management port: read-only, for the kubelet, the operator and Prometheus; never routed to users."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mlserve_core.wire import PATH_LIVEZ, PATH_METRICS, PATH_PROFILE, PATH_READYZ, PATH_TELEMETRY
from mlserve_runtime.dataplane import DataPlane, Phase


def build_management(plane: DataPlane) -> Starlette:
    """The application of the management port."""
    registry: list[Any] = []

    async def metrics(_: Request) -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST

        from mlserve_runtime.telemetry.metrics import build_registry, exposition

        if not registry:
            registry.append(build_registry(plane))
        return Response(exposition(registry[0]), media_type=CONTENT_TYPE_LATEST)

    async def telemetry(_: Request) -> Response:
        snapshot = plane.recorder.snapshot(
            plane.model,
            ready=plane.ready,
            draining=plane.draining,
            in_flight=plane.in_flight,
            queue_rows=plane.batcher.queue.rows if plane.batcher else 0,
        )
        return Response(snapshot.model_dump_json(by_alias=True), media_type="application/json")

    async def profile(_: Request) -> Response:
        path = plane.model.artifact.profile_path if plane.model is not None else None
        if path is None:
            return PlainTextResponse("the artifact has no reference profile\n", 404)
        return Response(path.read_bytes(), media_type="application/json")

    async def livez(_: Request) -> Response:
        if plane.phase is Phase.FAILED:
            return PlainTextResponse("the model cannot be served\n", 500)
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ok\n" if plane.ready else f"{plane.phase.value}\n", 200 if plane.ready else 503)

    return Starlette(
        routes=[
            Route(PATH_METRICS, metrics),
            Route(PATH_TELEMETRY, telemetry),
            Route(PATH_PROFILE, profile),
            Route(PATH_LIVEZ, livez),
            Route(PATH_READYZ, readyz),
        ]
    )
