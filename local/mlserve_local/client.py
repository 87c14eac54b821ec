"""Controllers, node and network talk to any kube-apiserver: this is all of HTTP they know.

A kubeconfig says where and who (client certificate, token, or nobody on a loopback API server); `ApiClient` sends
JSON and raises `ApiError` with the Status of the server; retries of whole operations are the work queue's business.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import orjson
import yaml

from mlserve_local.objects import Obj, Resource, name_of, namespace_of

MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"


class ApiError(Exception):
    """A refusal by the API server. `reason` is that of the Status (`NotFound`, `Conflict`, `AlreadyExists`, ...)."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One context of a kubeconfig, resolved."""

    server: str
    token: str | None = None
    token_file: Path | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def load(cls, path: Path | str) -> ClusterConfig:
        """Read the current context. Raises ValueError that names the missing entry."""
        path = Path(path)
        document = yaml.safe_load(path.read_text()) or {}

        def entry(kind: str, name: str) -> Obj:
            for item in document.get(f"{kind}s") or ():
                if item["name"] == name:
                    return dict(item[kind])
            names = [item["name"] for item in document.get(f"{kind}s") or ()]
            raise ValueError(f"{path}: no {kind} named {name!r}; it has {names}")

        context = entry("context", document.get("current-context") or "")
        cluster = entry("cluster", context["cluster"])
        user = entry("user", context["user"]) if context.get("user") else {}
        tls = _tls(cluster, user, path.parent) if str(cluster["server"]).startswith("https") else None
        if "exec" in user or "auth-provider" in user:
            raise ValueError(f"{path}: credential plugins are not supported; use a token or a client certificate")
        token_file = user.get("tokenFile")
        return cls(
            server=str(cluster["server"]).rstrip("/"),
            token=user.get("token"),
            token_file=path.parent / token_file if token_file else None,
            tls=tls,
        )

    def headers(self) -> dict[str, str]:
        """Authorization, read anew from the token file since such tokens are rotated."""
        token = self.token_file.read_text().strip() if self.token_file else self.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def _tls(cluster: Obj, user: Obj, base: Path) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    context = ssl.create_default_context(
        cafile=str(base / cluster["certificate-authority"]) if cluster.get("certificate-authority") else None,
        cadata=base64.b64decode(authority).decode() if authority else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    files = [_material(user, kind, base) for kind in ("client-certificate", "client-key")]
    try:
        if files[0][0]:
            context.load_cert_chain(files[0][0], files[1][0])
    finally:
        for name, temporary in files:
            if temporary:
                os.unlink(name)  # noqa: PTH108 - read into the context, must not stay on disk
    return context


def _material(user: Obj, kind: str, base: Path) -> tuple[str, bool]:
    """A file with the certificate or key: ssl loads client certificates from files alone."""
    if user.get(f"{kind}-data"):
        descriptor, name = tempfile.mkstemp(prefix="mlserve-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64decode(user[f"{kind}-data"]))
        return name, True
    return (str(base / user[kind]), False) if user.get(kind) else ("", False)


class ApiClient:
    """JSON over HTTP to one API server. Use as an async context manager."""

    def __init__(self, config: ClusterConfig, *, user_agent: str = "mlserve-local") -> None:
        self.config = config
        self._agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self.config.tls or True)
        self._session = aiohttp.ClientSession(connector=connector, headers={"User-Agent": self._agent})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connection pool, also for requests to others than the API server."""
        if self._session is None:
            raise RuntimeError("ApiClient is used outside of its `async with` block")
        return self._session

    async def request(
        self,
        method: str,
        path: str,
        body: Obj | None = None,
        *,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Obj:
        """Send one request. Raises ApiError for a refusal, aiohttp.ClientError or TimeoutError if nobody answers."""
        async with self.session.request(
            method,
            self.config.server + path,
            params=params,
            data=orjson.dumps(body) if body is not None else None,
            headers={"Accept": "application/json", "Content-Type": content_type, **self.config.headers()},
            timeout=aiohttp.ClientTimeout(total=30),
        ) as response:
            data = await response.read()
            if response.status >= 400:
                raise _refusal(response.status, data)
            return dict(orjson.loads(data)) if data else {}

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """One object."""
        return await self.request("GET", resource.path(namespace, name))

    async def create(self, resource: Resource, obj: Obj) -> Obj:
        """POST into the object's namespace."""
        return await self.request("POST", resource.path(namespace_of(obj)), obj)

    async def replace(self, resource: Resource, obj: Obj, subresource: str | None = None) -> Obj:
        """PUT: refused with Conflict if someone else wrote since `obj` was read."""
        return await self.request("PUT", resource.path(namespace_of(obj), name_of(obj), subresource), obj)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Obj,
        *,
        subresource: str | None = None,
        kind: str = MERGE,
    ) -> Obj:
        """PATCH, as a JSON merge patch unless `kind` says otherwise."""
        return await self.request("PATCH", resource.path(namespace, name, subresource), body, content_type=kind)

    async def apply(self, resource: Resource, obj: Obj, *, manager: str) -> Obj:
        """Server-side apply with force: the caller owns the fields it sends."""
        path = resource.path(namespace_of(obj), name_of(obj))
        parameters = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", path, obj, params=parameters, content_type=APPLY)

    async def delete(self, resource: Resource, obj: Obj, **options: Any) -> Obj:
        """Delete exactly this object (precondition on its UID); one that is gone already is no error."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": obj["metadata"]["uid"]},
            **options,
        }
        try:
            return await self.request("DELETE", resource.path(namespace_of(obj), name_of(obj)), body)
        except ApiError as error:
            if error.code in (404, 409):
                return {}
            raise

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[Obj]:
        """Watch events until the server ends the stream. A 410 is raised as ApiError, however it is told."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.session.get(
            self.config.server + path,
            params={"watch": "true", "allowWatchBookmarks": "true", **params},
            headers={"Accept": "application/json", **self.config.headers()},
            timeout=timeout,
        ) as response:
            if response.status >= 400:
                raise _refusal(response.status, await response.read())
            async for line in _lines(response.content):
                event: Obj = orjson.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split by newline without aiohttp's line limit: an object may be as large as a MiB."""
    pending = b""
    async for chunk in stream.iter_any():
        *complete, pending = (pending + chunk).split(b"\n")
        for line in complete:
            if line:
                yield line


def _refusal(code: int, data: bytes) -> ApiError:
    try:
        status = orjson.loads(data)
        return ApiError(code, status.get("reason", ""), status.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(code, "", data[:200].decode(errors="replace"))


NETWORK_ERRORS: Final = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What a request raises when the server could not be reached or broke off."""
