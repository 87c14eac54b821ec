"""What a client can ask for: group and resource lists, in the legacy form and aggregated with an ETag."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import orjson

from mlserve_local.apiserver.errors import Obj, PlainTextError, unknown_resource
from mlserve_local.apiserver.registry import Registry, Resource, Subresource
from mlserve_local.apiserver.request import Reply, Request, negotiate, wants_aggregated_discovery

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
VERSION: Final[Obj] = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.0+mlserve",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


class Discovery:
    """Answers discovery requests; the aggregated form is encoded once per change of the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: dict[str, tuple[int, bytes, str]] = {}

    def core_versions(self, request: Request) -> Reply:
        """GET /api."""
        if wants_aggregated_discovery(request.headers.get("accept", "")):
            return self._aggregated(request, [""])
        negotiate(request.headers.get("accept", ""))
        host = request.headers.get("host", "127.0.0.1")
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
        body = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
        return Reply(200, orjson.dumps(body))

    def groups(self, request: Request) -> Reply:
        """GET /apis."""
        if wants_aggregated_discovery(request.headers.get("accept", "")):
            return self._aggregated(request, self._registry.groups())
        negotiate(request.headers.get("accept", ""))
        groups = [self._group(g) for g in self._registry.groups()]
        return Reply(200, orjson.dumps({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))

    def group(self, name: str) -> Reply:
        """GET /apis/<group>."""
        if name not in self._registry.groups():
            raise PlainTextError
        return Reply(200, orjson.dumps({"kind": "APIGroup", "apiVersion": "v1", **self._group(name)}))

    def _group(self, name: str) -> Obj:
        versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in self._registry.versions(name)]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def resources(self, group: str, version: str) -> Reply:
        """GET /api/v1 and /apis/<group>/<version>."""
        found = self._registry.resources(group, version)
        if not found:
            if group in self._registry.builtin_groups:
                raise unknown_resource()
            raise PlainTextError
        entries: list[Obj] = []
        for resource in sorted(found, key=lambda r: r.plural):
            entries.append(_entry(resource))
            order = resource.subresources if resource.custom is not None else sorted(resource.subresources)
            entries += [_subresource_entry(resource, resource.subresources[name]) for name in order]
        name = f"{group}/{version}" if group else version
        body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}
        if not group:
            del body["apiVersion"]
        return Reply(200, orjson.dumps(body))

    def _aggregated(self, request: Request, groups: list[str]) -> Reply:
        key = "core" if groups == [""] else "all"
        cached = self._cache.get(key)
        if cached is None or cached[0] != self._registry.generation:
            body = {
                "kind": "APIGroupDiscoveryList",
                "apiVersion": "apidiscovery.k8s.io/v2",
                "metadata": {},
                "items": [self._aggregated_group(g) for g in groups],
            }
            encoded = orjson.dumps(body)
            tag = f'"{hashlib.sha512(encoded).hexdigest().upper()}"'
            cached = self._cache[key] = (self._registry.generation, encoded, tag)
        _, encoded, tag = cached
        headers = {"etag": tag, "cache-control": "public", "vary": "Accept"}
        if request.headers.get("if-none-match") == tag:
            return Reply(304, b"", AGGREGATED, headers)
        return Reply(200, encoded, AGGREGATED, headers)

    def _aggregated_group(self, group: str) -> Obj:
        versions = []
        for version in self._registry.versions(group):
            resources = sorted(self._registry.resources(group, version), key=lambda r: r.plural)
            versions.append(
                {
                    "version": version,
                    "resources": [_aggregated_resource(r) for r in resources],
                    "freshness": "Current",
                }
            )
        metadata: Obj = {"name": group} if group else {}
        return {"metadata": {**metadata, "creationTimestamp": None}, "versions": versions}


def _storage_hash(resource: Resource) -> str:
    digest = hashlib.sha256(f"{resource.key}/{resource.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _entry(resource: Resource) -> Obj:
    entry: Obj = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if "list" in resource.verbs:
        entry["storageVersionHash"] = _storage_hash(resource)
    return entry


def _subresource_entry(resource: Resource, sub: Subresource) -> Obj:
    entry: Obj = {"name": f"{resource.plural}/{sub.name}", "singularName": "", "namespaced": resource.namespaced}
    if sub.group:
        entry |= {"group": sub.group, "version": sub.version}
    return {**entry, "kind": sub.kind, "verbs": list(sub.verbs)}


def _aggregated_resource(resource: Resource) -> Obj:
    kind: Any = {"group": "", "version": "", "kind": resource.kind}
    if resource.custom is not None:
        kind |= {"group": resource.group, "version": resource.version}
    entry: Obj = {
        "resource": resource.plural,
        "responseKind": kind,
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subresources = [
        {
            "subresource": sub.name,
            "verbs": list(sub.verbs),
            "responseKind": {
                "group": sub.group or kind["group"],
                "version": sub.version or kind["version"],
                "kind": sub.kind,
            },
        }
        for sub in resource.subresources.values()
    ]
    if subresources:
        entry["subresources"] = subresources
    return entry
