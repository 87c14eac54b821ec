"""Killed with SIGKILL at any moment and started again, the server has every write it acknowledged."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import httpx
import pytest

from .conftest import CRD, MODELS, Server, config_map, model


@pytest.fixture
def crashing(tmp_path: Path):
    made = Server(tmp_path)
    made.start()
    yield made
    made.stop()


def test_no_acknowledged_write_is_lost(crashing: Server) -> None:
    generator = random.Random(7)
    expected: dict[str, str] = {}
    path = "/api/v1/namespaces/default/configmaps"
    for round_number in range(3):
        acknowledged: dict[str, str] = {}
        stop = threading.Event()

        def write(
            number: int = round_number, into: dict[str, str] = acknowledged, ended: threading.Event = stop
        ) -> None:
            with crashing.client() as client:
                count = 0
                while not ended.is_set():
                    name = f"c-{number}-{count}"
                    try:
                        answer = client.post(path, json=config_map(name, n=str(count)))
                    except httpx.HTTPError:
                        return
                    assert answer.status_code == 201
                    into[name] = answer.json()["metadata"]["resourceVersion"]
                    count += 1

        writer = threading.Thread(target=write)
        writer.start()
        while len(acknowledged) < 20 + generator.randrange(60):
            threading.Event().wait(0.005)
        crashing.kill()
        stop.set()
        writer.join(10)
        expected |= acknowledged
        crashing.start()
        with crashing.client() as client:
            listed = client.get(path).json()
        found = {i["metadata"]["name"]: i["metadata"]["resourceVersion"] for i in listed["items"]}
        assert {n: v for n, v in found.items() if n in expected} == expected
        assert int(listed["metadata"]["resourceVersion"]) >= max(int(v) for v in expected.values())


def test_watches_resume_or_are_told_to_list_again(crashing: Server) -> None:
    with crashing.client() as client:
        client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=CRD).raise_for_status()
        path = MODELS.format("default")
        first = client.post(path, json=model("a")).json()["metadata"]["resourceVersion"]
        last = client.post(path, json=model("b")).json()["metadata"]["resourceVersion"]
    crashing.kill()
    crashing.start()
    with crashing.client() as client:
        client.post(path, json=model("c")).raise_for_status()
        resumed = client.get(path, params={"watch": "1", "resourceVersion": last, "timeoutSeconds": "1"})
        assert [json.loads(line)["object"]["metadata"]["name"] for line in resumed.text.splitlines()] == ["c"]
        stale = client.get(path, params={"watch": "1", "resourceVersion": first, "timeoutSeconds": "1"})
        event = json.loads(stale.text.splitlines()[0])
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_tokens_survive_a_restart(crashing: Server) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    with crashing.client() as client:
        made = client.post("/api/v1/namespaces/default/serviceaccounts/default/token", json=body).json()
    token = made["status"]["token"]
    crashing.kill()
    crashing.start()
    with crashing.client() as client:
        answer = client.post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            headers={"Authorization": f"Bearer {token}"},
            json={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
    assert answer.json()["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
