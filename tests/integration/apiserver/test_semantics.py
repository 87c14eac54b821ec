"""Behaviour that clients rely on and that the recordings touch only in part."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import CRD, MODELS, config_map, model

MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def eventually(check: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "the condition did not come true"
        threading.Event().wait(0.02)


def events(client: httpx.Client, path: str, **query: str) -> list[dict[str, Any]]:
    answer = client.get(path, params={"watch": "1", "timeoutSeconds": "1", **query})
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def test_objects_enter_and_leave_a_selection(client: httpx.Client, maps: str) -> None:
    made = client.post(maps, json=config_map("a")).json()
    for labels in ({"t": "x"}, {"t": "x", "n": "1"}, {"t": None}):
        client.patch(f"{maps}/a", json={"metadata": {"labels": labels}}, headers=MERGE).raise_for_status()
    seen = events(client, maps, labelSelector="t=x", resourceVersion=made["metadata"]["resourceVersion"])
    assert [e["type"] for e in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert seen[-1]["object"]["metadata"]["labels"] == {"n": "1", "t": "x"}


def test_table_watch_sends_columns_once(client: httpx.Client, namespace: str) -> None:
    path = MODELS.format(namespace)
    for name in "ab":
        client.post(path, json=model(name)).raise_for_status()
    answer = client.get(path, params={"watch": "1", "timeoutSeconds": "1"}, headers=TABLE)
    first, second = (json.loads(line)["object"] for line in answer.text.splitlines()[:2])
    assert first["kind"] == "Table"
    assert first["columnDefinitions"]
    assert second["columnDefinitions"] is None


def _owned(client: httpx.Client, maps: str, **reference: Any) -> str:
    owner = client.post(maps, json=config_map("owner")).json()["metadata"]["uid"]
    child = config_map("child")
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner, **reference}
    ]
    client.post(maps, json=child).raise_for_status()
    return owner


def test_foreground_deletion_waits_for_blocking_dependents(client: httpx.Client, maps: str) -> None:
    _owned(client, maps, blockOwnerDeletion=True)
    client.patch(
        f"{maps}/child", json={"metadata": {"finalizers": ["example.dev/hold"]}}, headers=MERGE
    ).raise_for_status()
    marked = client.request("DELETE", f"{maps}/owner", json={"propagationPolicy": "Foreground"}).json()
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    eventually(lambda: "deletionTimestamp" in client.get(f"{maps}/child").json()["metadata"])
    assert client.get(f"{maps}/owner").status_code == 200
    client.patch(f"{maps}/child", json={"metadata": {"finalizers": None}}, headers=MERGE).raise_for_status()
    eventually(lambda: client.get(f"{maps}/owner").status_code == 404)
    assert client.get(f"{maps}/child").status_code == 404


def test_orphaning_cuts_the_reference(client: httpx.Client, maps: str) -> None:
    _owned(client, maps)
    client.request("DELETE", f"{maps}/owner", json={"propagationPolicy": "Orphan"}).raise_for_status()
    eventually(lambda: client.get(f"{maps}/owner").status_code == 404)
    assert "ownerReferences" not in client.get(f"{maps}/child").json()["metadata"]


def test_preconditions_of_a_delete(client: httpx.Client, maps: str) -> None:
    uid = client.post(maps, json=config_map("a")).json()["metadata"]["uid"]
    wrong = client.request("DELETE", f"{maps}/a", json={"preconditions": {"uid": "1111"}})
    assert (wrong.status_code, wrong.json()["reason"]) == (409, "Conflict")
    right = client.request("DELETE", f"{maps}/a", json={"preconditions": {"uid": uid}})
    assert right.status_code == 200


def test_terminating_namespace_takes_nothing_new(client: httpx.Client, namespace: str, maps: str) -> None:
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.dev/hold"]
    client.post(maps, json=held).raise_for_status()
    assert client.delete(f"/api/v1/namespaces/{namespace}").json()["status"]["phase"] == "Terminating"
    refused = client.post(maps, json=config_map("late"))
    assert refused.status_code == 403
    assert refused.json()["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    eventually(lambda: "deletionTimestamp" in client.get(f"{maps}/held").json()["metadata"])
    client.patch(f"{maps}/held", json={"metadata": {"finalizers": None}}, headers=MERGE)
    eventually(lambda: client.get(f"/api/v1/namespaces/{namespace}").status_code == 404)


def test_apply_shares_and_gives_up_fields(client: httpx.Client, maps: str) -> None:
    def apply(manager: str, **data: str) -> httpx.Response:
        return client.patch(
            f"{maps}/a", params={"fieldManager": manager}, content=json.dumps(config_map("a", **data)), headers=APPLY
        )

    assert apply("one", a="1", b="1").status_code == 201
    assert apply("two", a="1").status_code == 200  # the same value is shared
    assert apply("one", b="1").json()["data"] == {"a": "1", "b": "1"}  # still owned by two
    refused = apply("two", a="1", b="2")
    assert refused.status_code == 409
    assert refused.json()["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.b'
    assert apply("two").json()["data"] == {"b": "1"}


def test_apply_to_the_status_of_a_builtin(client: httpx.Client, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    client.post(path, json=body).raise_for_status()
    status = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"readyReplicas": 1}}
    answer = client.patch(
        f"{path}/d/status", params={"fieldManager": "me"}, content=json.dumps(status), headers=APPLY
    ).json()
    assert answer["status"]["readyReplicas"] == 1
    assert answer["metadata"]["generation"] == 1
    mine = next(m for m in answer["metadata"]["managedFields"] if m["manager"] == "me")
    assert (mine["subresource"], mine["fieldsV1"]) == ("status", {"f:status": {"f:readyReplicas": {}}})


@pytest.mark.parametrize(
    ("media", "code"),
    [("application/strategic-merge-patch+json", 415), ("text/plain", 415), ("application/merge-patch+json", 200)],
)
def test_patch_types_of_custom_resources(client: httpx.Client, namespace: str, media: str, code: int) -> None:
    path = MODELS.format(namespace)
    client.post(path, json=model("m")).raise_for_status()
    answer = client.patch(f"{path}/m", content='{"spec":{"replicas":2}}', headers={"Content-Type": media})
    assert answer.status_code == code


def test_invalid_labels_and_names_are_422(client: httpx.Client, maps: str) -> None:
    bad = config_map("a")
    bad["metadata"]["labels"] = {"-x": "ok", "ok": "not ok!"}
    answer = client.post(maps, json=bad).json()
    assert answer["code"] == 422
    assert [c["field"] for c in answer["details"]["causes"]] == ["metadata.labels", "metadata.labels"]
    mismatch = client.put(f"{maps}/a", json=config_map("b"))
    assert mismatch.json()["message"] == "the name of the object (b) does not match the name on the URL (a)"


def test_lists_at_a_revision(client: httpx.Client, maps: str) -> None:
    client.post(maps, json=config_map("a"))
    then = client.get(maps).json()["metadata"]["resourceVersion"]
    client.post(maps, json=config_map("b"))
    client.delete(f"{maps}/a")
    old = client.get(maps, params={"resourceVersion": then, "resourceVersionMatch": "Exact"}).json()
    assert {"a", "kube-root-ca.crt"} == {i["metadata"]["name"] for i in old["items"]}
    future = client.get(maps, params={"resourceVersion": "999999999"})
    assert (future.status_code, future.json()["reason"]) == (504, "Timeout")


def test_ratcheting_leaves_old_values_alone(client: httpx.Client, namespace: str) -> None:
    crd = copy.deepcopy(CRD)
    group = f"{namespace}.example.dev"
    crd["metadata"]["name"] = f"things.{group}"
    crd["spec"] |= {"group": group, "names": {"plural": "things", "kind": "Thing"}}
    version = crd["spec"]["versions"][0]
    version["additionalPrinterColumns"], version["subresources"] = [], {}
    text = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": text}}}
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    client.post(crds, json=crd).raise_for_status()
    path = f"/apis/{group}/v1alpha1/namespaces/{namespace}/things"
    thing = {"apiVersion": f"{group}/v1alpha1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"a": "too long"}}
    client.post(path, json=thing).raise_for_status()
    tighter = [
        {
            "op": "add",
            "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a/maxLength",
            "value": 3,
        }
    ]
    client.patch(
        f"{crds}/things.{group}", json=tighter, headers={"Content-Type": "application/json-patch+json"}
    ).raise_for_status()
    assert client.patch(f"{path}/t", json={"spec": {"b": "x"}}, headers=MERGE).status_code == 200
    assert client.patch(f"{path}/t", json={"spec": {"a": "longer"}}, headers=MERGE).status_code == 422
    client.delete(f"{crds}/things.{group}").raise_for_status()
    eventually(lambda: client.get(path).status_code == 404)


def test_pods_stop_gracefully_once_they_have_a_node(client: httpx.Client, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 7}
    client.post("/api/v1/nodes", json={"metadata": {"name": f"n-{namespace}"}}).raise_for_status()
    client.post(pods, json={"metadata": {"name": "p"}, "spec": spec}).raise_for_status()
    target = {"target": {"kind": "Node", "name": f"n-{namespace}"}}
    assert client.post(f"{pods}/p/binding", json={"metadata": {"name": "p"}, **target}).status_code == 201
    assert client.delete(f"{pods}/p").json()["metadata"]["deletionGracePeriodSeconds"] == 7
    assert client.get(f"{pods}/p").status_code == 200
    client.delete(f"/api/v1/nodes/n-{namespace}").raise_for_status()  # nobody is left to stop it
    eventually(lambda: client.get(f"{pods}/p").status_code == 404)


def test_yaml_and_metadata_only_answers(client: httpx.Client, maps: str) -> None:
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {when: '2030-01-02'}\n"
    made = client.post(maps, content=body, headers={"Content-Type": "application/yaml", "Accept": "application/yaml"})
    assert made.status_code == 201
    assert "when: '2030-01-02'" in made.text
    accept = {"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}
    assert "data" not in client.get(f"{maps}/y", headers=accept).json()
