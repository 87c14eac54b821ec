"""Everything on the public port that is not a prediction: metadata, health, statistics, the page, the documentation.

Called now and then by people and probes, so it is written for clarity with FastAPI; predictions never come here
unless they name a model that is not served.
"""

from __future__ import annotations

import time
from importlib.metadata import version as package_version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from mlserve_core.wire import HEADER_DRAINING
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.errors import NotFoundError, ServingError, UnavailableError
from mlserve_runtime.server.metadata import (
    model_config,
    model_information,
    model_metadata,
    model_of,
    server_metadata,
)
from mlserve_runtime.server.openapi import describe_predictions
from mlserve_runtime.server.page import render_page
from mlserve_runtime.server.statistics import live_statistics, triton_statistics


class FeedbackReport(BaseModel):
    """What came out, for a prediction id of an earlier answer."""

    model_config = ConfigDict(extra="forbid")

    id: str
    label: str | int | None = None
    """The true class, by name or index."""
    reward: float | None = None
    """How good the prediction was, for models without classes."""


def build_app(plane: DataPlane, started: float) -> FastAPI:
    """The application; `started` is the wall clock at which the process began."""
    app = FastAPI(
        title="mlserve",
        version=package_version("mlserve"),
        description="Predictions of one model revision: Open Inference Protocol V2, V1, and a simple JSON API.",
        redoc_url=None,
    )
    app.router.redirect_slashes = False
    _add_error_handlers(app)
    _add_simple(app, plane, started)
    _add_v2(app, plane)
    _add_v1(app, plane)
    describe_predictions(app, plane)
    return app


def _add_simple(app: FastAPI, plane: DataPlane, started: float) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(render_page())

    @app.get("/health", tags=["simple"], summary="Whether predictions are answered")
    def health() -> JSONResponse:
        model = plane.model
        body = {
            "status": "ok" if plane.ready else plane.phase.value,
            "ready": plane.ready,
            "model": model.name if model else plane.settings.model_name,
            "version": model.version if model else plane.settings.model_version,
            "revision": plane.settings.revision,
            "uptimeSeconds": round(time.time() - started, 1),
        }
        return JSONResponse(body, 200 if plane.ready else 503, _leaving(plane))

    @app.get("/stats", tags=["simple"], summary="Requests, errors, latency and batches since the process began")
    def stats() -> dict[str, Any]:
        return live_statistics(plane, started)

    @app.post("/feedback", tags=["simple"], summary="Report what an earlier prediction should have been")
    def feedback(report: FeedbackReport) -> dict[str, Any]:
        model = model_of(plane)
        prediction, counted = plane.recorder.ledger.report(
            report.id, label=report.label, reward=report.reward, classes=model.classes, now=time.time()
        )
        return {"counted": counted, "revision": prediction.revision}

    @app.get("/model/info", tags=["simple"], summary="Signature, classes and digest of the model")
    def info() -> dict[str, Any]:
        return model_information(plane)


def _add_v2(app: FastAPI, plane: DataPlane) -> None:
    @app.get("/v2/", include_in_schema=False)
    @app.get("/v2", tags=["v2"], summary="Server metadata")
    def metadata_of_server() -> dict[str, Any]:
        return server_metadata()

    @app.get("/v2/health/live", tags=["v2"], summary="Server liveness")
    def live() -> Response:
        return Response()

    @app.get("/v2/health/ready", tags=["v2"], summary="Server readiness")
    def ready() -> Response:
        return Response(status_code=200 if plane.ready else 503, headers=_leaving(plane))

    @app.get("/v2/models/{name}/versions/{version}/ready", tags=["v2"], summary="Model readiness")
    @app.get("/v2/models/{name}/ready", tags=["v2"], summary="Model readiness")
    def model_ready(name: str, version: str = "") -> Response:
        model_of(plane, name, version)
        return Response(status_code=200 if plane.ready else 503, headers=_leaving(plane))

    @app.get("/v2/models/{name}/versions/{version}/config", tags=["v2"], summary="Model configuration (Triton)")
    @app.get("/v2/models/{name}/config", tags=["v2"], summary="Model configuration (Triton)")
    def config(name: str, version: str = "") -> dict[str, Any]:
        return model_config(plane, model_of(plane, name, version))

    @app.get("/v2/models/{name}/versions/{version}/stats", tags=["v2"], summary="Model statistics (Triton)")
    @app.get("/v2/models/{name}/stats", tags=["v2"], summary="Model statistics (Triton)")
    def model_stats(name: str, version: str = "") -> dict[str, Any]:
        return triton_statistics(plane, model_of(plane, name, version))

    @app.get("/v2/models/{name}/versions/{version}", tags=["v2"], summary="Model metadata")
    @app.get("/v2/models/{name}", tags=["v2"], summary="Model metadata")
    def metadata(name: str, version: str = "") -> dict[str, Any]:
        return model_metadata(model_of(plane, name, version))

    @app.post("/v2/models/{name}/versions/{version}/infer", include_in_schema=False)
    @app.post("/v2/models/{name}/infer", include_in_schema=False)
    def infer_elsewhere(name: str, version: str = "") -> Response:
        model = model_of(plane, name, version)
        raise NotFoundError(f"send predictions to /v2/models/{model.name}/infer")


def _add_v1(app: FastAPI, plane: DataPlane) -> None:
    @app.get("/v1/models", tags=["v1"], summary="Names of the served models")
    def models() -> dict[str, Any]:
        return {"models": [model_of(plane).name]}

    @app.get("/v1/models/{name}", tags=["v1"], summary="Model readiness")
    def status(name: str) -> dict[str, Any]:
        return {"name": model_of(plane, name).name, "ready": plane.ready}

    @app.post("/v1/models/{name}:predict", include_in_schema=False)
    def predict_elsewhere(name: str) -> Response:
        model = model_of(plane, name)
        raise NotFoundError(f"send predictions to /v1/models/{model.name}:predict")


def _leaving(plane: DataPlane) -> dict[str, str]:
    return {HEADER_DRAINING: "true"} if plane.draining else {}


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
