"""What a ServiceAccount may do is what its roles say, with a token and by impersonation."""

from __future__ import annotations

import httpx
import pytest

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def robot(client: httpx.Client, namespace: str) -> dict[str, str]:
    """Headers of a ServiceAccount that may read ConfigMaps and write their status-free selves nowhere."""
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    client.post(accounts, json={"metadata": {"name": "robot"}}).raise_for_status()
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    client.post(
        f"{RBAC}/namespaces/{namespace}/roles", json={"metadata": {"name": "reader"}, "rules": rules}
    ).raise_for_status()
    binding = {
        "metadata": {"name": "robot"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
    }
    client.post(f"{RBAC}/namespaces/{namespace}/rolebindings", json=binding).raise_for_status()
    made = client.post(f"{accounts}/robot/token", json={"spec": {}})
    return {"Authorization": f"Bearer {made.json()['status']['token']}"}


def test_a_token_is_its_account(client: httpx.Client, namespace: str, robot: dict[str, str]) -> None:
    base = f"/api/v1/namespaces/{namespace}"
    assert client.get(f"{base}/configmaps", headers=robot).status_code == 200
    assert client.get("/api", headers=robot).status_code == 200
    refused = client.post(f"{base}/configmaps", json={"metadata": {"name": "x"}}, headers=robot)
    assert refused.status_code == 403
    assert refused.json()["message"] == (
        f'configmaps is forbidden: User "system:serviceaccount:{namespace}:robot" cannot create resource "configmaps" '
        f'in API group "" in the namespace "{namespace}"'
    )
    assert client.get(f"{base}/secrets", headers=robot).status_code == 403
    assert client.get("/api/v1/configmaps", headers=robot).status_code == 403
    assert client.get("/api/v1/nodes", headers=robot).status_code == 403
    assert client.get(f"{base}/pods/x/log", headers=robot).status_code == 403
    assert client.get("/metrics", headers=robot).status_code == 403


def test_a_token_dies_with_its_account(client: httpx.Client, namespace: str, robot: dict[str, str]) -> None:
    client.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/robot").raise_for_status()
    assert client.get(f"/api/v1/namespaces/{namespace}/configmaps", headers=robot).status_code == 401


def test_only_who_may_impersonate_does(client: httpx.Client, namespace: str, robot: dict[str, str]) -> None:
    headers = {**robot, "Impersonate-User": "admin"}
    assert client.get(f"/api/v1/namespaces/{namespace}/secrets", headers=headers).status_code == 403
    as_robot = {"Impersonate-User": f"system:serviceaccount:{namespace}:robot"}
    assert client.get(f"/api/v1/namespaces/{namespace}/configmaps", headers=as_robot).status_code == 200
    assert client.get(f"/api/v1/namespaces/{namespace}/secrets", headers=as_robot).status_code == 403


def test_nobody_grants_what_they_do_not_hold(client: httpx.Client, namespace: str, robot: dict[str, str]) -> None:
    roles = f"{RBAC}/namespaces/{namespace}/roles"
    rules = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}]
    client.post(
        f"{RBAC}/namespaces/{namespace}/roles", json={"metadata": {"name": "author"}, "rules": rules}
    ).raise_for_status()
    binding = {
        "metadata": {"name": "author"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "author"},
    }
    client.post(f"{RBAC}/namespaces/{namespace}/rolebindings", json=binding).raise_for_status()
    own = {"metadata": {"name": "own"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}
    assert client.post(roles, json=own, headers=robot).status_code == 201
    more = {"metadata": {"name": "more"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}
    refused = client.post(roles, json=more, headers=robot)
    assert refused.status_code == 403
    assert "attempting to grant RBAC permissions not currently held" in refused.json()["message"]


def test_resource_names_and_aggregation(client: httpx.Client, namespace: str) -> None:
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    rules = [{"apiGroups": ["serving.example.dev"], "resources": ["modeldeployments"], "verbs": ["get", "list"]}]
    name = f"view-models-{namespace}"
    client.post(
        f"{RBAC}/clusterroles", json={"metadata": {"name": name, "labels": label}, "rules": rules}
    ).raise_for_status()
    binding = {
        "metadata": {"name": "viewer"},
        "subjects": [{"kind": "User", "name": "vera"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
    }
    client.post(f"{RBAC}/namespaces/{namespace}/rolebindings", json=binding).raise_for_status()
    path = f"/apis/serving.example.dev/v1alpha1/namespaces/{namespace}/modeldeployments"
    assert client.get(path, headers={"Impersonate-User": "vera"}).status_code == 200
    client.delete(f"{RBAC}/clusterroles/{name}").raise_for_status()
    assert client.get(path, headers={"Impersonate-User": "vera"}).status_code == 403
