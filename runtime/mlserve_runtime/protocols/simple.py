"""The API for curl and small clients: one row, or a few, as JSON or as pictures.

POST /predict         {"features": [...]}, {"image": "<base64 or data URL>"}, {"entity": "u42"}, multipart, image/*
POST /predict/batch   {"instances": [{...}, ...]} of the same objects, or {"features": [[...], ...]}, {"images": [...]}
POST /v1/models/M:predict   {"instances": [...]}: the first version of the inference protocol
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, Final

import orjson

from mlserve_runtime.batching.queue import Job
from mlserve_runtime.calls import Call, Prepared, Reply
from mlserve_runtime.errors import InvalidInputError, ServingError, TooLargeError, UnsupportedMediaError
from mlserve_runtime.model import ServedModel, collect_outputs, collect_predictions
from mlserve_runtime.processing import Tensors
from mlserve_runtime.processing.pipeline import check_alone

_JSON_TYPES: Final = (b"", b"application/json", b"text/plain", b"application/x-www-form-urlencoded", b"text/json")
"""curl -d sends the fourth unless told otherwise; what is meant is the body."""

Lookup = Callable[[str], Awaitable[Any]]


class PredictRoute:
    """`POST /predict`: one row."""

    name = "predict"

    def __init__(self, decoders: Executor, lookup: Lookup | None = None) -> None:
        self._decoders = decoders
        self._lookup = lookup

    def decode(self, call: Call, model: ServedModel) -> Prepared | Awaitable[Prepared]:
        """Pictures are decoded on another thread, features of an entity are fetched first."""
        media = media_type(call)
        if media not in _JSON_TYPES:
            return self._off_loop(lambda: decode_media(call, model, media, limit=1))
        payload = parse_json(call.body)
        if type(payload) is dict:
            if "entity" in payload:
                check_alone(payload)
                return self._with_features(payload["entity"], model)
            if "image" in payload:
                return self._off_loop(lambda: model.pipeline.from_json(payload))
        return Prepared(model.pipeline.from_json(payload), encode_one)

    async def _off_loop(self, decode: Callable[[], Tensors]) -> Prepared:
        inputs = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
        return Prepared(inputs, encode_one)

    async def _with_features(self, entity: Any, model: ServedModel) -> Prepared:
        if self._lookup is None:
            raise InvalidInputError("this model has no feature lookup; send features instead of entity")
        if type(entity) is not str or not 1 <= len(entity) <= 512:
            raise InvalidInputError("entity must be a string of 1 to 512 characters")
        return Prepared(model.pipeline.from_features(await self._lookup(entity)), encode_one)


class BatchRoute:
    """`POST /predict/batch`: up to `limit` rows."""

    name = "predict_batch"

    def __init__(self, decoders: Executor, limit: int) -> None:
        self._decoders = decoders
        self._limit = limit

    def decode(self, call: Call, model: ServedModel) -> Prepared | Awaitable[Prepared]:
        """Off the event loop if there are pictures."""
        media = media_type(call)
        if media not in _JSON_TYPES:
            return self._off_loop(lambda: decode_media(call, model, media, limit=self._limit))
        payloads = self._payloads(parse_json(call.body))
        if any(type(payload) is dict and "image" in payload for payload in payloads):
            return self._off_loop(lambda: model.pipeline.from_json_batch(payloads))
        return Prepared(model.pipeline.from_json_batch(payloads), encode_many, max_ids=self._limit)

    async def _off_loop(self, decode: Callable[[], Tensors]) -> Prepared:
        inputs = await asyncio.get_running_loop().run_in_executor(self._decoders, decode)
        return Prepared(inputs, encode_many, max_ids=self._limit)

    def _payloads(self, document: Any) -> list[Any]:
        rows = document
        if type(document) is dict:
            check_alone(document, ("instances", "features", "images", "inputs"))
            if "features" in document:
                rows = _wrapped(document["features"], "features")
            elif "images" in document:
                rows = _wrapped(document["images"], "image")
            else:
                rows = document.get("instances", document.get("inputs"))
        if type(rows) is not list:
            raise InvalidInputError('expected {"instances": [...]}, {"features": [[...], ...]} or {"images": [...]}')
        check_rows(len(rows), self._limit)
        return [{"features": row} if type(row) is list else row for row in rows]


class V1Route:
    """`POST /v1/models/M:predict`: instances in, the rows of the outputs out."""

    name = "v1"

    def __init__(self, decoders: Executor, limit: int) -> None:
        self._decoders = decoders
        self._limit = limit

    def decode(self, call: Call, model: ServedModel) -> Prepared | Awaitable[Prepared]:
        """Instances are lists of values, objects of features, or `{"b64": "<image>"}`."""
        document = parse_json(call.body)
        instances = document.get("instances") if type(document) is dict else None
        if type(instances) is not list:
            raise InvalidInputError('expected {"instances": [...]}')
        check_rows(len(instances), self._limit)
        payloads = [_v1_payload(instance) for instance in instances]
        if any("image" in payload for payload in payloads):
            return self._off_loop(payloads, model)
        return Prepared(model.pipeline.from_json_batch(payloads), encode_v1)

    async def _off_loop(self, payloads: list[Any], model: ServedModel) -> Prepared:
        loop = asyncio.get_running_loop()
        inputs = await loop.run_in_executor(self._decoders, model.pipeline.from_json_batch, payloads)
        return Prepared(inputs, encode_v1)


def encode_one(model: ServedModel, job: Job) -> Reply:
    """One prediction as an object."""
    (row,) = prediction_rows(job)
    return Reply(200, _dumps({**row, **_identity(model)}))


def encode_many(model: ServedModel, job: Job) -> Reply:
    """`{"predictions": [...]}` in the order of the rows."""
    return Reply(200, _dumps({"predictions": prediction_rows(job), **_identity(model)}))


def encode_v1(model: ServedModel, job: Job) -> Reply:
    """The rows of the only output, or objects of all outputs."""
    outputs = {name: array.tolist() for name, array in collect_outputs(job.answers or ()).items()}
    if len(outputs) == 1:
        return Reply(200, _dumps({"predictions": next(iter(outputs.values()))}))
    rows = [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]
    return Reply(200, _dumps({"predictions": rows}))


def prediction_rows(job: Job) -> list[dict[str, Any]]:
    """Predictions with `prediction` (the label or the value) first; plain outputs for a model that has neither."""
    rows = collect_predictions(job.answers or ())
    if rows:
        rows = [{"prediction": row.get("label", row.get("value")), **row} for row in rows]
    else:
        outputs = {name: array.tolist() for name, array in collect_outputs(job.answers or ()).items()}
        rows = [{"outputs": dict(zip(outputs, values, strict=True))} for values in zip(*outputs.values(), strict=True)]
    if job.ids:
        rows = [{"id": identifier, **row} for identifier, row in zip(job.ids, rows, strict=True)]
    return rows


def parse_json(body: bytes) -> Any:
    """JSON of a body. Raises InvalidInputError with the place."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"the body is not valid JSON: {error}") from error


def media_type(call: Call) -> bytes:
    """Content type without parameters, lower case."""
    return call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def check_rows(rows: int, limit: int) -> None:
    """Raises TooLargeError above `limit`."""
    if rows > limit:
        raise TooLargeError(f"the batch has {rows} rows, at most {limit} are taken at once")


def decode_media(call: Call, model: ServedModel, media: bytes, *, limit: int) -> Tensors:
    """Rows from an uploaded picture or form. Raises ServingError."""
    if media.startswith(b"image/") or media == b"application/octet-stream":
        return model.pipeline.from_image(call.body)
    if media != b"multipart/form-data":
        raise UnsupportedMediaError(
            f"content type {media.decode('latin-1')!r} is not read here; send application/json, image/* "
            "or multipart/form-data with a file `image`"
        )
    files = read_form(call, limit)
    return model.pipeline.join([model.pipeline.from_image(data) for data in files])


def read_form(call: Call, limit: int) -> list[bytes]:
    """The files of a multipart body. Raises InvalidInputError for a malformed one, TooLargeError for too many."""
    from python_multipart import parse_form
    from python_multipart.exceptions import FormParserError

    files: list[bytes] = []

    def on_file(file: Any) -> None:
        check_rows(len(files) + 1, limit)
        file.file_object.seek(0)
        files.append(file.file_object.read())
        file.close()

    headers = {"Content-Type": call.headers[b"content-type"], "Content-Length": b"%d" % len(call.body)}
    try:
        parse_form(headers, io.BytesIO(call.body), lambda _field: None, on_file)
    except ServingError:
        raise
    except (FormParserError, ValueError) as error:
        raise InvalidInputError(f"the multipart body is malformed: {error}") from error
    if not files:
        raise InvalidInputError("the form has no file; send the picture as a file named `image`")
    return files


def _wrapped(rows: Any, name: str) -> Any:
    return [{name: row} for row in rows] if type(rows) is list else rows


def _v1_payload(instance: Any) -> dict[str, Any]:
    if type(instance) is dict:
        if type(instance.get("b64")) is str:
            return {"image": instance["b64"]}
        if type(instance.get("image_bytes")) is dict and type(instance["image_bytes"].get("b64")) is str:
            return {"image": instance["image_bytes"]["b64"]}
        if {"features", "image", "inputs"} & instance.keys():
            return instance
    return {"features": instance if type(instance) in {list, dict} else [instance]}


def _identity(model: ServedModel) -> dict[str, str]:
    return {"model": model.name, "version": model.version, "revision": model.revision}


def _dumps(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
