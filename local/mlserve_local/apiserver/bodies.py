"""Request bodies: JSON, YAML or protobuf into a document, and a document into an object of the right kind."""

from __future__ import annotations

from typing import Any, Final

from mlserve_local.apiserver import decoding, protobuf
from mlserve_local.apiserver.decoding import DecodeError, Problems
from mlserve_local.apiserver.errors import (
    FieldError,
    Obj,
    StatusError,
    bad_request,
    invalid_options,
    not_supported,
    unsupported_media_type,
)
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import JSON, PROTOBUF, YAML, Request
from mlserve_local.apiserver.rest import WriteOptions, decode

MAX_BODY: Final = 3 * 1024 * 1024
_ACCEPTED: Final = (JSON, YAML, PROTOBUF)
_MODES: Final = ("", "Ignore", "Strict", "Warn")


def too_large() -> StatusError:
    """413: a body beyond MAX_BODY."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}", {})


def write_options(request: Request, kind: str, subresource: str = "") -> WriteOptions:
    """The query parameters of a write, checked; ``kind`` is CreateOptions, UpdateOptions or PatchOptions."""
    found: list[FieldError] = []
    manager = request.param("fieldManager")
    if len(manager) > 128:
        found.append(FieldError("TooLong", "fieldManager", detail="may not be more than 128 bytes"))
    elif not manager.isprintable():
        found.append(FieldError("Invalid", "fieldManager", manager, "should only contain printable characters"))
    dry_run = request.query.get("dryRun", [])
    if any(d not in ("All", "") for d in dry_run):
        found.append(FieldError("NotSupported", "dryRun", dry_run, 'supported values: "All"'))
    if request.param("fieldValidation") not in _MODES:
        found.append(not_supported("fieldValidation", request.param("fieldValidation"), _MODES))
    if found:
        raise invalid_options(kind, found)
    return WriteOptions(request.field_manager, subresource, request.dry_run, request.user, request.warnings)


def unrecognised(kind: str, why: object, body: bytes) -> StatusError:
    """400: the body is no object of any kind."""
    shown = body[:1024].hex()
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {why} ({shown})")


def document(request: Request, kind: str) -> tuple[Any, list[str]]:
    """The body as a document, and the paths of repeated members."""
    media = request.content_type or JSON
    if media == PROTOBUF:
        try:
            return protobuf.decode(request.body), []
        except protobuf.ProtobufError as error:
            raise unrecognised(kind, error, request.body) from None
    if media in (YAML, "application/x-yaml", "text/yaml"):
        try:
            return decoding.parse_yaml(request.body), []
        except DecodeError as error:
            raise bad_request(f"error decoding YAML: {error}") from None
    if media not in (JSON, "text/plain", "application/x-www-form-urlencoded", "*/*"):
        raise unsupported_media_type(_ACCEPTED)
    try:
        parsed, repeated = decoding.parse_json(request.body)
    except DecodeError as error:
        raise unrecognised(kind, f"couldn't get version/kind; json parse error: {error}", request.body) from None
    return parsed, decoding.duplicates(parsed, repeated) if repeated else []


def check_kind(obj: Any, resource: Resource, body: bytes = b"") -> Obj:
    """The document must be of the kind that the path is about; kind and apiVersion may be left out of built-ins."""
    if not isinstance(obj, dict):
        raise unrecognised(
            resource.kind, "couldn't get version/kind; json parse error: json: cannot unmarshal value", body
        )
    version, kind = obj.get("apiVersion"), obj.get("kind")
    if resource.custom is not None and not kind:
        raise unrecognised(resource.kind, "Object 'Kind' is missing in the request", body)
    if version and version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    if kind and kind != resource.kind:
        raise bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"converting ({resource.version}.{kind}) to ({resource.group or 'core'}.{resource.kind}): unknown "
            f"conversion"
        )
    metadata = obj.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        text = f"json: cannot unmarshal value into Go struct field {resource.kind}.metadata of type v1.ObjectMeta"
        raise cannot_be_handled(resource, text)
    return {**obj, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata or {}}


def cannot_be_handled(resource: Resource, why: object) -> StatusError:
    """400: the body has the right kind but a value that does not fit."""
    return bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {why}')


def read_object(request: Request, resource: Resource) -> Obj:
    """The body of a POST or PUT as a decoded object; unknown fields are warned about or refused."""
    parsed, repeated = document(request, resource.kind)
    obj = check_kind(parsed, resource, request.body)
    problems = Problems(duplicate=repeated)
    try:
        made = decode(resource, obj, problems)
    except DecodeError as error:
        raise cannot_be_handled(resource, error) from None
    report(request, resource, problems)
    return made


def report(request: Request, resource: Resource, problems: Problems) -> None:
    """Unknown and repeated fields: silence, warnings (the default) or a 400."""
    texts = problems.texts()
    mode = request.param("fieldValidation", "Warn") or "Warn"
    if not texts or mode == "Ignore":
        return
    if mode == "Strict":
        raise decoding.strict_error(resource.kind, resource.version, texts)
    request.warnings += texts


def read_options(request: Request, kind: str = "DeleteOptions") -> Obj:
    """The optional body of a DELETE."""
    if not request.body:
        return {}
    parsed, _ = document(request, kind)
    if not isinstance(parsed, dict):
        raise unrecognised(kind, "json: cannot unmarshal value", request.body)
    if parsed.get("kind") not in (None, "", kind):
        raise bad_request(f'{parsed["kind"]} in version "{parsed.get("apiVersion")}" cannot be handled as a {kind}')
    return parsed
