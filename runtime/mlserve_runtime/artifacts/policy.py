"""Which addresses a fetch may reach, and how much it may bring.

The address of a model comes from whoever may create a ModelDeployment; the pod that follows it stands inside the
cluster's network. Without a rule that is a way to read the cloud's metadata service or any internal API (SSRF).
So a name is resolved once, every address is judged, and the connection goes to exactly the address that was
judged: a second look-up could answer differently (DNS rebinding). Redirects go through the same door.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlserve_core import wire
from mlserve_runtime.artifacts.errors import FetchError, TransientFetchError

ENV_HOSTS: Final = "MLSERVE_FETCH_HOSTS"
"""Comma-separated host patterns; when set, only these are fetched from."""
ENV_SCHEMES: Final = "MLSERVE_FETCH_SCHEMES"
"""Comma-separated URI schemes that may be used; unset allows all that are known."""
ENV_MAX_BYTES: Final = "MLSERVE_FETCH_MAX_BYTES"
ENV_FILE_ROOT: Final = "MLSERVE_FILE_ROOT"
"""file:// URIs are resolved below this directory, as if it were the root of the file system."""

DEFAULT_MAX_BYTES: Final = 50 * 1024**3

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_MAPPED: Final = ipaddress.ip_network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Limits of a fetch. Immutable; one per process."""

    allowed_hosts: frozenset[str] = frozenset()
    """Hosts that may be private and may be reached without TLS."""
    allowed_networks: tuple[IPNetwork, ...] = ()
    """Networks that may be reached although they are private."""
    host_patterns: tuple[str, ...] = ()
    """When not empty, the only hosts fetched from (shell patterns)."""
    schemes: frozenset[str] = frozenset()
    """When not empty, the only schemes used."""
    max_bytes: int = DEFAULT_MAX_BYTES
    """Most bytes downloaded, and most bytes unpacked."""
    max_files: int = 10_000
    max_ratio: int = 200
    """Most bytes unpacked per byte of an archive (beyond the first 64 MiB)."""
    resolve: Callable[..., Iterable[Any]] = socket.getaddrinfo

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> FetchPolicy:
        """Read the policy from MLSERVE_FETCH_* variables. Raises FetchError on a malformed one."""
        hosts, networks = set(), []
        for entry in _entries(environment.get(wire.ENV_FETCH_ALLOW, "")):
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                hosts.add(entry.lower())
        try:
            max_bytes = int(environment.get(ENV_MAX_BYTES) or DEFAULT_MAX_BYTES)
        except ValueError as error:
            raise FetchError(f"{ENV_MAX_BYTES} must be a number of bytes") from error
        return cls(
            allowed_hosts=frozenset(hosts),
            allowed_networks=tuple(networks),
            host_patterns=tuple(entry.lower() for entry in _entries(environment.get(ENV_HOSTS, ""))),
            schemes=frozenset(_entries(environment.get(ENV_SCHEMES, ""))),
            max_bytes=max_bytes,
        )

    def check_scheme(self, scheme: str) -> None:
        """Raise FetchError unless URIs of this scheme may be used."""
        if self.schemes and scheme not in self.schemes:
            raise FetchError(f"scheme {scheme}:// is not allowed here; allowed are {', '.join(sorted(self.schemes))}")

    def check_transport(self, scheme: str, host: str) -> None:
        """Raise FetchError unless `host` may be reached by `scheme`: plain http only where the host is trusted."""
        host = host.lower()
        if self.host_patterns and not any(fnmatch.fnmatchcase(host, pattern) for pattern in self.host_patterns):
            raise FetchError(
                f"host {host} is not among the hosts models may come from ({', '.join(self.host_patterns)})"
            )
        if scheme == "https" or (scheme == "http" and (host in self.allowed_hosts or self._literal_allowed(host))):
            return
        raise FetchError(
            f"{scheme}://{host} is refused: models are fetched over https; "
            f"plain http only from hosts in {wire.ENV_FETCH_ALLOW} (runtime.fetchAllow of the chart)"
        )

    def addresses(self, host: str, port: int) -> list[str]:
        """Addresses of `host` that may be connected to.

        Raises:
            TransientFetchError: The name does not resolve.
            FetchError: Every address is private, link-local or otherwise internal, and not allowed.
        """
        try:
            found = self.resolve(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TransientFetchError(f"host {host} cannot be resolved: {error}") from error
        except UnicodeError as error:
            raise FetchError(f"{host[:100]!r} is no host name") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        usable = [address for address in addresses if self._may_connect(host, address)]
        if not usable:
            raise FetchError(
                f"host {host} has only internal addresses ({', '.join(addresses)}); "
                f"if that is meant, add the host or its network to {wire.ENV_FETCH_ALLOW} "
                "(runtime.fetchAllow of the chart)"
            )
        return usable

    def _may_connect(self, host: str, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        if host.lower() in self.allowed_hosts or self._in_networks(address):
            return True
        embedded = _embedded(address)
        # Behind NAT64 and in mapped addresses it is the IPv4 address that is reached; tunnels are judged by both ends.
        only_embedded = address in _NAT64 or address in _MAPPED
        return all(is_public(each) for each in (embedded if only_embedded else (address, *embedded)))

    def _literal_allowed(self, host: str) -> bool:
        try:
            return self._in_networks(ipaddress.ip_address(host))
        except ValueError:
            return False

    def _in_networks(self, address: IPAddress) -> bool:
        candidates = (address, *_embedded(address))
        return any(each in network for each in candidates for network in self.allowed_networks)


def is_public(address: IPAddress) -> bool:
    """Whether an address belongs to the public internet: not private, loopback, link-local, multicast or reserved."""
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: IPAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """IPv4 addresses that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(each for each in found if each is not None)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]
