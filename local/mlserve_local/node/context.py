"""What a container may ask of the pod it belongs to and of the node: the seam between both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mlserve_local.client import ApiClient, ApiError
from mlserve_local.events import EventRecorder
from mlserve_local.informer import Informer
from mlserve_local.node.settings import AddressPool, NodeSettings
from mlserve_local.objects import CONFIG_MAPS, SECRETS, Obj, namespace_of

NAMESPACE: Final = "namespace"


@dataclass(frozen=True, slots=True)
class NodeServices:
    """Shared by all pods of the node."""

    settings: NodeSettings
    client: ApiClient
    events: EventRecorder
    config_maps: Informer
    secrets: Informer
    services: Informer
    """Indexed by NAMESPACE."""
    addresses: AddressPool

    def lookup(self, namespace: str) -> Callable[[str, str], Obj | None]:
        """Read ConfigMaps and Secrets of a namespace from the local copies."""
        sources = {"ConfigMap": self.config_maps, "Secret": self.secrets}
        return lambda kind, name: sources[kind].get(f"{namespace}/{name}")

    async def ensure(self, namespace: str, kind: str, name: str) -> None:
        """Ask the API server for an object that the watch has not told of yet: it may be as new as the pod."""
        informer, resource = (self.config_maps, CONFIG_MAPS) if kind == "ConfigMap" else (self.secrets, SECRETS)
        if informer.get(f"{namespace}/{name}") is None:
            try:
                informer.remember(await self.client.get(resource, namespace, name))
            except ApiError as error:
                if error.code != 404:
                    raise

    def services_of(self, namespace: str) -> list[Obj]:
        """Services of a namespace: a container learns their addresses when it starts."""
        return self.services.by_index(NAMESPACE, namespace)


@dataclass(slots=True)
class PodContext:
    """One pod as its containers see it."""

    node: NodeServices
    pod: Obj
    directory: Path
    changed: Callable[[], None]
    """Call after a change of a container's record: the pod's status is due."""
    pod_ip: str = ""
    volumes: dict[str, Path] = field(default_factory=dict)
    service_links: dict[str, str] = field(default_factory=dict)
    """Addresses of the namespace's Services as variables; empty where the pod wants none."""
    sources_changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Replaced by a new one whenever the pod, or a ConfigMap or Secret of its namespace, has changed."""

    @property
    def namespace(self) -> str:
        """The pod's."""
        return namespace_of(self.pod)

    def event(self, kind: str, reason: str, message: str, container: Obj | None = None, *, init: bool = False) -> None:
        """Record an event of the pod, or of one of its containers."""
        group = "initContainers" if init else "containers"
        path = f"spec.{group}{{{container['name']}}}" if container else ""
        self.node.events(self.pod, kind, reason, message, field_path=path)

    def notify_sources(self) -> None:
        """Wake containers that wait for something to be configured."""
        waiting, self.sources_changed = self.sources_changed, asyncio.Event()
        waiting.set()

    def mounts(self, container: Obj) -> dict[str, str]:
        """Mount path -> directory of this container's volumes."""
        found: dict[str, str] = {}
        for mount in container.get("volumeMounts") or ():
            directory = self.volumes.get(mount["name"])
            if directory is not None:
                found[mount["mountPath"]] = str(directory / mount["subPath"] if mount.get("subPath") else directory)
        return found
