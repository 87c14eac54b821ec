"""Which addresses a fetch may reach: the corpus of ways to say "internal"."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from mlserve_runtime.artifacts.errors import FetchError, TransientFetchError
from mlserve_runtime.artifacts.policy import FetchPolicy, is_public

INTERNAL = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::808:808"]


def resolving(*addresses: str) -> Any:
    def resolve(_host: str, port: int, **_options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused(address: str) -> None:
    with pytest.raises(FetchError, match="MLSERVE_FETCH_ALLOW"):
        FetchPolicy(resolve=resolving(address)).addresses("models.example.com", 443)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address: str) -> None:
    assert FetchPolicy(resolve=resolving(address)).addresses("models.example.com", 443) == [address]


def test_of_mixed_answers_only_the_public_ones_are_used() -> None:
    policy = FetchPolicy(resolve=resolving("10.0.0.1", "8.8.8.8", "127.0.0.1"))
    assert policy.addresses("rebinding.example.com", 443) == ["8.8.8.8"]


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost", "127.0.0.1"])
def test_other_spellings_of_localhost_are_resolved_before_they_are_judged(host: str) -> None:
    with pytest.raises(FetchError, match=r"internal addresses \(.*127\.0\.0\.1"):
        FetchPolicy().addresses(host, 443)


@pytest.mark.parametrize(
    ("allow", "host", "address", "reachable"),
    [
        pytest.param("minio.models.svc", "minio.models.svc", "10.1.2.3", True, id="host"),
        pytest.param("MinIO.models.svc", "minio.MODELS.svc", "10.1.2.3", True, id="host, any case"),
        pytest.param("minio.models.svc", "other.models.svc", "10.1.2.3", False, id="another host"),
        pytest.param("10.1.0.0/16", "minio", "10.1.2.3", True, id="network"),
        pytest.param("10.1.0.0/16", "minio", "10.2.2.3", False, id="outside of the network"),
        pytest.param("10.1.2.3", "minio", "10.1.2.3", True, id="address"),
        pytest.param("10.1.0.0/16", "minio", "::ffff:10.1.2.3", True, id="mapped address"),
        pytest.param("10.1.0.0/16, minio", "minio", "172.16.0.9", True, id="list"),
        pytest.param("fd00::/8", "minio", "fd00::1", True, id="IPv6"),
    ],
)
def test_the_operator_may_allow_hosts_and_networks(allow: str, host: str, address: str, reachable: bool) -> None:
    environment = {"MLSERVE_FETCH_ALLOW": allow}
    policy = FetchPolicy.from_environment(environment)
    policy = FetchPolicy(policy.allowed_hosts, policy.allowed_networks, resolve=resolving(address))
    if reachable:
        assert policy.addresses(host, 443) == [address]
    else:
        with pytest.raises(FetchError):
            policy.addresses(host, 443)


@pytest.mark.parametrize(
    ("environment", "scheme", "host", "allowed"),
    [
        pytest.param({}, "https", "example.com", True, id="https"),
        pytest.param({}, "http", "example.com", False, id="http"),
        pytest.param({"MLSERVE_FETCH_ALLOW": "minio"}, "http", "minio", True, id="http to an allowed host"),
        pytest.param({"MLSERVE_FETCH_ALLOW": "minio"}, "http", "example.com", False, id="http to another"),
        pytest.param(
            {"MLSERVE_FETCH_ALLOW": "127.0.0.0/8"}, "http", "127.0.0.1", True, id="http to an allowed address"
        ),
        pytest.param({"MLSERVE_FETCH_ALLOW": "127.0.0.0/8"}, "http", "localhost", False, id="http by a name"),
        pytest.param({}, "ftp", "example.com", False, id="ftp"),
        pytest.param({"MLSERVE_FETCH_HOSTS": "*.example.com"}, "https", "a.example.com", True, id="pattern"),
        pytest.param({"MLSERVE_FETCH_HOSTS": "*.example.com"}, "https", "evil.com", False, id="not in pattern"),
        pytest.param({"MLSERVE_FETCH_HOSTS": "*.example.com"}, "https", "example.com.evil.com", False, id="suffix"),
    ],
)
def test_transports(environment: dict[str, str], scheme: str, host: str, allowed: bool) -> None:
    policy = FetchPolicy.from_environment(environment)
    if allowed:
        policy.check_transport(scheme, host)
    else:
        with pytest.raises(FetchError, match=r"refused|not among"):
            policy.check_transport(scheme, host)


def test_a_name_that_does_not_resolve_may_do_so_later() -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(TransientFetchError, match="cannot be resolved"):
        FetchPolicy(resolve=resolve).addresses("nowhere.example.com", 443)


def test_schemes_can_be_narrowed() -> None:
    policy = FetchPolicy.from_environment({"MLSERVE_FETCH_SCHEMES": "s3,https"})
    policy.check_scheme("s3")
    with pytest.raises(FetchError, match="allowed are https, s3"):
        policy.check_scheme("file")


def test_a_malformed_limit_is_said() -> None:
    with pytest.raises(FetchError, match="MLSERVE_FETCH_MAX_BYTES"):
        FetchPolicy.from_environment({"MLSERVE_FETCH_MAX_BYTES": "lots"})


def test_shared_address_space_is_not_public() -> None:
    assert not is_public(ipaddress.ip_address("100.100.100.200")), "the metadata service of one cloud"
