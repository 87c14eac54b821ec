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
from starlette.exceptions import HTTPException

from mlserve_core.wire import HEADER_DRAINING
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.errors import NotFoundError, ServingError, UnavailableError
from mlserve_runtime.model import ServedModel
from mlserve_runtime.server.openapi import describe_predictions
from mlserve_runtime.server.page import render_page
from mlserve_runtime.server.statistics import live_statistics, triton_statistics

EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "parameters"]


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


def model_of(plane: DataPlane, name: str = "", version: str = "") -> ServedModel:
    """The served model. Raises NotFoundError for another name or version, UnavailableError while loading."""
    model = plane.model
    if model is None:
        raise UnavailableError("the model is still loading; try again in a moment")
    if name and name != model.name:
        raise NotFoundError(f"model {name!r} is not served here; this is {model.name!r}")
    if version and version != model.version:
        raise NotFoundError(f"model {name!r} has no version {version!r}; version {model.version!r} is served")
    return model


def model_information(plane: DataPlane) -> dict[str, Any]:
    """What `/model/info` answers."""
    model = model_of(plane)
    spec = model.artifact.spec
    return {
        "name": model.name,
        "version": model.version,
        "revision": model.revision,
        "digest": model.artifact.digest,
        "description": spec.description,
        "task": spec.task,
        "format": spec.format,
        "inputs": [_tensor(tensor) | {"features": tensor.feature_names} for tensor in spec.inputs],
        "outputs": [_tensor(tensor) for tensor in spec.outputs],
        "classes": spec.classes,
        "acceptsImages": model.pipeline.accepts_images,
        "maxBatch": plane.settings.max_simple_batch,
        "loadSeconds": round(model.loaded_seconds, 3),
        "backend": model.backend.describe(),
    }


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

    @app.get("/model/info", tags=["simple"], summary="Signature, classes and digest of the model")
    def info() -> dict[str, Any]:
        return model_information(plane)


def _add_v2(app: FastAPI, plane: DataPlane) -> None:
    @app.get("/v2/", include_in_schema=False)
    @app.get("/v2", tags=["v2"], summary="Server metadata")
    def server_metadata() -> dict[str, Any]:
        return {"name": "mlserve", "version": app.version, "extensions": EXTENSIONS}

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


def model_metadata(model: ServedModel) -> dict[str, Any]:
    """V2 model metadata."""
    spec = model.artifact.spec
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": f"{model.backend.describe()['platform']}_{spec.format}",
        "inputs": [_tensor(tensor) for tensor in spec.inputs],
        "outputs": [_tensor(tensor) for tensor in spec.outputs],
        "parameters": {"revision": model.revision, "digest": model.artifact.digest},
    }


def model_config(plane: DataPlane, model: ServedModel) -> dict[str, Any]:
    """Triton's configuration, as far as it means something here; perf_analyzer reads max_batch_size and dims."""
    spec = model.artifact.spec

    def tensor(entry: Any) -> dict[str, Any]:
        datatype = "TYPE_STRING" if entry.datatype == "BYTES" else f"TYPE_{entry.datatype}"
        return {"name": entry.name, "data_type": datatype, "dims": list(entry.row_shape)}

    return {
        "name": model.name,
        "platform": f"{model.backend.describe()['platform']}_{spec.format}",
        "backend": "mlserve",
        "version_policy": {"specific": {"versions": [model.version]}},
        "max_batch_size": plane.settings.max_rows,
        "input": [tensor(entry) for entry in spec.inputs],
        "output": [tensor(entry) for entry in spec.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": plane.settings.max_delay_micros},
        "parameters": {"executables": {"string_value": str(model.backend.describe())}},
    }


def _tensor(entry: Any) -> dict[str, Any]:
    return {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape)}


def _leaving(plane: DataPlane) -> dict[str, str]:
    return {HEADER_DRAINING: "true"} if plane.draining else {}


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServingError)
    async def serving_error(_: Request, error: ServingError) -> JSONResponse:
        headers = {HEADER_DRAINING: "true"} if isinstance(error, UnavailableError) and error.draining else {}
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
