"""Logs, exec, attach and port-forward: the API server only stands between the client and the node of a pod."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from mlserve_local.apiserver import times
from mlserve_local.apiserver.errors import (
    FieldError,
    Obj,
    StatusError,
    bad_request,
    forbidden_field,
    internal,
    invalid,
    invalid_value,
    unknown_resource,
)
from mlserve_local.apiserver.registry import Resource
from mlserve_local.apiserver.request import Reply, Request, Streaming, Target
from mlserve_local.apiserver.rest import find
from mlserve_local.apiserver.storage import Stored

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_LOG_FLAGS: Final = ("follow", "previous", "timestamps")
_LOG_NUMBERS: Final = ("tailLines", "limitBytes", "sinceSeconds")
_PATHS: Final = {"exec": "exec", "attach": "attach", "portforward": "portForward"}


class KubeletProxy:
    """Relays requests to the node that runs a pod."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def handle(self, request: Request, resource: Resource, target: Target) -> Reply | Streaming:
        """Plain HTTP requests: logs stream, everything else needs an upgrade."""
        if target.subresource == "log":
            return await self._log(request, resource, target)
        if target.subresource in _PATHS:
            pod = find(self._cluster, resource, target.namespace, target.name)
            if not pod.data["spec"].get("nodeName"):
                raise bad_request(f"pod {pod.name} does not have a host assigned")
            if "upgrade" not in request.headers:
                raise bad_request("Upgrade request required")
            await self._check_reachable(pod)
            raise bad_request("SPDY streams are not served; WebSockets are (kubectl 1.31 and newer use them)")
        raise StatusError(501, "", f"{resource.plural}/{target.subresource} is not served by this API server", {})

    def _address(self, pod: Stored) -> str:
        """``host:port`` of the kubelet that runs a pod."""
        name = pod.data["spec"].get("nodeName", "")
        nodes = self._cluster.registry.builtin("nodes")
        node = self._cluster.registry.collection(nodes).get("", name)
        if node is None:
            raise internal(f'node "{name}" of pod {pod.name} not found')
        status = node.data.get("status", {})
        addresses = {a["type"]: a["address"] for a in status.get("addresses") or ()}
        port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)
        host = addresses.get("InternalIP") or addresses.get("Hostname")
        if not host or not port:
            raise internal(f"no preferred addresses found; known addresses: {sorted(addresses)}")
        return f"{host}:{port}"

    async def _check_reachable(self, pod: Stored) -> None:
        """500 if nobody listens at the node of a pod."""
        host, _, port = self._address(pod).rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 5)
        except (OSError, TimeoutError) as error:
            raise internal(f"error dialing backend: {error}") from None
        writer.close()

    async def _log(self, request: Request, resource: Resource, target: Target) -> Reply | Streaming:
        _check_log_options(request, target.name)
        pod = find(self._cluster, resource, target.namespace, target.name)
        container = _container(pod, request.param("container"))
        if not pod.data["spec"].get("nodeName"):
            return Reply(204, b"")
        wanted: dict[str, str] = {
            k: request.param(k) for k in (*_LOG_FLAGS, *_LOG_NUMBERS, "sinceTime") if k in request.query
        }
        path = f"/containerLogs/{pod.namespace}/{pod.name}/{container}"
        url = f"http://{self._address(pod)}{path}" + (f"?{urlencode(wanted)}" if wanted else "")
        client = httpx.AsyncClient(timeout=httpx.Timeout(10.0, read=None), trust_env=False)
        try:
            answer = await client.send(client.build_request("GET", url), stream=True)
        except httpx.HTTPError as error:
            await client.aclose()
            raise internal(f'Get "{url}": {error}') from None
        if answer.status_code >= 400:
            text = (await answer.aread()).decode(errors="replace").strip()
            await client.aclose()
            raise StatusError(
                answer.status_code,
                "BadRequest" if answer.status_code == 400 else "NotFound" if answer.status_code == 404 else "",
                text,
            )
        return Streaming(_chunks(client, answer), "text/plain")

    async def relay(
        self, request: Request, resource: Resource, target: Target, scope: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        """Connect a client's WebSocket with the node's, message by message."""
        if target.subresource not in _PATHS:
            raise unknown_resource()
        pod = find(self._cluster, resource, target.namespace, target.name)
        path = f"/{_PATHS[target.subresource]}/{pod.namespace}/{pod.name}"
        if target.subresource != "portforward":
            path += "/" + _container(pod, request.param("container"))
        if not pod.data["spec"].get("nodeName"):
            raise bad_request(f"pod {pod.name} does not have a host assigned")
        query = "?" + scope["query_string"].decode() if scope.get("query_string") else ""
        url = f"ws://{self._address(pod)}{path}{query}"
        # The tunnelled port-forward is no token by the rules of WebSockets; between us and the node its last part is.
        offered = {Subprotocol(p.rpartition("+")[2]): p for p in scope.get("subprotocols", ())}
        try:
            node = await connect(url, subprotocols=list(offered), max_size=None, proxy=None, compression=None)
        except InvalidStatus as error:
            text = error.response.body.decode(errors="replace").strip() if error.response.body else str(error)
            raise StatusError(error.response.status_code, "", text) from None
        except (OSError, WebSocketException, TimeoutError) as error:
            raise internal(f"error dialing backend: {error}") from None
        await receive()
        accepted = offered[node.subprotocol] if node.subprotocol else None
        await send({"type": "websocket.accept", "subprotocol": accepted})
        await _exchange(node, receive, send)


async def _exchange(node: ClientConnection, receive: Receive, send: Send) -> None:
    async def to_node() -> None:
        while (message := await receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            await node.send(data if data is not None else message.get("text") or "")

    async def to_client() -> None:
        async for data in node:
            await send({"type": "websocket.send", **({"bytes": data} if isinstance(data, bytes) else {"text": data})})

    tasks = [asyncio.ensure_future(to_node()), asyncio.ensure_future(to_client())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    client_left = tasks[0].done()
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionClosed):
            logger.debug("relay ended: %s", outcome)
    await node.close()
    if not client_left:
        with suppress(RuntimeError):
            await send({"type": "websocket.close", "code": node.close_code or 1000})


async def _chunks(client: httpx.AsyncClient, answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:
        logger.debug("log stream ended: %s", error)
    finally:
        await answer.aclose()
        await client.aclose()


def _container(pod: Stored, wanted: str) -> str:
    """The container a request is about; it may be left out if there is only one."""
    spec = pod.data["spec"]
    names = [c["name"] for k in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(k) or ()]
    if wanted:
        if wanted not in names:
            raise bad_request(f"container {wanted} is not valid for pod {pod.name}")
        return wanted
    own = [c["name"] for c in spec["containers"]]
    default = (pod.data["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if default in own:
        return str(default)
    if len(own) > 1:
        init = [c["name"] for c in spec.get("initContainers") or ()]
        more = f" or one of the init containers: [{' '.join(init)}]" if init else ""
        raise bad_request(
            f"a container name must be specified for pod {pod.name}, choose one of: [{' '.join(own)}]{more}"
        )
    return str(own[0])


def _check_log_options(request: Request, name: str) -> None:
    errors: list[FieldError] = []
    for key in _LOG_NUMBERS:
        text = request.param(key)
        if text:
            low = 0 if key == "tailLines" else 1
            try:
                value = int(text)
            except ValueError:
                raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
            if value < low:
                what = "must be greater than or equal to 0" if low == 0 else "must be greater than 0"
                errors.append(invalid_value(key, value, what))
    if request.param("sinceSeconds") and request.param("sinceTime"):
        errors.append(forbidden_field("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif request.param("sinceTime") and not times.is_time(request.param("sinceTime")):
        raise bad_request(f'parsing time "{request.param("sinceTime")}": cannot parse as RFC 3339')
    if errors:
        details: Obj = {"kind": "PodLogOptions"}
        raise invalid(details["kind"], "", name, errors)
