"""The prediction routes in the OpenAPI document: they are served outside of FastAPI, but documented with the rest."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mlserve_runtime.dataplane import DataPlane


def describe_predictions(app: FastAPI, plane: DataPlane) -> None:
    """Add the prediction paths; examples carry the served model's own name and signature."""

    def document() -> dict[str, Any]:
        base = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        base["paths"].update(prediction_paths(plane))
        return base

    app.openapi = document  # type: ignore[method-assign]


def prediction_paths(plane: DataPlane) -> dict[str, Any]:
    """OpenAPI path items of every prediction route."""
    model = plane.model
    name = model.name if model else "model"
    inputs = model.artifact.spec.inputs if model else ()
    example = [
        {
            "name": tensor.name,
            "shape": [1, *(1 if size == -1 else size for size in tensor.row_shape)],
            "datatype": tensor.datatype,
            "data": [0.0] * (tensor.row_size or 1) if (tensor.row_size or 1) <= 64 else ["..."],
        }
        for tensor in inputs
    ]
    features = {"type": "array", "items": {}, "description": "values of one row in the order of the signature"}
    single = {
        "type": "object",
        "properties": {
            "features": {"oneOf": [features, {"type": "object", "description": "values by feature name"}]},
            "image": {"type": "string", "description": "base64 of a picture, or a data URL"},
            "entity": {"type": "string", "description": "whose features are to be looked up"},
        },
    }
    upload = {"schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}}
    many = {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": {"type": "array", "items": single}},
    }
    tensors = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": {"type": "object"}},
            "outputs": {"type": "array"},
            "parameters": {"type": "object"},
        },
        "example": {"inputs": example},
    }
    return {
        "/predict": _path("simple", "Predict one row or picture", single, {"multipart/form-data": upload}),
        "/predict/batch": _path("simple", "Predict several rows or pictures", many, {"multipart/form-data": upload}),
        f"/v2/models/{name}/infer": _path("v2", "Inference (JSON, or JSON followed by raw tensors)", tensors),
        f"/v1/models/{name}:predict": _path("v1", "Predict instances", many),
    }


def _path(tag: str, summary: str, schema: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {
        "content": {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
    }
    texts = {
        "400": "the values contradict the signature",
        "413": "too many bytes or rows",
        "415": "a content type that is not read here",
        "429": "refused for load; see Retry-After",
        "500": "the model failed",
        "503": "loading or draining",
        "504": "expired",
    }
    return {
        "post": {
            "tags": [tag],
            "summary": summary,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}, **(more or {})}},
            "responses": {
                "200": {"description": "the prediction", "content": {"application/json": {}}},
                **{status: {"description": text, **error} for status, text in texts.items()},
            },
        }
    }
