"""GET: one object, a list (paged, at a revision, as a Table), or a watch."""

from __future__ import annotations

import base64
import binascii
import random
from typing import TYPE_CHECKING, Any, Final

import orjson

from mlserve_local.apiserver import fields, tables
from mlserve_local.apiserver.errors import (
    FieldError,
    Obj,
    StatusError,
    bad_request,
    expired,
    forbidden_field,
    internal,
    invalid_options,
    not_supported,
    unfit_transform,
)
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import YAML, Reply, Representation, Request, Streaming, Target, negotiate
from mlserve_local.apiserver.rest import find
from mlserve_local.apiserver.selectors import parse_label_selector
from mlserve_local.apiserver.storage import Stored
from mlserve_local.apiserver.watching import INITIAL_EVENTS_END, Filter, Watch
from mlserve_local.apiserver.writing_out import yaml_bytes

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

DEFAULT_WATCH_SECONDS: Final = 1800


def get(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """One object."""
    wanted = negotiate(request.headers.get("accept", ""))
    stored = find(cluster, resource, target.namespace, target.name)
    if resource.key == "/endpoints":
        request.warnings.append("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    return object_reply(resource, stored, wanted, request)


def object_reply(
    resource: Resource, stored: Stored, wanted: Representation, request: Request, code: int = 200
) -> Reply:
    """An object in the representation the client asked for."""
    if wanted.as_ == "Table":
        include = request.param("includeObject", "Metadata")
        table = tables.table(resource, [stored], include, wanted.version)
        table["metadata"] = {"resourceVersion": stored.data["metadata"].get("resourceVersion", "")}
        return Reply(code, orjson.dumps(table))
    if wanted.as_ == "PartialObjectMetadata":
        return Reply(code, orjson.dumps(tables.partial(resource, stored, wanted.version)))
    if wanted.as_:
        raise unfit_transform(f"you requested {wanted.as_}, but the requested object is not a list ({resource.kind})")
    return reply(code, resource.encode(stored), wanted, request)


def reply(code: int, body: bytes, wanted: Representation, request: Request) -> Reply:
    """Encoded JSON as the client wants it: compact, indented, or YAML."""
    if wanted.media_type == YAML:
        return Reply(code, yaml_bytes(orjson.loads(body)), YAML)
    if request.param("pretty") in ("true", "1"):
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
    return Reply(code, body)


def list_filter(request: Request, resource: Resource, target: Target) -> Filter:
    """The selectors of a list, watch or deletecollection."""
    labels = parse_label_selector(request.param("labelSelector"))
    selector = fields.selector(resource, request.param("fieldSelector"))
    namespace = target.namespace if resource.namespaced and target.namespace else None
    if namespace is None and resource.namespaced and selector.exact_namespace:
        namespace = selector.exact_namespace
    return Filter(namespace, labels, selector, resource)


def _list_options(request: Request, *, watch: bool) -> None:
    """422 for combinations of revision, match and initial events that mean nothing."""
    found = _watch_errors(request) if watch else _list_errors(request)
    if found:
        raise invalid_options("ListOptions", found)


def _watch_errors(request: Request) -> list[FieldError]:
    field, match = "resourceVersionMatch", request.param("resourceVersionMatch")
    found: list[FieldError] = []
    if "sendInitialEvents" in request.query:
        if match != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            found.append(forbidden_field(field, text))
    elif match:
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        found.append(forbidden_field(field, text))
    if match and match != "NotOlderThan":
        found.append(not_supported(field, match, ["NotOlderThan"]))
    if match and request.param("continue"):
        found.append(forbidden_field(field, "resourceVersionMatch is forbidden when continue is provided"))
    return found


def _list_errors(request: Request) -> list[FieldError]:
    field, match = "resourceVersionMatch", request.param("resourceVersionMatch")
    revision = request.param("resourceVersion")
    found: list[FieldError] = []
    if match and not revision:
        text = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        found.append(forbidden_field(field, text))
    if match and request.param("continue"):
        found.append(forbidden_field(field, "resourceVersionMatch is forbidden when continue is provided"))
    if match and match not in ("Exact", "NotOlderThan"):
        found.append(not_supported(field, match, ["Exact", "NotOlderThan", ""]))
    if match == "Exact" and revision == "0":
        text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        found.append(forbidden_field(field, text))
    if "sendInitialEvents" in request.query:
        found.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return found


def list_objects(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Reply:
    """A list: what matches, in key order, at the present or at a named revision."""
    wanted = negotiate(request.headers.get("accept", ""))
    _list_options(request, watch=False)
    chosen = list_filter(request, resource, target)
    limit = _integer(request.param("limit"))
    token, revision = request.param("continue"), request.param("resourceVersion")
    if token and revision not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    after: tuple[str, str] | None = None
    collection = cluster.registry.collection(resource)
    at = cluster.store.revision
    if token:
        at, after = _read_token(token)
        stored = collection.snapshot(at, chosen.namespace)
        if stored is None:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. You can start "
                "a new list "
                "without the continue parameter, or use the continue token in this response to retrieve the "
                "remainder of "
                "the results."
            )
    elif request.param("resourceVersionMatch") == "Exact":
        at = _revision(revision)
        stored = collection.snapshot(at, chosen.namespace)
        if stored is None:
            raise expired("The resourceVersion for the provided list is too old.")
    else:
        _not_newer(cluster, _revision(revision))
        stored = collection.list(chosen.namespace)
    if chosen.fields.exact_name is not None:
        stored = [s for s in stored if s.name == chosen.fields.exact_name]
    found = [s for s in stored if chosen.matches(s) and (after is None or (s.namespace, s.name) > after)]
    metadata: Obj = {"resourceVersion": str(at)}
    if resource.custom is not None:
        metadata["continue"] = ""
    if limit and len(found) > limit:
        rest, found = len(found) - limit, found[:limit]
        metadata["continue"] = _token(at, found[-1])
        if not chosen.labels.requirements and not chosen.fields.terms:
            metadata["remainingItemCount"] = rest
    return list_reply(resource, found, metadata, wanted, request)


def list_reply(
    resource: Resource, found: list[Stored], metadata: Obj, wanted: Representation, request: Request
) -> Reply:
    """A list in the representation the client asked for."""
    if wanted.as_ == "Table":
        table = tables.table(resource, found, request.param("includeObject", "Metadata"), wanted.version)
        table["metadata"] = {k: v for k, v in metadata.items() if v != ""}
        return Reply(200, orjson.dumps(table))
    if wanted.as_ == "PartialObjectMetadataList":
        made = {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{wanted.version}",
            "metadata": metadata,
            "items": [{"metadata": s.data["metadata"]} for s in found],
        }
        return Reply(200, orjson.dumps(made))
    if wanted.as_:
        raise unfit_transform(f"you requested {wanted.as_}, but the requested object is a list ({resource.list_kind})")
    head = orjson.dumps({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata})
    body = head[:-1] + b',"items":[' + b",".join(map(resource.encode_item, found)) + b"]}"
    return reply(200, body, wanted, request)


def _integer(text: str) -> int:
    if not text:
        return 0
    try:
        return max(int(text), 0)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _revision(text: str) -> int:
    if not text:
        return 0
    if not text.isdigit():
        raise bad_request(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def _not_newer(cluster: Cluster, revision: int) -> None:
    present = cluster.store.revision
    if revision > present:
        message = f"Timeout: Too large resource version: {revision}, current: {present}"
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        raise StatusError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1}, {"Retry-After": "1"})


def _token(revision: int, last: Stored) -> str:
    value = {"v": "meta.k8s.io/v1", "rv": revision, "start": f"{last.namespace}/{last.name}"}
    return base64.urlsafe_b64encode(orjson.dumps(value)).rstrip(b"=").decode()


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, _, name = value["start"].partition("/")
        return int(value["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise bad_request("invalid continue token: continue key is not valid") from None


def watch(cluster: Cluster, request: Request, resource: Resource, target: Target) -> Streaming:
    """Changes as they happen."""
    wanted = negotiate(request.headers.get("accept", ""))
    _list_options(request, watch=True)
    chosen = list_filter(request, resource, target)
    if target.name and not chosen.fields.terms:
        chosen.fields = fields.selector(resource, f"metadata.name={target.name}")
    text = request.param("resourceVersion")
    if text and not text.isdigit():
        raise internal(f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax')
    revision = int(text or 0)
    initial = request.flag("sendInitialEvents")
    skip_initial = "sendInitialEvents" in request.query and not initial
    start: int | None = (
        None if (initial or revision == 0) and not skip_initial else (revision or cluster.store.revision)
    )
    bookmarks = request.flag("allowWatchBookmarks")
    seconds = _integer(request.param("timeoutSeconds")) or DEFAULT_WATCH_SECONDS * (1 + random.random())  # noqa: S311
    encoder = _EventEncoder(resource, wanted, request.param("includeObject", "Metadata"))
    opened = Watch(
        cluster.registry.collection(resource),
        chosen,
        encoder.encode,
        encoder.bookmark,
        lambda: cluster.store.revision,
        start,
        bookmarks,
        initial and bookmarks,
        float(seconds),
    )
    return Streaming(opened.stream())


class _EventEncoder:
    """Encodes objects of events: as they are, as Tables (columns only once), or as metadata."""

    def __init__(self, resource: Resource, wanted: Representation, include: str) -> None:
        self._resource, self._wanted, self._include, self._first = resource, wanted, include, True

    def encode(self, stored: Stored) -> bytes:
        if self._wanted.as_ == "Table":
            table = tables.table(self._resource, [stored], self._include, self._wanted.version)
            table["metadata"] = {"resourceVersion": stored.data["metadata"]["resourceVersion"]}
            if not self._first:
                table["columnDefinitions"] = None
            self._first = False
            return orjson.dumps(table)
        if self._wanted.as_:
            return orjson.dumps(tables.partial(self._resource, stored, self._wanted.version))
        return self._resource.encode(stored)

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        if self._wanted.as_ == "Table":
            row = {
                "cells": [],
                "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata},
            }
            made: Obj = {
                "kind": "Table",
                "apiVersion": f"meta.k8s.io/{self._wanted.version}",
                "metadata": metadata,
                "columnDefinitions": None,
                "rows": [row],
            }
            return orjson.dumps(made)
        if self._wanted.as_:
            made = {
                "kind": "PartialObjectMetadata",
                "apiVersion": f"meta.k8s.io/{self._wanted.version}",
                "metadata": metadata,
            }
            return orjson.dumps(made)
        return orjson.dumps(
            {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        )
