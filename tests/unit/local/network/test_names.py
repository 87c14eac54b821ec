"""The names of the Kubernetes DNS specification, and what they lead to."""

from __future__ import annotations

import pytest
from dnslib import RCODE, DNSRecord

from mlserve_local.network.dns import answer
from mlserve_local.network.names import is_cluster_name, resolve
from mlserve_local.network.proxy import ready_endpoints, wants_url

SERVICES = {
    ("n", "web"): {"clusterIP": "127.96.0.7", "ports": [{"name": "http", "port": 80}]},
    ("n", "peers"): {"clusterIP": "None", "ports": [{"name": "grpc", "port": 9}]},
    ("n", "far"): {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]},
    ("n", "out"): {"type": "ExternalName", "externalName": "example.org"},
}
ENDPOINTS = [
    {"addresses": ["127.97.0.2"], "conditions": {"ready": True}, "hostname": "a"},
    {"addresses": ["127.97.0.3"], "conditions": {"ready": True}},
    {"addresses": ["127.97.0.4"], "conditions": {"ready": False, "serving": True, "terminating": True}},
]
SLICES = [{"endpoints": ENDPOINTS, "ports": [{"name": "grpc", "port": 9000}]}]


def service(namespace, name):
    spec = SERVICES.get((namespace, name))
    return None if spec is None else {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def ask(name):
    return resolve(name, service, lambda namespace, name: SLICES)


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("web.n.svc.cluster.local", ("127.96.0.7",)),
        ("web.n.svc.cluster.local.", ("127.96.0.7",)),
        ("WEB.n.svc", ("127.96.0.7",)),
        ("peers.n.svc", ("127.97.0.2", "127.97.0.3")),
        ("a.peers.n.svc", ("127.97.0.2",)),
        ("127-97-0-3.peers.n.svc", ("127.97.0.3",)),
        ("127-97-0-9.n.pod.cluster.local", ("127.97.0.9",)),
        # An address of a real cluster leads nowhere from here: its pods do.
        ("far.n.svc", ("127.97.0.2", "127.97.0.3")),
    ],
)
def test_addresses(name, addresses):
    found = ask(name)
    assert found.known
    assert found.addresses == addresses


@pytest.mark.parametrize(
    "name", ["nope.n.svc", "web.other.svc", "b.peers.n.svc", "x.web.n.svc", "not-an-ip.n.pod", "n.svc", "svc"]
)
def test_names_that_do_not_exist(name):
    assert not ask(name).known


def test_service_records():
    (server,) = ask("_http._tcp.web.n.svc").servers
    assert (server.port, server.target) == (80, "web.n.svc.cluster.local")
    targets = {s.target for s in ask("_grpc._tcp.peers.n.svc").servers}
    assert targets == {f"127-97-0-{n}.peers.n.svc.cluster.local" for n in (2, 3)}
    assert not ask("_nope._tcp.web.n.svc").known


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "records"),
    [
        ("web.n.svc", "A", RCODE.NOERROR, ["127.96.0.7"]),
        ("web.n.svc", "AAAA", RCODE.NOERROR, []),
        ("nope.n.svc", "A", RCODE.NXDOMAIN, []),
        ("out.n.svc", "A", RCODE.NOERROR, ["example.org."]),
        ("_http._tcp.web.n.svc", "SRV", RCODE.NOERROR, ["0 1 80 web.n.svc.cluster.local."]),
    ],
)
def test_replies(name, kind, rcode, records):
    query = DNSRecord.parse(DNSRecord.question(name, kind).pack())
    reply = DNSRecord.parse(answer(query, ask).pack())
    assert reply.header.rcode == rcode
    assert reply.header.id == query.header.id
    assert [str(record.rdata) for record in reply.rr] == records


def test_only_cluster_names_are_ours():
    assert is_cluster_name("anything.cluster.local")
    assert not is_cluster_name("example.org")


def test_ready_endpoints_come_first_and_draining_ones_only_alone():
    assert ready_endpoints(SLICES, "grpc") == [("127.97.0.2", 9000), ("127.97.0.3", 9000)]
    assert ready_endpoints([{**SLICES[0], "endpoints": ENDPOINTS[2:]}], "grpc") == [("127.97.0.4", 9000)]
    assert ready_endpoints(SLICES, "other") == []


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([{"port": 80}], 80),
        ([{"port": 8080}, {"port": 443, "protocol": "TCP"}], 443),
        ([{"port": 53, "protocol": "UDP"}], None),
        ([{"port": 8080}], None),
    ],
)
def test_privileged_ports_get_a_url(ports, expected):
    assert wants_url({"spec": {"ports": ports}}) == expected
