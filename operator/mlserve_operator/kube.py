"""The Kubernetes API as the operator uses it; the only importer of the client library.

Objects are plain dictionaries. There is no discovery: the kinds the operator works with are known, and a table
costs no request at start. Errors of the API come out as `ApiError` with the server's own sentence.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.leaderelection.electionconfig import Config as ElectionConfig
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from mlserve_core.api import v1alpha1 as api
from mlserve_core.wire import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

Object = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind and where the API serves it."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """URL path of an object, of a collection (no name), or of all namespaces (no namespace)."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        parts = [root, *(("namespaces", namespace) if namespace else ()), self.plural, name, subresource]
        return "/".join(part for part in parts if part)


MODEL_DEPLOYMENT: Final = Kind(api.API_VERSION, api.KIND, api.PLURAL)
POD: Final = Kind("v1", "Pod", "pods")
SERVICE: Final = Kind("v1", "Service", "services")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
SECRET: Final = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT: Final = Kind("v1", "ServiceAccount", "serviceaccounts")
EVENT: Final = Kind("v1", "Event", "events")
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION: Final = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
AUTOSCALER: Final = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
DISRUPTION_BUDGET: Final = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY: Final = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
GRPC_ROUTE: Final = Kind("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes")

CHILD_KINDS: Final = (
    SERVICE,
    CONFIG_MAP,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    CONTROLLER_REVISION,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    HTTP_ROUTE,
    GRPC_ROUTE,
)
"""Kinds the operator makes and watches. Secrets are made too, but read by name only: no right to list them."""

BY_KIND: Final[dict[str, Kind]] = {kind.kind: kind for kind in (MODEL_DEPLOYMENT, POD, SECRET, *CHILD_KINDS)}


PAGE: Final = 250
"""Objects that are listed at a time."""

_NO_ANSWER: Final = (aiohttp.ClientError, OSError, TimeoutError)


class ApiError(Exception):
    """The API server refused a request.

    Attributes:
        status: HTTP status; 0 if there was no answer at all.
        reason: the machine-readable reason of the Status, such as AlreadyExists.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def not_found(self) -> bool:
        """The object, or its kind, does not exist."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Somebody else was quicker, or the object exists already."""
        return self.status == 409

    @property
    def is_final(self) -> bool:
        """The same request would be refused again: it is not the moment that was wrong."""
        return 400 <= self.status < 500 and self.status not in {409, 429}


class Kube:
    """A connection to an API server. Use as an async context manager.

    Raises:
        FileNotFoundError: no kubeconfig says where one is.
    """

    def __init__(self, kubeconfig: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._api: client.ApiClient | None = None
        self._dynamic: DynamicClient | None = None

    async def __aenter__(self) -> Self:
        configuration = client.Configuration()
        in_cluster = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
        if in_cluster and not self._kubeconfig:
            config.load_incluster_config(client_configuration=configuration)
        else:
            where = self._kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            try:
                await config.load_kube_config(config_file=self._kubeconfig or None, client_configuration=configuration)
            except config.ConfigException as error:
                raise FileNotFoundError(f"no API server to work for: kubeconfig {where}: {error}") from error
        self._api = client.ApiClient(configuration)
        self._dynamic = DynamicClient(self._api)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._api is not None:
            await self._api.close()

    @property
    def api_client(self) -> client.ApiClient:
        """The client library's own handle, for its leader election."""
        if self._api is None:
            raise RuntimeError("the connection is not open: use `async with Kube(...)`")
        return self._api

    async def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """An object, or None if there is none (nor its kind)."""
        try:
            return await self._request("get", kind.path(namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def metadata(self, kind: Kind, namespace: str = "", selector: str = "") -> AsyncIterator[Object]:
        """Metadata of all objects of a kind in a namespace, or everywhere; page by page, for they may be many."""
        following = None
        while following != "":
            page = await self._request(
                "get", kind.path(namespace), label_selector=selector or None, limit=PAGE, _continue=following
            )
            for item in page.get("items", ()):
                yield item["metadata"]
            following = page["metadata"].get("continue", "")

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create an object."""
        path = kind.path(body["metadata"]["namespace"])
        return await self._request("post", path, body, field_manager=FIELD_MANAGER)

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Server-side apply: the fields of `body` become the operator's, whoever wrote them before.

        A `metadata.resourceVersion` in the body makes it a compare-and-swap (`conflict` if it lost).
        """
        metadata = body["metadata"]
        return await self._request(
            "patch",
            kind.path(metadata["namespace"], metadata["name"]),
            body,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Object, subresource: str = "") -> Object:
        """JSON merge patch."""
        return await self._request(
            "patch",
            kind.path(namespace, name, subresource),
            patch,
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete that very object (not a namesake made in the meantime); nothing to do if it is gone."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._request("delete", kind.path(namespace, name), {**body, "propagationPolicy": "Background"})
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None, **options: Any) -> Object:
        if self._dynamic is None:
            raise RuntimeError("the connection is not open: use `async with Kube(...)`")
        try:
            response = await self._dynamic.request(
                method, path, body=body, serialize=False, _request_timeout=30, **options
            )
            answer: Object = json.loads(await response.read())
        except ApiException as error:
            raise _api_error(error) from error
        except _NO_ANSWER as error:
            raise ApiError(0, "Unreachable", f"{method.upper()} {path}: {error or type(error).__name__}") from error
        return answer


def _api_error(error: ApiException) -> ApiError:
    try:
        status = json.loads(error.body)
        return ApiError(int(error.status), status.get("reason", ""), status.get("message", str(error.reason)))
    except (TypeError, ValueError, AttributeError):
        return ApiError(int(error.status or 0), "", str(error.reason))


LEASE_SECONDS: Final = 15
RENEW_SECONDS: Final = 8
RETRY_SECONDS: Final = 2
LEASE_REQUEST_SECONDS: Final = 2
"""A leader knows that it lost before the lease is another's: renewed at 0, tried again at 2, given up between 8 + 2 and
the end of a last try of two requests, 14."""


class _Lease(LeaseLock):  # type: ignore[misc]
    """The library's lock, made to work: its `create` fails on an argument of its own, a lost connection ends it, and
    one that hangs leaves a leader in the belief that it leads.
    """

    def __init__(self, name: str, namespace: str, identity: str, api: object, renewed: Callable[[float], None]) -> None:
        super().__init__(name, namespace, identity, api)
        self._renewed = renewed

    async def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        try:
            async with asyncio.timeout(LEASE_REQUEST_SECONDS):
                return await super().get(name, namespace)  # type: ignore[no-any-return]
        except _NO_ANSWER as error:
            return False, ApiException(status=0, reason=str(error) or type(error).__name__)

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        body = client.V1Lease(metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(LEASE_REQUEST_SECONDS):
                await self.api_instance.create_namespaced_lease(namespace, body)
        except (ApiException, *_NO_ANSWER):
            return False
        self._renewed(sent_at)
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(LEASE_REQUEST_SECONDS):
                is_renewed: bool = await super().update(name, namespace, updated_record)
        except _NO_ANSWER:
            return False
        if is_renewed:
            self._renewed(sent_at)
        return is_renewed


async def lease_election(
    kube: Kube,
    namespace: str,
    name: str,
    identity: str,
    started: Callable[[], Coroutine[Any, Any, None]],
    stopped: Callable[[], Coroutine[Any, Any, None]],
    renewed: Callable[[float], None],
) -> None:
    """Stand for leadership once: returns after leadership was won and lost.

    Args:
        kube: the API server.
        namespace: of the Lease.
        name: of the Lease.
        identity: who stands.
        started: called when it was won.
        stopped: called when it was lost.
        renewed: told the time (monotonic seconds) at which each request was sent that renewed the lease.
    """
    lock = _Lease(name, namespace, identity, kube.api_client, renewed)
    timing = {"lease_duration": LEASE_SECONDS, "renew_deadline": RENEW_SECONDS, "retry_period": RETRY_SECONDS}
    await LeaderElection(ElectionConfig(lock, **timing, onstarted_leading=started, onstopped_leading=stopped)).run()
