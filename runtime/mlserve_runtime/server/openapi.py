"""The OpenAPI document: FastAPI's, and the prediction routes, which are served outside of it but documented with it.

It is held against the running server by a test that makes requests of it (tests/integration/runtime/test_openapi.py),
so what is said here of statuses and bodies is what happens.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mlserve_core.wire import HEADER_PREDICTION_ID
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.server.answers import DESCRIPTIONS

Object = dict[str, Any]

_ERROR: Final = {"$ref": "#/components/schemas/ErrorBody"}
_TEXT: Final = {"type": "string"}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_PARAMETERS: Final = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SHAPE: Final = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_TENSOR: Final = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": _TEXT,
        "shape": _SHAPE,
        "datatype": _TEXT,
        "parameters": _PARAMETERS,
        "data": {"type": "array", "items": {}, "description": "row by row, flat or nested"},
    },
}
_IDENTITY: Final = {
    "type": "object",
    "required": ["model", "version", "revision"],
    "properties": {"model": _TEXT, "version": _TEXT, "revision": _TEXT},
}
_ROW: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "prediction id, for /feedback"},
        "prediction": {"description": "the label or the value"},
        "outputs": {"type": "object", "description": "of a model that has neither"},
    },
}
_PREDICTION: Final = {"allOf": [_ROW, _IDENTITY]}
_PREDICTIONS: Final = {
    "allOf": [
        {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": _ROW}},
        },
        _IDENTITY,
    ]
}
_INFERENCE: Final = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": {"type": "array", "items": _TENSOR},
    },
}
_V1: Final = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
_FEATURES: Final = {
    "oneOf": [
        {"type": "array", "items": {}, "description": "values of one row in the order of the signature"},
        {"type": "object", "description": "values by feature name"},
    ]
}
_SINGLE: Final = {
    "type": "object",
    "properties": {
        "features": _FEATURES,
        "image": {"type": "string", "description": "base64 of a picture, or a data URL"},
        "entity": {"type": "string", "description": "whose features are to be looked up"},
        "inputs": {"type": "object", "description": "values of each tensor by its name"},
    },
}
_UPLOAD: Final[Object] = {
    "multipart/form-data": {"schema": {"type": "object", "properties": {"image": _BINARY["schema"]}}},
    "image/png": _BINARY,
    "image/jpeg": _BINARY,
}


def describe(app: FastAPI, plane: DataPlane) -> None:
    """Make the application's OpenAPI document; its examples carry the served model's own name and signature."""

    def document() -> Object:
        base = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for item in base["paths"].values():
            for operation in item.values():
                # FastAPI announces 422; malformed requests are answered 400 here, in the protocol's own words.
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            base["components"]["schemas"].pop(unused, None)
        base["paths"].update(prediction_paths(plane))
        return base

    app.openapi = document  # type: ignore[method-assign]


def prediction_paths(plane: DataPlane) -> Object:
    """OpenAPI path items of every prediction route."""
    name = plane.model.name if plane.model else "model"
    many = {
        "type": "object",
        "properties": {
            "instances": {"type": "array", "items": _SINGLE},
            "features": {"type": "array", "items": _FEATURES},
            "images": {"type": "array", "items": _TEXT},
        },
    }
    instances = {"type": "object", "required": ["instances"], "properties": {"instances": {"type": "array"}}}
    return {
        "/predict": {"post": _operation("simple", "Predict one row or picture", _SINGLE, _PREDICTION, _UPLOAD)},
        "/predict/batch": {
            "post": _operation("simple", "Predict several rows or pictures", many, _PREDICTIONS, _UPLOAD)
        },
        f"/v2/models/{name}/infer": {"post": _inference(plane)},
        f"/v1/models/{name}:predict": {"post": _operation("v1", "Predict instances", instances, _V1)},
    }


def _inference(plane: DataPlane) -> Object:
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": _TEXT, "parameters": _PARAMETERS},
                },
            },
            "parameters": _PARAMETERS,
        },
        "example": {"inputs": _example(plane)},
    }
    operation = _operation("v2", "Inference (JSON, or JSON followed by raw tensors)", request, _INFERENCE)
    operation["parameters"] = [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "length of the JSON part where raw tensors follow it",
            "schema": {"type": "integer", "minimum": 0},
        }
    ]
    answer = operation["responses"]["200"]
    answer["content"]["application/octet-stream"] = _BINARY
    answer["headers"] = {
        "Inference-Header-Content-Length": {"schema": {"type": "integer"}},
        HEADER_PREDICTION_ID: {"schema": _TEXT},
    }
    return operation


def _example(plane: DataPlane) -> list[Object]:
    inputs = plane.model.artifact.spec.inputs if plane.model else ()
    return [
        {
            "name": tensor.name,
            "shape": [1, *(1 if size == -1 else size for size in tensor.row_shape)],
            "datatype": tensor.datatype,
            "data": [0.0] * (tensor.row_size or 1) if (tensor.row_size or 1) <= 64 else ["..."],
        }
        for tensor in inputs
    ]


def _operation(tag: str, summary: str, request: Object, answer: Object, more: Object | None = None) -> Object:
    refused = {"content": {"application/json": {"schema": _ERROR}}}
    retry = {"headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}}
    refusals = {
        str(status): {"description": text, **refused, **(retry if status in {429, 503} else {})}
        for status, text in DESCRIPTIONS.items()
        if status != 405
    }
    content = {"application/json": {"schema": request}, **(more or {})}
    answered = {"description": "the prediction", "content": {"application/json": {"schema": answer}}}
    return {
        "tags": [tag],
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answered, **refusals},
    }
