"""Reconcile of a router: the files of all the ModelDeployments it serves, taken from their checkpoints.

A shared router is nobody's alone, so it has a key of its own on the queue. Whatever a ModelDeployment decided is in
its checkpoint by the time the router is asked to follow; a restart of the operator finds all routes there again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlserve_core.api.v1alpha1 import KIND, ModelDeploymentSpec, RouterScope, TrafficMode
from mlserve_core.wire import ANNOTATION_CONFIG_HASH
from mlserve_operator import kube
from mlserve_operator.resources.metadata import is_owned_by
from mlserve_operator.resources.records import checkpoint_name, read_checkpoint
from mlserve_operator.resources.router import NAMESPACE_ROUTER, build_router, dedicated_router, router_of
from mlserve_operator.traffic import envoy
from mlserve_operator.traffic.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlserve_operator.execute import Executor
    from mlserve_operator.index import Index
    from mlserve_operator.settings import Settings

Object = dict[str, Any]

ROUTER_KINDS = (kube.DEPLOYMENT, kube.CONFIG_MAP, kube.DISRUPTION_BUDGET, kube.SERVICE_ACCOUNT)


async def reconcile_router(
    namespace: str, router: str, listeners: Listeners, executor: Executor, settings: Settings
) -> None:
    """Make a router serve exactly the ModelDeployments that lead to it.

    Raises:
        NotOwnedError: somebody else has an object of the router's name.
        kube.ApiError: the API server refused.
    """
    index = listeners.index
    served = list(listeners.served(namespace, router))
    if not served:
        for kind in ROUTER_KINDS:
            for body in index.of_router(kind.kind, namespace, router):
                await executor.delete(kind, body)
        return
    entries = [entry for _, spec, entry in served]
    files = envoy.files(entries, cluster_domain=settings.cluster_domain, dns_resolver=settings.dns_resolver)
    largest = max((spec.traffic.router for _, spec, _ in served), key=lambda wish: wish.replicas)
    resources = next((spec.traffic.router.resources for _, spec, _ in served if spec.traffic.router.resources), None)
    owners = [owner for owner, _, _ in served]
    for body in build_router(
        name=router,
        namespace=namespace,
        owners=owners,
        files=files,
        replicas=largest.replicas,
        resources=resources,
        image=settings.router_image,
        log_level=settings.router_log_level,
    ):
        await executor.ensure(body, _owners_ever(index, namespace, router, owners))
    for pod in index.of_router("Pod", namespace, router):
        if "deletionTimestamp" not in pod["metadata"]:
            await executor.touch(pod, ANNOTATION_CONFIG_HASH, envoy.version_of(files))


Served = tuple[ModelDeploymentSpec, Entry]


@dataclass
class Listeners:
    """Listeners of all ModelDeployments: a port each within a namespace, as many as a router has room for.

    Attributes:
        index: what the watches told.
    """

    index: Index
    _reserved: dict[str, dict[str, int]] = field(default_factory=dict)
    _served: dict[tuple[str, str], Served] = field(default_factory=dict)
    """As each was read last, by namespace and name."""

    def served(self, namespace: str, router: str) -> Iterator[tuple[Object, ModelDeploymentSpec, Entry]]:
        """ModelDeployments that lead to a router and have a listener there.

        One that cannot be read any more (its own reconcile says what is wrong with it) is served as it was.
        """
        for owner in self.index.of_kind(KIND, namespace):
            name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
            checkpoint = self.index.get("ConfigMap", namespace, checkpoint_name(name))
            if "deletionTimestamp" in owner["metadata"] or checkpoint is None or not is_owned_by(checkpoint, uid):
                continue
            try:
                found = _read(owner, checkpoint)
            except ValueError:
                found = self._served.get((namespace, name))
            if found is None:
                continue
            self._served[namespace, name] = found
            spec, entry = found
            if spec.traffic.mode is TrafficMode.ENVOY and router_of(name, spec) == router:
                yield owner, spec, entry

    def choose(self, namespace: str, name: str, router: str, own: int | None) -> int:
        """The port of a ModelDeployment: the one it has, or a free one.

        Reserved here before anything is awaited, because other models of the namespace choose at the same time. Two
        that have one port after all (two operators wrote for a moment) part again: the first by name keeps it.

        Raises:
            RouterFullError: it has none, and the router has no room for another.
        """
        ports = {**self._reserved.get(namespace, {}), **self._written(namespace)}
        own = ports.pop(name, own)
        if own is None and sum(other in ports for other in self._led_to(namespace, router)) >= envoy.MODELS_PER_ROUTER:
            raise envoy.RouterFullError(router)
        if own is None or any(port == own and other < name for other, port in ports.items()):
            own = envoy.free_port(set(ports.values()))
        self._reserved.setdefault(namespace, {})[name] = own
        return own

    def forget(self, namespace: str, name: str) -> None:
        """A ModelDeployment is gone: its port is free, and so is its place."""
        self._reserved.get(namespace, {}).pop(name, None)
        self._served.pop((namespace, name), None)

    def _led_to(self, namespace: str, router: str) -> Iterator[str]:
        for owner in self.index.of_kind(KIND, namespace):
            name, traffic = owner["metadata"]["name"], owner.get("spec", {}).get("traffic") or {}
            scope = (traffic.get("router") or {}).get("scope", RouterScope.NAMESPACE)
            if router == (dedicated_router(name) if scope == RouterScope.DEDICATED else NAMESPACE_ROUTER):
                yield name

    def _written(self, namespace: str) -> dict[str, int]:
        """Ports by ModelDeployment, as the checkpoints say."""
        taken = {}
        for owner in self.index.of_kind(KIND, namespace):
            checkpoint = self.index.get("ConfigMap", namespace, checkpoint_name(owner["metadata"]["name"]))
            try:
                _, port = read_checkpoint(checkpoint)
            except ValueError:
                continue
            if port is not None:
                taken[owner["metadata"]["name"]] = port
        return taken


def _read(owner: Object, checkpoint: Object) -> Served | None:
    """What a router has to know of a ModelDeployment; None before it has a listener."""
    spec = ModelDeploymentSpec.model_validate(owner["spec"])
    state, port = read_checkpoint(checkpoint)
    if port is None:
        return None
    metadata, traffic = owner["metadata"], spec.traffic
    return spec, Entry(
        name=metadata["name"],
        namespace=metadata["namespace"],
        port=port,
        route=state.route,
        timeout_seconds=traffic.timeout_seconds,
        sticky_header=traffic.sticky_header,
    )


def _owners_ever(index: Index, namespace: str, router: str, owners: list[Object]) -> set[str]:
    """Owners that make a router object ours: those it has now, and those of the checkpointed past.

    A router whose ModelDeployments were all replaced between two looks carries the managed-by label (it is in the
    index only for that), so its own references count as ours.
    """
    uids = {owner["metadata"]["uid"] for owner in owners}
    for kind in ROUTER_KINDS:
        for body in index.of_router(kind.kind, namespace, router):
            uids |= {reference["uid"] for reference in body["metadata"].get("ownerReferences") or ()}
    return uids
