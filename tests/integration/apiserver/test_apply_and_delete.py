"""Who gives way to whom: owners of fields under apply, watchers and namespaces under deletion."""

from __future__ import annotations

import copy
import json
from typing import Any

import httpx

from .conftest import CRD, config_map

MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def apply(client: httpx.Client, path: str, body: dict[str, Any], manager: str, **query: str) -> httpx.Response:
    return client.patch(path, params={"fieldManager": manager, **query}, content=json.dumps(body), headers=APPLY)


def test_kubectl_takes_over_what_it_applied_from_the_client(client: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = config_map("a", k="1")
    annotated = {**body, "metadata": {"name": "a", "annotations": {LAST_APPLIED: json.dumps(body)}}}
    client.post(path, params={"fieldManager": "kubectl-client-side-apply"}, json=annotated).raise_for_status()
    changed = config_map("a", k="2")
    assert apply(client, f"{path}/a", changed, "other").status_code == 409
    taken = apply(client, f"{path}/a", changed, "kubectl")
    assert taken.json()["data"] == {"k": "2"}
    said = json.loads(taken.json()["metadata"]["annotations"][LAST_APPLIED])
    assert said["data"] == {"k": "2"}
    client.patch(f"{path}/a", json={"data": {"k": "3"}}, headers=MERGE).raise_for_status()
    assert apply(client, f"{path}/a", changed, "kubectl").status_code == 409  # somebody changed it since


def test_an_empty_list_of_managers_resets_nothing(client: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    apply(client, path, config_map("a", k="1"), "one").raise_for_status()
    kept = client.patch(path, json={"metadata": {"managedFields": []}}, headers=MERGE).json()
    assert kept["metadata"]["managedFields"][0]["manager"] == "one"
    reset = client.patch(path, json={"metadata": {"managedFields": [{}]}}, headers=MERGE).json()
    assert "managedFields" not in reset["metadata"]


def test_apply_through_scale_conflicts_with_the_owner_of_replicas(client: httpx.Client, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    web = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    apply(client, path, web, "one").raise_for_status()
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "web"},
        "spec": {"replicas": 3},
    }
    refused = apply(client, f"{path}/scale", scale, "two")
    assert refused.status_code == 409
    assert refused.json()["details"]["causes"][0]["field"] == ".spec.replicas"
    assert apply(client, f"{path}/scale", scale, "two", force="true").json()["spec"] == {"replicas": 3}
    managers = {
        (m["manager"], m["operation"], m.get("subresource"))
        for m in client.get(path).json()["metadata"]["managedFields"]
        if "f:replicas" in m["fieldsV1"].get("f:spec", {})
    }
    assert managers == {("two", "Apply", "scale")}


def test_watchers_see_a_pod_leave_before_it_is_gone(client: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    revision = client.post(path, json=pod).raise_for_status().json()["metadata"]["resourceVersion"]
    client.delete(f"{path}/p").raise_for_status()
    answer = client.get(path, params={"watch": "1", "timeoutSeconds": "1", "resourceVersion": revision})
    seen = [json.loads(line) for line in answer.text.splitlines()]
    assert [e["type"] for e in seen] == ["MODIFIED", "DELETED"]
    assert all("deletionTimestamp" in e["object"]["metadata"] for e in seen)


def test_namespaces_of_the_system_stay(client: httpx.Client) -> None:
    refused = client.delete("/api/v1/namespaces/kube-system")
    assert (refused.status_code, refused.json()["reason"]) == (403, "Forbidden")


def test_a_deprecated_version_warns_with_every_answer(client: httpx.Client, namespace: str) -> None:
    crd = copy.deepcopy(CRD)
    crd["metadata"]["name"] = "olds.other.dev"
    crd["spec"]["group"] = "other.dev"
    crd["spec"]["names"] = {"plural": "olds", "kind": "Old"}
    crd["spec"]["versions"][0] |= {"deprecated": True}
    version = crd["spec"]["versions"][0]["name"]
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    client.post(crds, json=crd).raise_for_status()
    listed = client.get(f"/apis/other.dev/{version}/namespaces/{namespace}/olds").raise_for_status()
    assert listed.headers["warning"] == f'299 - "other.dev/{version} Old is deprecated"'
    client.delete(f"{crds}/olds.other.dev").raise_for_status()


def test_metadata_of_one_is_not_metadata_of_a_list(client: httpx.Client, namespace: str) -> None:
    accept = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    assert client.get(f"/api/v1/namespaces/{namespace}/configmaps", headers=accept).status_code == 406
    assert client.get(f"/api/v1/namespaces/{namespace}", headers=accept).status_code == 200
