"""Everything on the public port that is not a prediction: metadata, health, statistics, the page, the documentation.

Called now and then by people and probes, so it is written for clarity with FastAPI; predictions never come here
unless they name a model that is not served.
"""

from __future__ import annotations

import time
from importlib.metadata import version as package_version
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mlserve_core.wire import HEADER_DRAINING
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.errors import NotFoundError, ServingError, UnavailableError
from mlserve_runtime.server.answers import (
    FeedbackReceipt,
    FeedbackReport,
    Health,
    ModelList,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    refusals,
)
from mlserve_runtime.server.metadata import (
    model_config,
    model_information,
    model_is_ready,
    model_metadata,
    model_of,
    server_metadata,
)
from mlserve_runtime.server.openapi import describe
from mlserve_runtime.server.page import render_page
from mlserve_runtime.server.statistics import live_statistics, triton_statistics

_NAMED: Final = refusals(404, 503)
"""What a call that names a model may be refused with."""


def build_app(plane: DataPlane, started: float) -> FastAPI:
    """The application; `started` is the wall clock at which the process began.

    Every handler is `async`: FastAPI runs others on threads, and what they read and count belongs to the event loop.
    """
    # A cluster need not reach the internet, nor a browser that sees it: the documentation's files are served from here.
    app = FastAPIOffline(
        title="mlserve",
        version=package_version("mlserve"),
        description="Predictions of one model revision: Open Inference Protocol V2, V1, and a simple JSON API.",
        redoc_url=None,
        static_url="/docs/assets",
        favicon_url="data:,",
    )
    app.router.redirect_slashes = False
    _add_error_handlers(app)
    _add_simple(app, plane, started)
    _add_v2_server(app, plane)
    _add_v2_model(app, plane)
    _add_v1(app, plane)
    describe(app, plane)
    return app


def _add_simple(app: FastAPI, plane: DataPlane, started: float) -> None:
    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        # Clients of V1 take the answer here for its liveness.
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "alive"})
        return HTMLResponse(render_page())

    @app.get(
        "/health",
        tags=["simple"],
        summary="Whether predictions are answered",
        responses={200: {"model": Health}, 503: {"model": Health, "description": "loading or draining"}},
    )
    async def health() -> JSONResponse:
        model = plane.model
        body = Health(
            status="ok" if plane.ready else plane.phase.value,
            ready=plane.ready,
            model=model.name if model else plane.settings.model_name,
            version=model.version if model else plane.settings.model_version,
            revision=plane.settings.revision,
            uptime_seconds=round(time.time() - started, 1),
        )
        return _readiness(plane, body)

    @app.get("/stats", tags=["simple"], summary="Requests, errors, latency and batches since the process began")
    async def stats() -> dict[str, Any]:
        return live_statistics(plane, started)

    @app.post(
        "/feedback",
        tags=["simple"],
        summary="Report what an earlier prediction should have been",
        responses=refusals(400, 404, 413, 415, 503),
    )
    async def feedback(report: FeedbackReport) -> FeedbackReceipt:
        model = model_of(plane)
        prediction, counted = plane.recorder.ledger.report(
            report.id, label=report.label, reward=report.reward, classes=model.classes, now=time.time()
        )
        return FeedbackReceipt(counted=counted, revision=prediction.revision)

    @app.get(
        "/model/info", tags=["simple"], summary="Signature, classes and digest of the model", responses=refusals(503)
    )
    async def info() -> dict[str, Any]:
        return model_information(plane)


def _add_v2_server(app: FastAPI, plane: DataPlane) -> None:
    @app.get("/v2/", include_in_schema=False)
    @app.get("/v2", tags=["v2"], summary="Server metadata")
    async def metadata_of_server() -> ServerMetadata:
        return ServerMetadata(**server_metadata())

    @app.get("/v2/health/live", tags=["v2"], summary="Server liveness")
    async def live() -> ServerLive:
        return ServerLive(live=True)

    @app.get("/v2/health/ready", tags=["v2"], summary="Server readiness", responses=_states(ServerReady))
    async def ready() -> JSONResponse:
        return _readiness(plane, ServerReady(ready=plane.ready))

    @app.get("/v2/models", tags=["v2"], summary="Names of the served models", responses=refusals(503))
    async def models() -> ModelList:
        return ModelList(models=[model_of(plane).name])


def _add_v2_model(app: FastAPI, plane: DataPlane) -> None:
    ready_states = _states(ModelReady) | refusals(404)

    @app.get(
        "/v2/models/{name}/versions/{version}/ready", tags=["v2"], summary="Model readiness", responses=ready_states
    )
    @app.get("/v2/models/{name}/ready", tags=["v2"], summary="Model readiness", responses=ready_states)
    async def model_ready(name: str, version: str = "") -> JSONResponse:
        return _readiness(plane, ModelReady(name=name, ready=model_is_ready(plane, name, version)))

    summary = "Model configuration (Triton)"

    @app.get("/v2/models/{name}/versions/{version}/config", tags=["v2"], summary=summary, responses=_NAMED)
    @app.get("/v2/models/{name}/config", tags=["v2"], summary=summary, responses=_NAMED)
    async def config(name: str, version: str = "") -> dict[str, Any]:
        return model_config(plane, model_of(plane, name, version))

    summary = "Model statistics (Triton)"

    @app.get("/v2/models/{name}/versions/{version}/stats", tags=["v2"], summary=summary, responses=_NAMED)
    @app.get("/v2/models/{name}/stats", tags=["v2"], summary=summary, responses=_NAMED)
    async def model_stats(name: str, version: str = "") -> dict[str, Any]:
        return triton_statistics(plane, model_of(plane, name, version))

    @app.get("/v2/models/{name}/versions/{version}", tags=["v2"], summary="Model metadata", responses=_NAMED)
    @app.get("/v2/models/{name}", tags=["v2"], summary="Model metadata", responses=_NAMED)
    async def metadata(name: str, version: str = "") -> ModelMetadata:
        return ModelMetadata(**model_metadata(model_of(plane, name, version)))

    @app.post("/v2/models/{name}/versions/{version}/infer", include_in_schema=False)
    @app.post("/v2/models/{name}/infer", include_in_schema=False)
    async def infer_elsewhere(name: str, version: str = "") -> Response:
        model = model_of(plane, name, version)
        raise NotFoundError(f"send predictions to /v2/models/{model.name}/infer")


def _add_v1(app: FastAPI, plane: DataPlane) -> None:
    @app.get("/v1/models", tags=["v1"], summary="Names of the served models", responses=refusals(503))
    async def models() -> ModelList:
        return ModelList(models=[model_of(plane).name])

    @app.get("/v1/models/{name}", tags=["v1"], summary="Model readiness", responses=_states(ModelReady) | refusals(404))
    async def status(name: str) -> JSONResponse:
        return _readiness(plane, ModelReady(name=name, ready=model_is_ready(plane, name, "")))

    @app.post("/v1/models/{name}:predict", include_in_schema=False)
    async def predict_elsewhere(name: str) -> Response:
        model = model_of(plane, name)
        raise NotFoundError(f"send predictions to /v1/models/{model.name}:predict")


def _states(body: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": body}, 503: {"model": body, "description": "loading or draining"}}


def _readiness(plane: DataPlane, body: BaseModel) -> JSONResponse:
    """Ready or 503; a router that meets the 503 may ask another replica."""
    headers = {} if plane.ready else {HEADER_DRAINING: "true"}
    return JSONResponse(body.model_dump(by_alias=True), 200 if plane.ready else 503, headers)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServingError)
    async def serving_error(_: Request, error: ServingError) -> JSONResponse:
        headers = {HEADER_DRAINING: "true"} if isinstance(error, UnavailableError) and error.elsewhere else {}
        return JSONResponse({"error": str(error)}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        text = f"there is no {request.method} {request.url.path}" if error.status_code == 404 else str(error.detail)
        return JSONResponse({"error": text}, error.status_code, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        return JSONResponse({"error": f"{where}: {problem['msg']}"}, 400)
