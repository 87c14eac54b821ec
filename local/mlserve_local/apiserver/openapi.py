"""OpenAPI v3, as far as kubectl and helm read it: types for validation and ``explain``, and which verbs take what."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import orjson

from mlserve_local.apiserver import protobuf
from mlserve_local.apiserver.errors import Obj, PlainTextError
from mlserve_local.apiserver.registry import Registry, Resource
from mlserve_local.apiserver.request import Reply, Request
from mlserve_local.apiserver.schema import OBJECT_META, definitions

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_COMMON: Final = ("DeleteOptions", "ListMeta", "ObjectMeta", "Status", "Patch", "Time", "FieldsV1")
_SCALE: Final = ("io.k8s.api.autoscaling.v1.Scale",)
_ACTIONS: Final = {
    "get": ("get", "read"),
    "put": ("put", "replace"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
    "post": ("post", "create"),
    "list": ("list", "list"),
}
_VERBS: Final = {"get": "get", "put": "update", "patch": "patch", "delete": "delete"}
_WRITE_PARAMETERS: Final = ("dryRun", "fieldManager", "fieldValidation")


class OpenApi:
    """Documents per group and version, built on demand and kept until the registry changes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: dict[str, tuple[int, bytes, str]] = {}

    def handle(self, request: Request, path: str) -> Reply:
        """GET /openapi/v2, /openapi/v3 and the documents below."""
        if path == "/openapi/v3":
            return self._index(request)
        if path.startswith("/openapi/v3/"):
            body, tag = self._document(path.removeprefix("/openapi/v3/"))
            headers = {"etag": f'"{tag}"', "vary": "Accept"}
            if request.headers.get("if-none-match") == f'"{tag}"':
                return Reply(304, b"", headers=headers)
            return Reply(200, body, headers=headers)
        if path == "/openapi/v2":
            return _version_2(request)
        raise PlainTextError

    def _paths(self) -> list[str]:
        found = dict.fromkeys(
            f"apis/{r.group}/{r.version}" if r.group else f"api/{r.version}" for r in self._registry.by_path.values()
        )
        return list(found)

    def _index(self, request: Request) -> Reply:
        paths = {}
        for path in self._paths():
            _, tag = self._document(path)
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={tag}"}
        body = orjson.dumps({"paths": paths})
        tag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
        if request.headers.get("if-none-match") == tag:
            return Reply(304, b"", headers={"etag": tag, "vary": "Accept"})
        return Reply(200, body, "text/plain; charset=utf-8", {"etag": tag, "vary": "Accept"})

    def _document(self, path: str) -> tuple[bytes, str]:
        group, _, version = path.removeprefix("apis/").removeprefix("api/").rpartition("/")
        resources = self._registry.resources(group, version)
        if not resources:
            raise PlainTextError
        state = self._registry.generation if resources[0].custom is not None else 0
        cached = self._cache.get(path)
        if cached is None or cached[0] != state:
            body = orjson.dumps(_build(group, version, resources))
            cached = self._cache[path] = (state, body, hashlib.sha512(body).hexdigest().upper())
        return cached[1], cached[2]


def _version_2(request: Request) -> Reply:
    """The old document, empty: types are served as v3 only."""
    if "proto-openapi" in request.headers.get("accept", ""):
        return Reply(200, protobuf.empty_openapi_v2(), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
    body = {"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": {}}
    return Reply(200, orjson.dumps(body))


def type_name(resource: Resource) -> str:
    """The name of a type in the document: reversed domain for custom groups, the published name otherwise."""
    if resource.custom is None:
        return resource.schema.name
    return ".".join([*reversed(resource.group.split(".")), resource.version, resource.kind])


def _build(group: str, version: str, resources: list[Resource]) -> Obj:
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for resource in resources:
        if resource.custom is not None:
            _add_custom(resource, schemas)
        else:
            _add_published(resource.schema.name, schemas)
            _add_published(f"{resource.schema.name}List", schemas)
        paths |= _resource_paths(resource)
        if "scale" in resource.subresources:
            _add_published(_SCALE[0], schemas)
    for name in _COMMON:
        _add_published(_META + name, schemas)
    info = {"title": "Kubernetes" if resources[0].custom is None else "Kubernetes CRD Swagger", "version": "v0.1.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _add_published(name: str, schemas: dict[str, Any]) -> None:
    """Add a published type and all types it mentions."""
    source = definitions().get(name)
    if source is None or name in schemas:
        return
    schemas[name] = made = _translate(source)
    for mentioned in _references(made):
        _add_published(mentioned, schemas)


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"].rpartition("/")[2]] if isinstance(value.get("$ref"), str) else []
        return found + [r for v in value.values() for r in _references(v)]
    return [r for v in value for r in _references(v)] if isinstance(value, list) else []


def _translate(source: Any) -> Any:
    """From the JSON Schema dialect of the package to OpenAPI v3."""
    if isinstance(source, list):
        return [_translate(v) for v in source]
    if not isinstance(source, dict):
        return source
    if isinstance(source.get("$ref"), str):
        target = {"$ref": source["$ref"].replace("#/$defs/", "#/components/schemas/")}
        rest = {k: _translate(v) for k, v in source.items() if k != "$ref"}
        return {**rest, "allOf": [target], "default": {}} if rest else target
    made = {}
    for key, value in source.items():
        if key == "type" and isinstance(value, list):
            made[key] = next(t for t in value if t != "null")
        elif key == "properties":
            made[key] = {k: _translate(v) for k, v in value.items()}
        elif key == "enum" and value == ["v1"]:
            continue
        else:
            made[key] = _translate(value)
    return made


def _add_custom(resource: Resource, schemas: dict[str, Any]) -> None:
    meta = {
        "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        "allOf": [{"$ref": f"#/components/schemas/{OBJECT_META}"}],
    }
    pod = definitions()["io.k8s.api.core.v1.Pod"]["properties"]
    head = {k: {"description": pod[k]["description"], "type": "string"} for k in ("apiVersion", "kind")}
    source = resource.custom.source
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    name = type_name(resource)
    schemas[name] = {
        **source,
        "type": "object",
        "properties": {
            **head,
            "metadata": meta,
            **{k: v for k, v in (source.get("properties") or {}).items() if k not in head and k != "metadata"},
        },
        "x-kubernetes-group-version-kind": [gvk],
    }
    items = {
        "description": f"List of {resource.plural}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        "type": "array",
        "items": {"$ref": f"#/components/schemas/{name}"},
    }
    list_meta = {
        "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
        "allOf": [{"$ref": f"#/components/schemas/{_META}ListMeta"}],
    }
    schemas[f"{name}List"] = {
        "description": f"{resource.list_kind} is a list of {resource.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {**head, "items": items, "metadata": list_meta},
        "x-kubernetes-group-version-kind": [{**gvk, "kind": resource.list_kind}],
    }
    for mentioned in _references(schemas[name]) + _references(schemas[f"{name}List"]):
        _add_published(mentioned, schemas)


def _camel(text: str) -> str:
    return "".join(p[:1].upper() + p[1:] for p in text.replace("-", ".").split("."))


def _operation(resource: Resource, action: str, scope: str, reference: str) -> Obj:
    verb, word = _ACTIONS[action]
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    answer = {"schema": {"$ref": f"#/components/schemas/{reference}"}}
    media = dict.fromkeys(("application/json", "application/yaml"), answer)
    made: Obj = {
        "description": f"{word} {'the specified' if word != 'list' else 'objects of kind'} {resource.kind}",
        "operationId": f"{word}{_camel(resource.group or 'core')}{_camel(resource.version)}{scope}{resource.kind}",
        "responses": {"200": {"description": "OK", "content": media}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": verb,
        "x-kubernetes-group-version-kind": gvk,
    }
    if action in ("post", "put", "patch"):
        made["parameters"] = [{"name": n, "in": "query", "schema": {"type": "string"}} for n in _WRITE_PARAMETERS]
        made["requestBody"] = {"content": {"application/json": answer}, "required": True}
    return made


def _resource_paths(resource: Resource) -> dict[str, Any]:
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scope = "Namespaced" if resource.namespaced else ""
    name = type_name(resource)
    collection = (
        f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    )
    paths: dict[str, Any] = {collection: {}}
    if "list" in resource.verbs:
        paths[collection]["get"] = _operation(resource, "list", scope, f"{name}List")
        if resource.namespaced:
            paths[f"{base}/{resource.plural}"] = {
                "get": _operation(resource, "list", "ForAllNamespaces", f"{name}List")
            }
    if "create" in resource.verbs:
        paths[collection]["post"] = _operation(resource, "post", scope, name)
    if "get" in resource.verbs:
        paths[f"{collection}/{{name}}"] = {
            method: _operation(resource, method, scope, name)
            for method, verb in _VERBS.items()
            if verb in resource.verbs
        }
    for sub in resource.subresources.values():
        if sub.name in ("status", "scale"):
            reference = name if sub.name == "status" else _SCALE[0]
            paths[f"{collection}/{{name}}/{sub.name}"] = {
                method: _operation(resource, method, scope, reference) for method in ("get", "put", "patch")
            }
    return paths
