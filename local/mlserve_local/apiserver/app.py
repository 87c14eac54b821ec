"""The HTTP surface: one ASGI application that turns requests into calls and everything else into Status objects.

authenticate -> take the path apart -> authorize -> discovery | resource | plain path -> encode
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import unquote

import orjson

from mlserve_local.apiserver import authentication, metrics_api, reading, reviews, subresources, writing
from mlserve_local.apiserver.bodies import MAX_BODY, too_large
from mlserve_local.apiserver.cluster import Cluster
from mlserve_local.apiserver.discovery import VERSION, Discovery
from mlserve_local.apiserver.errors import (
    PlainTextError,
    StatusError,
    method_not_allowed,
    method_not_supported,
    not_found,
    unknown_resource,
)
from mlserve_local.apiserver.kubelet import KubeletProxy
from mlserve_local.apiserver.openapi import OpenApi
from mlserve_local.apiserver.rbac import Ask
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import Reply, Request, Streaming, Target, parse_query, parse_target

logger = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

VERBS: Final = {
    "GET": ("get", "list"),
    "HEAD": ("get", "list"),
    "POST": ("create", "create"),
    "PUT": ("update", ""),
    "PATCH": ("patch", ""),
    "DELETE": ("delete", "deletecollection"),
}
_HEALTH: Final = ("/healthz", "/livez", "/readyz")


class ApiServerApp:
    """The ASGI application over one :class:`Cluster`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.discovery = Discovery(cluster.registry)
        self.openapi = OpenApi(cluster.registry)
        self.kubelet = KubeletProxy(cluster)
        self.metrics = metrics_api.MetricsApi(cluster)
        metrics_api.register(cluster.registry)
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request(scope)
        try:
            request.body = await _read_body(receive, request)
            authentication.authenticate(self.cluster, request)
            answer = await self._dispatch(request)
        except StatusError as error:
            answer = Reply(error.code, orjson.dumps(error.status()), headers=error.headers)
        except PlainTextError as error:
            answer = Reply(error.code, error.text.encode(), "text/plain; charset=utf-8")
        except _ClientGoneError:
            return
        except Exception:
            logger.exception("unexpected error in %s %s", request.method, request.path)
            body = StatusError(
                500, "InternalError", "Internal error occurred", {"causes": [{"message": "see the server's log"}]}
            )
            answer = Reply(500, orjson.dumps(body.status()))
        if isinstance(answer, Streaming):
            await self._send_stream(answer, request, receive, send)
        else:
            await _send_reply(answer, request, send)

    async def _dispatch(self, request: Request) -> Reply | Streaming:
        path = request.path.rstrip("/") or "/"
        target = parse_target(path)
        if target is None or not target.plural:
            return self._discovery(request, path, target)
        resource = self.cluster.registry.get(target.group, target.version, target.plural)
        verb = _verb(request, target)
        self._authorize(request, verb, target)
        if resource is None or (bool(target.namespace) and not resource.namespaced and resource.key != "/namespaces"):
            raise self._unknown(target)
        if resource.key == "/namespaces":
            target.namespace = ""
        if resource.namespaced and target.name and not target.namespace:
            raise self._unknown(target)
        if (
            not resource.namespaced
            and resource.custom is None
            and verb == "create"
            and target.name
            and not target.subresource
        ):
            raise method_not_allowed()
        if resource.custom is not None and resource.custom.deprecation:
            request.warnings.append(resource.custom.deprecation)
        if target.subresource:
            return await self._subresource(request, resource, target, verb)
        if resource.group == metrics_api.GROUP and verb in resource.verbs:
            return await self.metrics.handle(request, resource, target)
        return self._object(request, resource, target, verb)

    def _unknown(self, target: Target) -> StatusError | PlainTextError:
        """404: JSON inside the built-in groups, plain text elsewhere."""
        return unknown_resource() if target.group in self.cluster.registry.builtin_groups else PlainTextError()

    def _object(self, request: Request, resource: Resource, target: Target, verb: str) -> Reply | Streaming:
        if verb not in resource.verbs or (
            verb == "create" and (target.name or (resource.namespaced and not target.namespace))
        ):
            if resource.custom is not None:
                raise method_not_supported(resource.plural, resource.group, verb)
            raise method_not_allowed()
        if "get" not in resource.verbs:
            return reviews.create(self.cluster, request, resource, target)
        handlers: dict[str, Callable[[Cluster, Request, Resource, Target], Reply | Streaming]] = {
            "get": reading.get,
            "list": reading.list_objects,
            "watch": reading.watch,
            "create": writing.create,
            "update": writing.update,
            "patch": writing.patch,
            "delete": writing.remove,
            "deletecollection": writing.remove_collection,
        }
        return handlers[verb](self.cluster, request, resource, target)

    async def _subresource(self, request: Request, resource: Resource, target: Target, verb: str) -> Reply | Streaming:
        sub = resource.subresources.get(target.subresource)
        if sub is None:
            if resource.custom is not None and target.subresource in ("status", "scale"):
                raise not_found(resource.plural, resource.group, target.name)
            raise self._unknown(target)
        if verb not in sub.verbs:
            if resource.custom is not None:
                raise method_not_supported(resource.plural, resource.group, verb or request.method.lower())
            raise method_not_allowed()
        if target.subresource in ("log", "exec", "attach", "portforward", "proxy"):
            return await self.kubelet.handle(request, resource, target)
        if target.subresource in ("status", "ephemeralcontainers"):
            handler = {"get": reading.get, "update": writing.update, "patch": writing.patch}[verb]
            return handler(self.cluster, request, resource, target)
        return subresources.handle(self.cluster, request, resource, target, verb)

    def _authorize(self, request: Request, verb: str, target: Target) -> None:
        if request.user.is_admin:
            return
        ask = Ask(verb, target.group, target.plural, target.subresource, target.namespace, target.name)
        if target.plural == "namespaces" and not target.group:
            ask = Ask(verb, "", "namespaces", target.subresource, target.name or target.namespace, target.name)
        if self.cluster.authorizer.decide(request.user, ask) is None:
            raise authentication.denied(request.user, ask)

    def _discovery(self, request: Request, path: str, target: Target | None) -> Reply:
        """Everything that is no resource: what there is, health, version."""
        if not request.user.is_admin:
            ask = Ask("get" if request.method in ("GET", "HEAD") else request.method.lower(), path=path)
            if self.cluster.authorizer.decide(request.user, ask) is None:
                raise authentication.denied(request.user, ask)
        answer = self._plain(path, target)
        if answer is None:
            raise PlainTextError
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        return answer(request)

    def _plain(self, path: str, target: Target | None) -> Callable[[Request], Reply] | None:
        fixed: dict[str, Callable[[Request], Reply]] = {
            "/": lambda _: Reply(200, orjson.dumps({"paths": self._paths()})),
            "/api": self.discovery.core_versions,
            "/apis": self.discovery.groups,
            "/version": lambda _: Reply(200, orjson.dumps(VERSION)),
        }
        if path in fixed:
            return fixed[path]
        if target is not None:
            return lambda _: self.discovery.resources(target.group, target.version)
        if path.startswith(_HEALTH):
            return lambda _: Reply(200, b"ok", "text/plain; charset=utf-8")
        if path.startswith("/openapi/"):
            return lambda request: self.openapi.handle(request, path)
        if path.startswith("/apis/"):
            return lambda _: self.discovery.group(path.removeprefix("/apis/"))
        return None

    def _paths(self) -> list[str]:
        registry = self.cluster.registry
        found = ["/api", "/api/v1", "/apis", *_HEALTH, "/openapi/v3", "/version"]
        for group in registry.groups():
            found += [f"/apis/{group}", *(f"/apis/{group}/{v}" for v in registry.versions(group))]
        return sorted(found)

    async def _send_stream(self, answer: Streaming, request: Request, receive: Receive, send: Send) -> None:
        """Headers at once, then chunks until the stream, the client or the server ends."""
        await send(
            {
                "type": "http.response.start",
                "status": answer.code,
                "headers": _headers(answer.content_type, {}, request),
            }
        )
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        gone = asyncio.ensure_future(_client_gone(receive))
        stop = asyncio.ensure_future(self.stopping.wait())
        sender = asyncio.ensure_future(_pump(answer.chunks, send))
        try:
            await asyncio.wait({gone, stop, sender}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, stop, sender):
                task.cancel()
            await asyncio.gather(gone, stop, sender, return_exceptions=True)
        if not gone.done() or gone.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _request({**scope, "method": "GET"})
        try:
            authentication.authenticate(self.cluster, request)
            target = parse_target(request.path)
            resource = self.cluster.registry.get(target.group, target.version, target.plural) if target else None
            if target is None or resource is None:
                raise unknown_resource()
            self._authorize(request, "create", target)
            await self.kubelet.relay(request, resource, target, scope, receive, send)
        except (StatusError, PlainTextError) as error:
            await authentication.refuse_websocket(error, receive, send, scope)


class _ClientGoneError(Exception):
    """The client hung up before it had sent its request."""


def _request(scope: Scope) -> Request:
    headers: dict[str, str] = {}
    for key, value in scope["headers"]:
        name, text = key.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    raw = scope.get("raw_path") or scope["path"].encode()
    path = raw.decode("latin-1").partition("?")[0]
    query = parse_query(scope.get("query_string", b""))
    return Request(scope["method"], unquote(path) if "%2f" not in path.lower() else path, query, headers)


async def _read_body(receive: Receive, request: Request) -> bytes:
    """The whole body, refused as soon as it is too large."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY:
        raise too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise too_large()
        if not message.get("more_body"):
            return b"".join(parts)


def _verb(request: Request, target: Target) -> str:
    one, many = VERBS.get(request.method, ("", ""))
    verb = one if target.name else many
    if verb in ("get", "list") and request.flag("watch"):
        return "watch" if not target.name else "get"
    return verb


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pump(chunks: AsyncIterator[bytes], send: Send) -> None:
    async with aclosing(chunks) as stream:  # type: ignore[type-var]
        async for chunk in stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _headers(content_type: str, extra: dict[str, str], request: Request) -> list[tuple[bytes, bytes]]:
    merged = {"content-type": content_type, "cache-control": "no-cache, private", **extra}
    found = [(k.encode(), v.encode("latin-1", "replace")) for k, v in merged.items() if v]
    for text in dict.fromkeys(request.warnings):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        found.append((b"warning", f'299 - "{quoted}"'.encode("latin-1", "replace")))
    return found


async def _send_reply(answer: Reply, request: Request, send: Send) -> None:
    body = b"" if request.method == "HEAD" else answer.body
    headers = _headers("" if answer.code == 204 else answer.content_type, answer.headers, request)
    if answer.code not in (204, 304):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
