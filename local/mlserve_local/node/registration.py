"""A node exists because it says so: it registers its Node object, renews its Lease, and repeats its status rarely."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from typing import Final

from mlserve_local.client import NETWORK_ERRORS, STRATEGIC, ApiClient, ApiError
from mlserve_local.node.settings import NodeSettings
from mlserve_local.objects import LEASES, NODES, Obj, micro_timestamp, timestamp

log = logging.getLogger(__name__)
LEASE_NAMESPACE: Final = "kube-node-lease"
LEASE_SECONDS: Final = 40
RENEW_SECONDS: Final = 10
STATUS_SECONDS: Final = 300
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def node_object(settings: NodeSettings) -> Obj:
    """The Node without its status."""
    machine = platform.machine()
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": settings.name,
            "labels": {
                "kubernetes.io/hostname": settings.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": _ARCHITECTURES.get(machine, machine),
                "node.mlserve.io/runtime": "process",
            },
        },
        "spec": {},
    }


def node_status(settings: NodeSettings, port: int, now: str, since: str) -> Obj:
    """The status a kubelet would write. `since`: when this node became ready."""
    size = settings.allocatable()
    return {
        "capacity": size,
        "allocatable": size,
        "addresses": [
            {"type": "InternalIP", "address": settings.host_ip},
            {"type": "Hostname", "address": settings.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "conditions": [
            _condition("MemoryPressure", "False", "KubeletHasSufficientMemory", now, since),
            _condition("DiskPressure", "False", "KubeletHasNoDiskPressure", now, since),
            _condition("PIDPressure", "False", "KubeletHasSufficientPID", now, since),
            _condition("Ready", "True", "KubeletReady", now, since),
        ],
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": platform.release(),
            "osImage": _os_name(),
            "containerRuntimeVersion": f"process://{platform.python_version()}",
            "kubeletVersion": "v1.36.0-mlserve-local",
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        },
    }


def _condition(kind: str, status: str, reason: str, now: str, since: str) -> Obj:
    message = "pods run as local processes" if kind == "Ready" else ""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": now,
        "lastTransitionTime": since,
    }


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


class Registration:
    """Keeps the Node object and its Lease."""

    def __init__(self, client: ApiClient, settings: NodeSettings, port: int) -> None:
        self._client, self._settings, self._port = client, settings, port
        self._since = timestamp(time.time())

    async def register(self) -> None:
        """Create the Node, or take over the one of that name; then say that it is ready."""
        try:
            await self._client.create(NODES, node_object(self._settings))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            labels = node_object(self._settings)["metadata"]["labels"]
            await self._client.patch(NODES, "", self._settings.name, {"metadata": {"labels": labels}})
        await self.renew()
        await self._write_status()

    async def _write_status(self) -> None:
        status = node_status(self._settings, self._port, timestamp(time.time()), self._since)
        await self._client.patch(
            NODES, "", self._settings.name, {"status": status}, subresource="status", kind=STRATEGIC
        )

    async def renew(self) -> None:
        """Renew the Lease by which the control plane knows that the node lives."""
        name = self._settings.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": micro_timestamp(time.time()),
        }
        try:
            await self._client.patch(LEASES, LEASE_NAMESPACE, name, {"spec": spec})
        except ApiError as error:
            if error.code != 404:
                raise
            metadata = {"name": name, "namespace": LEASE_NAMESPACE}
            body = {"apiVersion": LEASES.group_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
            await self._client.create(LEASES, body)

    async def run(self) -> None:
        """Heartbeats until cancelled; registers again if someone deleted the Node."""
        written = renewed = time.time()
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self.renew()
                now = time.time()
                # After a pause (a laptop that slept) the control plane may have given the node up: speak up.
                if now - written > STATUS_SECONDS or now - renewed > LEASE_SECONDS / 2:
                    await self._write_status()
                    written = now
                renewed = now
            except ApiError as error:
                log.warning("heartbeat: %s", error)
                if error.code == 404:
                    await self._try_register()
            except NETWORK_ERRORS as error:
                log.warning("heartbeat: %r", error)

    async def _try_register(self) -> None:
        try:
            await self.register()
        except (ApiError, *NETWORK_ERRORS) as error:
            log.warning("registration: %s", error)


def default_name() -> str:
    """The host's name as Kubernetes spells names."""
    return os.uname().nodename.lower().replace("_", "-") or "local"
