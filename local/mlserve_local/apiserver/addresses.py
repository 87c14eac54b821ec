"""Which cluster addresses and node ports are free."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator
from typing import Final

from mlserve_local.apiserver.errors import Obj
from mlserve_local.apiserver.registry import Registry

NODE_PORTS: Final = range(30000, 32768)


class AddressPool:
    """Looks at the stored Services for what is taken, so there is no state of its own to lose."""

    def __init__(self, cidr: str, registry: Registry) -> None:
        self.network = ipaddress.ip_network(cidr)
        self._registry = registry

    def _services(self) -> Iterator[Obj]:
        for stored in self._registry.collection(self._registry.builtin("services")):
            yield stored.data["spec"]

    def next_address(self) -> str:
        """A free cluster address."""
        taken = {spec.get("clusterIP") for spec in self._services()}
        size = self.network.num_addresses
        start = random.randrange(256, size - 2)  # noqa: S311 - spreads, protects nothing
        for offset in range(size):
            index = 16 + (start + offset) % (size - 18)
            address = str(self.network[index])
            if address not in taken:
                return address
        raise RuntimeError(f"no address left in {self.network}")

    def next_port(self, chosen: set[int]) -> int:
        """A free node port that is not in ``chosen`` either."""
        taken = {port.get("nodePort") for spec in self._services() for port in spec.get("ports") or ()} | chosen
        free = [port for port in NODE_PORTS if port not in taken]
        return random.choice(free)  # noqa: S311 - spreads, protects nothing

    def has_port(self, port: int) -> bool:
        """Whether a Service has the node port."""
        return any(p.get("nodePort") == port for spec in self._services() for p in spec.get("ports") or ())

    def is_taken(self, address: str) -> bool:
        """Whether a Service has the address."""
        return any(spec.get("clusterIP") == address for spec in self._services())
