"""Keeps a forwarder for each Service port, and a high-port URL on 127.0.0.1 for ports an ordinary user cannot bind.

The URL is written to the Service's annotation `mlserve.io/local-url`, where `kubectl describe` and the command line
find it; the port is remembered in the data directory so that it stays the same over a restart.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mlserve_core.wire import ANNOTATION_LOCAL_URL
from mlserve_local.client import ApiClient
from mlserve_local.network.backends import Backends
from mlserve_local.network.forwarder import Endpoint, Forwarder
from mlserve_local.network.names import has_loopback_address, is_headless
from mlserve_local.objects import (
    SERVICES,
    Obj,
    annotations_of,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
)
from mlserve_local.workqueue import WorkQueue

log = logging.getLogger(__name__)
_FIRST_PORT, _PORTS = 28000, 4000
_PRIVILEGED: Final = 1024


def ready_endpoints(slices: Sequence[Obj], port_name: str) -> list[Endpoint]:
    """Addresses of ready endpoints; if none is ready those that still serve while they terminate."""
    found: dict[bool, list[Endpoint]] = {True: [], False: []}
    for entry in slices:
        numbers = [p["port"] for p in entry.get("ports") or () if (p.get("name") or "") == port_name and p.get("port")]
        for endpoint in (entry.get("endpoints") or ()) if numbers else ():
            conditions = endpoint.get("conditions") or {}
            address = (str(endpoint["addresses"][0]), int(numbers[0]))
            if conditions.get("ready") is not False:
                found[True].append(address)
            elif conditions.get("serving") and conditions.get("terminating"):
                found[False].append(address)
    return found[True] or found[False]


def wants_url(service: Obj) -> int | None:
    """The first privileged TCP port of a Service with an address of its own: it gets a URL."""
    return next((number for number in tcp_ports(service) if number < _PRIVILEGED), None)


def tcp_ports(service: Obj) -> dict[int, str]:
    """Number -> name of the TCP ports."""
    ports = service["spec"].get("ports") or ()
    return {int(port["port"]): port.get("name") or "" for port in ports if (port.get("protocol") or "TCP") == "TCP"}


class ServiceProxy:
    """Reconciles forwarders with Services."""

    def __init__(self, client: ApiClient, backends: Backends, data_dir: Path) -> None:
        self._client, self._backends, self._services = client, backends, backends.services
        self._ports_file = data_dir / "ports.json"
        self._ports: dict[str, int] = self._load()
        self._forwarders: dict[str, dict[tuple[str, int], Forwarder]] = {}
        self._refused: set[tuple[str, int]] = set()
        self._queue = WorkQueue("service", self._reconcile, workers=2)
        self._services.on_change(self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    def _load(self) -> dict[str, int]:
        try:
            return dict(json.loads(self._ports_file.read_text()))
        except (OSError, ValueError):
            return {}

    def _changed(self, old: Obj | None, new: Obj | None) -> None:
        for service in (old, new):
            if service is not None:
                self._queue.add(key_of(service))

    def endpoints(self, key: str, port_name: str) -> Callable[[], Sequence[Endpoint]]:
        """A function that finds the present endpoints of a Service port."""
        return lambda: ready_endpoints(self._backends.of(key), port_name)

    async def _reconcile(self, key: str) -> None:
        service = self._services.get(key)
        present = self._forwarders.setdefault(key, {})
        wanted: dict[tuple[str, int], str] = {}
        url_port: int | None = None
        if service is not None and not is_deleting(service) and not is_headless(service):
            if has_loopback_address(service):
                wanted = {(service["spec"]["clusterIP"], number): name for number, name in tcp_ports(service).items()}
            url_port = wants_url(service)
        high = next((p for p in present if p[0] == "127.0.0.1"), None)
        for address in [a for a in present if a not in wanted and (a != high or url_port is None)]:
            present.pop(address).stop()
        for (host, number), name in wanted.items():
            if (host, number) not in present:
                await self._listen(key, host, number, name)
        if service is None:
            self._forwarders.pop(key, None)
            self._forget_port(key)
        elif url_port is not None:
            if high is None:
                await self._listen_high(key, tcp_ports(service)[url_port])
            await self._announce(service)

    async def _listen(self, key: str, host: str, number: int, name: str) -> None:
        forwarder = Forwarder(host, number, self.endpoints(key, name))
        try:
            await forwarder.start()
        except PermissionError:
            if (host, number) not in self._refused:
                self._refused.add((host, number))
                log.info("%s: port %d needs a right this user has not; its URL has a high port", key, number)
        except OSError as error:
            log.warning("%s: cannot listen on %s:%d: %s", key, host, number, error)
        else:
            self._forwarders[key][host, number] = forwarder

    async def _listen_high(self, key: str, name: str) -> None:
        first = self._ports.get(key) or _FIRST_PORT + zlib.crc32(key.encode()) % _PORTS
        for attempt in range(_PORTS):
            number = _FIRST_PORT + (first - _FIRST_PORT + attempt) % _PORTS
            forwarder = Forwarder("127.0.0.1", number, self.endpoints(key, name))
            try:
                await forwarder.start()
            except OSError:
                continue
            self._forwarders[key]["127.0.0.1", number] = forwarder
            self._ports[key] = number
            self._save()
            return
        log.warning("%s: no free port from %d on", key, _FIRST_PORT)

    async def _announce(self, service: Obj) -> None:
        number = next((n for host, n in self._forwarders[key_of(service)] if host == "127.0.0.1"), None)
        if number is None:
            return
        url = f"http://127.0.0.1:{number}"
        present = annotations_of(service).get(ANNOTATION_LOCAL_URL, "")
        # Another network part may serve the same cluster: one URL that works is enough, and two must not take turns.
        if present != url and not await _answers(present):
            body = {"metadata": {"annotations": {ANNOTATION_LOCAL_URL: url}}}
            await self._client.patch(SERVICES, namespace_of(service), name_of(service), body)

    def _forget_port(self, key: str) -> None:
        if self._ports.pop(key, None) is not None:
            self._save()

    def _save(self) -> None:
        self._ports_file.parent.mkdir(parents=True, exist_ok=True)
        self._ports_file.write_text(json.dumps(self._ports, indent=1, sort_keys=True))


async def _answers(url: str) -> bool:
    """Does somebody listen at the URL?"""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        return False
    try:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError:
        return False
    writer.close()
    return True
