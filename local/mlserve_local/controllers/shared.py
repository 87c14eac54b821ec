"""What all controllers share: one local copy per kind, one event recorder each, one way to start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from mlserve_local.client import ApiClient
from mlserve_local.events import EventRecorder
from mlserve_local.informer import Indexer, Informer
from mlserve_local.objects import (
    AUTOSCALERS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Obj,
    key_of,
    namespace_of,
    owner_uid,
)
from mlserve_local.program import announce_ready
from mlserve_local.workqueue import WorkQueue

OWNER: Final = "owner"
NAMESPACE: Final = "namespace"


class Informers:
    """Local copies of everything the controllers look at."""

    def __init__(self, client: ApiClient) -> None:
        by_owner: dict[str, Indexer] = {OWNER: lambda obj: [owner_uid(obj)], NAMESPACE: lambda obj: [namespace_of(obj)]}
        by_namespace: dict[str, Indexer] = {NAMESPACE: lambda obj: [namespace_of(obj)]}
        self.pods = Informer(client, PODS, indexers=by_owner)
        self.replica_sets = Informer(client, REPLICA_SETS, indexers=by_owner)
        self.deployments = Informer(client, DEPLOYMENTS, indexers=by_namespace)
        self.services = Informer(client, SERVICES, indexers=by_namespace)
        self.endpoint_slices = Informer(client, ENDPOINT_SLICES, indexers=by_owner)
        self.endpoints = Informer(client, ENDPOINTS)
        self.nodes = Informer(client, NODES)
        self.node_leases = Informer(client, LEASES, namespace="kube-node-lease")
        self.autoscalers = Informer(client, AUTOSCALERS)
        self.jobs = Informer(client, JOBS)
        self.budgets = Informer(client, DISRUPTION_BUDGETS, indexers=by_namespace)

    def all(self) -> list[Informer]:
        """Every copy."""
        return list(vars(self).values())


class Controller(Protocol):
    """Registers its handlers when it is made; `run` works until cancelled."""

    async def run(self) -> None:
        """Work until cancelled."""


def enqueue_all(queue: WorkQueue, keys: Callable[[Obj], Iterable[str]]) -> Callable[[Obj | None, Obj | None], None]:
    """A change handler that adds the keys which the old and the new object name."""

    def changed(old: Obj | None, new: Obj | None) -> None:
        for obj in (old, new):
            if obj is not None:
                for key in keys(obj):
                    queue.add(key)

    return changed


def own_key(obj: Obj) -> list[str]:
    """An object is worked on under its own key."""
    return [key_of(obj)]


class Context:
    """What a controller is made from."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.informers = Informers(client)
        self._recorders: list[EventRecorder] = []

    def recorder(self, component: str) -> EventRecorder:
        """An event recorder in the name of a controller."""
        recorder = EventRecorder(self.client, component)
        self._recorders.append(recorder)
        return recorder

    async def run(self, controllers: Iterable[Controller]) -> None:
        """Follow the API, and start the controllers once all copies are complete."""
        async with asyncio.TaskGroup() as group:
            for informer in self.informers.all():
                group.create_task(informer.run())
            for recorder in self._recorders:
                group.create_task(recorder.run())
            for informer in self.informers.all():
                await informer.synced.wait()
            for controller in controllers:
                group.create_task(controller.run())
            announce_ready()
