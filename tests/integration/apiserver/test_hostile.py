"""A broken or hostile client gets an error and harms nobody else."""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from .conftest import CRD, MODELS, Server, config_map, model

BODIES = {
    "not-json": (b"{", 400),
    "array": (b"[]", 400),
    "number": (b"1", 400),
    "null": (b"null", 400),
    "empty": (b"", 400),
    "not-utf8": (b'{"a":"\xff\xfe"}', 400),
    "nan": (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":NaN}}', 400),
    "deep": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
    "wrong-metadata": (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":[]}', 400),
    "wrong-labels": (b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a":{}}}}', 400),
    "huge": (b'{"data":"' + b"x" * (4 * 1024 * 1024) + b'"}', 413),
    "magic-only": (b"k8s\x00", 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_refused(client: httpx.Client, namespace: str, name: str) -> None:
    body, code = BODIES[name]
    media = "application/vnd.kubernetes.protobuf" if name == "magic-only" else "application/json"
    answer = client.post(f"/api/v1/namespaces/{namespace}/configmaps", content=body, headers={"Content-Type": media})
    assert answer.status_code == code, answer.text
    assert answer.json()["kind"] == "Status"
    assert client.get("/healthz").text == "ok"


def test_yaml_bombs_do_not_go_off(client: httpx.Client, namespace: str) -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    body = "\n".join(["apiVersion: v1", "kind: ConfigMap", "metadata: {name: bomb}", *lines])
    started = time.monotonic()
    answer = client.post(
        f"/api/v1/namespaces/{namespace}/configmaps", content=body, headers={"Content-Type": "application/yaml"}
    )
    assert answer.status_code == 400
    assert time.monotonic() - started < 5


def _crd(**schema: object) -> dict:
    made = copy.deepcopy(CRD)
    made["metadata"]["name"] = "broken.serving.example.dev"
    made["spec"]["names"] = {"plural": "broken", "kind": "Broken"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    made["spec"]["versions"] = [version]
    return made


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "properties": {"a": {"type": "frog"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"type": "object", "x-kubernetes-validations": [{"rule": "self."}]},
        {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
        {"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}},
    ],
    ids=["root", "no-type", "no-items", "unknown-type", "pattern", "rule", "default", "both-properties"],
)
def test_invalid_definitions_are_422(client: httpx.Client, schema: dict) -> None:
    answer = client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=_crd(**schema))
    assert answer.status_code == 422, answer.text
    assert all(c["field"].startswith("spec.") for c in answer.json()["details"]["causes"])


def test_cyclic_owners_can_be_deleted(client: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    uids = {n: client.post(path, json=config_map(n)).json()["metadata"]["uid"] for n in "ab"}
    for name, owner in (("a", "b"), ("b", "a")):
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner,
            "uid": uids[owner],
            "blockOwnerDeletion": True,
        }
        body = {"metadata": {"ownerReferences": [reference]}}
        merge = {"Content-Type": "application/merge-patch+json"}
        assert client.patch(f"{path}/{name}", json=body, headers=merge).status_code == 200
    client.request("DELETE", f"{path}/a", json={"propagationPolicy": "Foreground"}).raise_for_status()
    deadline = time.monotonic() + 10
    while any(client.get(f"{path}/{n}").status_code == 200 for n in "ab"):
        assert time.monotonic() < deadline, client.get(path).text
        threading.Event().wait(0.02)


def test_a_thousand_watches_and_a_reader_that_sleeps(server: Server, client: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    address = urlsplit(server.url)
    opened: list[socket.socket] = []
    try:
        for _ in range(1000):
            sock = socket.create_connection((address.hostname, address.port))
            sock.sendall(f"GET {path}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            opened.append(sock)
        value = "x" * 20_000
        slowest = 0.0
        for number in range(40):  # nobody reads: 1000 watches fall behind, requests must not
            started = time.monotonic()
            assert client.post(path, json=config_map(f"c{number}", v=value)).status_code == 201
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 5
        assert len(client.get(path).json()["items"]) == 41
    finally:
        for sock in opened:
            sock.close()
    assert client.get("/readyz").text == "ok"


def test_history_is_bounded_and_late_watches_get_410(client: httpx.Client, namespace: str) -> None:
    path = MODELS.format(namespace)
    first = client.post(path, json=model("m")).json()["metadata"]["resourceVersion"]
    merge = {"Content-Type": "application/merge-patch+json"}
    for number in range(90):  # of 200 kB each: more than the bytes a history may hold
        body = {"metadata": {"annotations": {"blob": f"{number}-" + "x" * 200_000}}}
        client.patch(f"{path}/m", json=body, headers=merge).raise_for_status()
    answer = client.get(path, params={"watch": "1", "resourceVersion": first, "timeoutSeconds": "1"})
    assert json.loads(answer.text.splitlines()[-1])["object"]["reason"] == "Expired"
    client.delete(f"{path}/m").raise_for_status()
