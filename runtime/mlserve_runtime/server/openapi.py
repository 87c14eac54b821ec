"""The OpenAPI document: FastAPI's, and the prediction routes, which are served outside of it but documented with it.

It is held against the running server by a test that makes requests of it (tests/integration/runtime/test_openapi.py),
so what is said here of statuses and bodies is what happens.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mlserve_core.model_spec import ModelSpec
from mlserve_core.wire import HEADER_PREDICTION_ID
from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.model import ServedModel
from mlserve_runtime.server.answers import DESCRIPTIONS
from mlserve_runtime.server.row_schema import inputs_schema, row_schema

Object = dict[str, Any]

_ERROR: Final = {"$ref": "#/components/schemas/ErrorBody"}
_TEXT: Final = {"type": "string"}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_PARAMETERS: Final = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SHAPE: Final = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_PROPERTIES: Final = {
    "name": _TEXT,
    "shape": _SHAPE,
    "datatype": _TEXT,
    "parameters": _PARAMETERS,
    "data": {"type": "array", "items": {}, "description": "row by row, flat or nested"},
}
_TENSOR: Final = {"type": "object", "required": ["name", "shape", "datatype"], "properties": _PROPERTIES}
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
        if plane.model is not None:
            _name_the_model(base["paths"], plane.model)
            base["paths"].update(prediction_paths(plane, plane.model))
        return base

    app.openapi = document  # type: ignore[method-assign]


def prediction_paths(plane: DataPlane, model: ServedModel) -> Object:
    """OpenAPI path items of every prediction route; without a model there are none."""
    spec, limit = model.artifact.spec, plane.settings.max_simple_batch
    row = row_schema(spec)
    ways: Object = {"features": row, "inputs": inputs_schema(spec)}
    uploads: Object = {}
    if model.pipeline.accepts_images:
        ways["image"] = {"type": "string", "description": "base64 of a picture, or a data URL"}
        uploads = _UPLOAD
    if plane.lookup is not None:
        ways["entity"] = {
            "type": "string",
            "minLength": 1,
            "maxLength": 512,
            "description": "whose features to look up",
        }
    single = _one_of(ways)
    many = _one_of({"instances": _rows(single, limit), "features": _rows(row, limit)})
    if uploads:
        many = _one_of({**many["properties"], "images": _rows(ways["image"], limit)})
    instances = {"type": "array", "items": {"anyOf": [row, single]}, "minItems": 1}
    v1 = {"type": "object", "required": ["instances"], "properties": {"instances": instances}}
    return {
        "/predict": {"post": _operation("simple", "Predict one row or picture", single, _PREDICTION, uploads)},
        "/predict/batch": {
            "post": _operation("simple", "Predict several rows or pictures", many, _PREDICTIONS, uploads)
        },
        f"/v2/models/{model.name}/infer": {"post": _inference(spec)},
        f"/v1/models/{model.name}:predict": {"post": _operation("v1", "Predict instances", v1, _V1)},
    }


def _one_of(ways: Object) -> Object:
    """An object with exactly one of these properties."""
    return {"type": "object", "properties": ways, "oneOf": [{"required": [name]} for name in ways]}


def _rows(row: Object, limit: int) -> Object:
    return {"type": "array", "items": row, "minItems": 1, "maxItems": limit}


def _name_the_model(paths: Object, model: ServedModel) -> None:
    """Only one name and version exist: say which."""
    known = {"name": model.name, "version": model.version}
    for item in paths.values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["schema"]["enum"] = [known[parameter["name"]]]


def _inference(spec: ModelSpec) -> Object:
    tensors = [
        {
            **_TENSOR,
            "properties": {**_PROPERTIES, "name": {"const": tensor.name}, "datatype": {"const": tensor.datatype}},
        }
        for tensor in spec.inputs
    ]
    request = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "items": {"anyOf": tensors}, "minItems": len(tensors)},
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"enum": [tensor.name for tensor in spec.outputs]},
                        "parameters": _PARAMETERS,
                    },
                },
            },
            "parameters": _PARAMETERS,
        },
        "example": {"inputs": _example(spec)},
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


def _example(spec: ModelSpec) -> list[Object]:
    return [
        {
            "name": tensor.name,
            "shape": [1, *(1 if size == -1 else size for size in tensor.row_shape)],
            "datatype": tensor.datatype,
            "data": [0.0] * (tensor.row_size or 1) if (tensor.row_size or 1) <= 64 else ["..."],
        }
        for tensor in spec.inputs
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
