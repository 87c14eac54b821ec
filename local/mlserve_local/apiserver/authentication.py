"""Who sends a request.

The server listens on loopback only, and whoever reaches it there without a ServiceAccount token is the administrator,
as the holder of a client certificate would be. A token makes the request that account's; the administrator may
impersonate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from mlserve_local.apiserver.errors import PlainTextError, StatusError, forbidden, unauthorized
from mlserve_local.apiserver.rbac import Ask
from mlserve_local.apiserver.request import ADMIN, Request, User
from mlserve_local.apiserver.tokens import InvalidTokenError, looks_like_token

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster


def authenticate(cluster: Cluster, request: Request) -> None:
    """Set ``request.user``; 401 for a ServiceAccount token that is not valid, 403 for impersonation without leave."""
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    request.user = ADMIN
    if scheme.lower() == "bearer" and looks_like_token(credential.strip()):
        try:
            request.user, _ = cluster.tokens.verify(credential.strip())
        except InvalidTokenError:
            raise unauthorized() from None
    name = request.headers.get("impersonate-user")
    if name:
        _check_impersonation(cluster, request.user, name)
        request.user = _impersonated(request, name)


def _impersonated(request: Request, name: str) -> User:
    groups = [g.strip() for g in request.headers.get("impersonate-group", "").split(",") if g.strip()]
    if not groups and name.startswith("system:serviceaccount:"):
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"]
    everyone = "system:unauthenticated" if name == "system:anonymous" else "system:authenticated"
    if everyone not in groups:
        groups.append(everyone)
    prefix = "impersonate-extra-"
    extra = {unquote(k.removeprefix(prefix)): (v,) for k, v in request.headers.items() if k.startswith(prefix)}
    return User(name, tuple(groups), request.headers.get("impersonate-uid", ""), extra)


def _check_impersonation(cluster: Cluster, user: User, name: str) -> None:
    if user.is_admin:
        return
    resource, namespace = (
        ("serviceaccounts", name.split(":")[2]) if name.startswith("system:serviceaccount:") else ("users", "")
    )
    ask = Ask("impersonate", "", resource, namespace=namespace, name=name.rpartition(":")[2])
    if cluster.authorizer.decide(user, ask) is None:
        raise denied(user, ask)


def denied(user: User, ask: Ask) -> StatusError:
    """403 in the words of a real server."""
    if ask.path:
        why = f'User "{user.name}" cannot {ask.verb} path "{ask.path}"'
        return StatusError(403, "Forbidden", f"forbidden: {why}", {})
    scope = f' in the namespace "{ask.namespace}"' if ask.namespace else " at the cluster scope"
    why = f'User "{user.name}" cannot {ask.verb} resource "{ask.full_resource}" in API group "{ask.group}"{scope}'
    return forbidden(ask.resource, ask.group, ask.name, why)


async def refuse_websocket(
    error: StatusError | PlainTextError,
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
    scope: dict[str, Any],
) -> None:
    """Answer an upgrade request with an ordinary HTTP response."""
    body = orjson.dumps(error.status()) if isinstance(error, StatusError) else error.text.encode()
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": error.code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
