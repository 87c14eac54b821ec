"""The node itself: follows the pods bound to it and gives each a worker."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from mlserve_local.client import ApiClient
from mlserve_local.events import EventRecorder
from mlserve_local.informer import Informer, run_all
from mlserve_local.node.context import NAMESPACE, NodeServices
from mlserve_local.node.pod import PodWorker, clean_up
from mlserve_local.node.registration import Registration
from mlserve_local.node.server import NodeServer
from mlserve_local.node.settings import AddressPool, NodeSettings
from mlserve_local.node.stats import Stats
from mlserve_local.node.volumes import references
from mlserve_local.objects import CONFIG_MAPS, PODS, SECRETS, SERVICES, Obj, is_deleting, name_of, namespace_of, uid_of
from mlserve_local.processes import become_subreaper, end_orphans
from mlserve_local.program import announce_ready

log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS: Final = 3.0


class Node:
    """Everything that runs in a node process."""

    def __init__(self, client: ApiClient, settings: NodeSettings) -> None:
        self.settings = settings
        self._client = client
        self.workers: dict[str, PodWorker] = {}
        self.stats = Stats()
        self._pods = Informer(client, PODS, field_selector=f"spec.nodeName={settings.name}")
        self._config_maps = Informer(client, CONFIG_MAPS)
        self._secrets = Informer(client, SECRETS)
        self._service_objects = Informer(client, SERVICES, indexers={NAMESPACE: lambda obj: [namespace_of(obj)]})
        self._events = EventRecorder(client, "kubelet", settings.name)
        self._services = NodeServices(
            settings,
            client,
            self._events,
            self._config_maps,
            self._secrets,
            self._service_objects,
            AddressPool(settings.pod_cidr),
        )
        self._server = NodeServer(settings, self.workers, self.stats)

    async def run(self) -> None:
        """Serve until cancelled; ends every process of every pod before it returns."""
        become_subreaper()
        self._config_maps.on_change(lambda old, new: self._source_changed("ConfigMap", old, new))
        self._secrets.on_change(lambda old, new: self._source_changed("Secret", old, new))
        self._pods.on_change(self._pod_changed)
        async with self._server:
            registration = Registration(self._client, self.settings, self._server.port)
            await registration.register()
            log.info("node %s is registered, kubelet port %d", self.settings.name, self._server.port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(registration.run())
                    group.create_task(self._events.run())
                    group.create_task(self._sample())
                    sources = [self._config_maps, self._secrets, self._service_objects]
                    group.create_task(run_all(sources))
                    for source in sources:
                        await source.synced.wait()
                    group.create_task(self._pods.run())
                    await self._pods.synced.wait()
                    announce_ready(node=self.settings.name, port=self._server.port)
                    clean_up(self.settings.data_dir, {uid_of(pod) for pod in self._pods})
            finally:
                await self._shut_down()

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            worker = self.workers.get(uid_of(old or {"metadata": {}}))
            if worker is not None:
                worker.gone()
            return
        worker = self.workers.get(uid_of(new))
        if worker is None:
            # A new pod may take the name of one whose processes are still ending: they differ by UID alone.
            worker = self.workers[uid_of(new)] = PodWorker(self._services, new, self._ended)
            if is_deleting(new):
                worker.update(new)
        elif _differs(worker.context.pod, new):
            worker.update(new)
        else:
            worker.context.pod = new

    def _ended(self, uid: str) -> None:
        self.workers.pop(uid, None)

    def _source_changed(self, kind: str, old: Obj | None, new: Obj | None) -> None:
        changed = new or old
        if changed is None:
            return
        for worker in self.workers.values():
            pod = worker.context.pod
            if namespace_of(pod) == namespace_of(changed) and _may_use(pod, kind, name_of(changed)):
                worker.sources_changed()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(self.stats.next_in)
            if self.workers:
                self.stats.sample(self.workers.values())
                end_orphans()

    async def _shut_down(self) -> None:
        await asyncio.gather(*(worker.shut_down(_SHUTDOWN_SECONDS) for worker in self.workers.values()))
        end_orphans()


def _differs(old: Obj, new: Obj) -> bool:
    """Is there more to it than the status this node wrote itself?"""
    parts = ("labels", "annotations", "deletionTimestamp", "generation")
    if any(old["metadata"].get(part) != new["metadata"].get(part) for part in parts):
        return True
    return old["spec"] != new["spec"] or _foreign_conditions(old) != _foreign_conditions(new)


def _foreign_conditions(pod: Obj) -> list[tuple[str, str]]:
    gates = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return [(c["type"], c["status"]) for c in conditions if c["type"] in gates]


def _may_use(pod: Obj, kind: str, name: str) -> bool:
    if (kind, name) in references(pod):
        return True
    # Environment is fixed at start; only a container that waits for its configuration looks again.
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return any((s.get("state") or {}).get("waiting") for s in statuses)
