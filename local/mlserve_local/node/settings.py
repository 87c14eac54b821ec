"""What a node is told at start: its name, its size, its addresses, what its images stand for."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mlserve_local.node.images import DEFAULT_IMAGES
from mlserve_local.objects import Obj

DEFAULT_CPU: Final = 64
"""Cores the node claims. Requests are reservations and models mostly wait: fifty pods of 500m fit on a laptop."""
DEFAULT_PODS: Final = 250


def physical_memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Fixed for the life of the node process."""

    name: str
    data_dir: Path
    cluster_dir: Path
    """Marks every process, see mlserve_local.processes."""
    pod_cidr: str = "127.97.0.0/16"
    host_ip: str = "127.0.0.1"
    images: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_IMAGES))
    cpu: int = DEFAULT_CPU
    memory: int = 0
    """Bytes the node claims; 0: four times the machine's, for the same reason as cpu."""
    pods: int = DEFAULT_PODS
    fake_gpus: int = 0
    backoff_base: float = 10.0
    """Seconds before the second restart of a crashing container; tests make it smaller."""
    api_server: str = ""
    port: int = 0
    """Of the kubelet API; 0: any free one."""

    def allocatable(self) -> Obj:
        """Quantities for the Node's capacity and allocatable."""
        memory = self.memory or 4 * physical_memory()
        gpus = {"nvidia.com/gpu": str(self.fake_gpus)} if self.fake_gpus else {}
        size = {"cpu": str(self.cpu), "memory": f"{memory // 1024}Ki", "pods": str(self.pods)}
        return {**size, "ephemeral-storage": "100Gi", **gpus}


class AddressPool:
    """Loopback addresses for pods. Freed ones come back last: a stale client shall not meet a new pod."""

    def __init__(self, cidr: str) -> None:
        self._network = ipaddress.ip_network(cidr)
        self._used: set[str] = set()
        self._next = 2

    def allocate(self, wanted: str = "") -> str:
        """The wanted address if it is free and in range, else the next. Raises RuntimeError when all are in use."""
        if wanted and wanted not in self._used and ipaddress.ip_address(wanted) in self._network:
            self._used.add(wanted)
            return wanted
        size = self._network.num_addresses
        for _ in range(size):
            address = str(self._network[self._next])
            self._next = self._next + 1 if self._next + 2 < size else 2
            if address not in self._used:
                self._used.add(address)
                return address
        raise RuntimeError(f"all {size} addresses of {self._network} are in use")

    def release(self, address: str) -> None:
        """Give an address back."""
        self._used.discard(address)
