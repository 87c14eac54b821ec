"""Install, upgrade, roll back, uninstall and reinstall with the real helm, while a model serves.

The operator runs as a pod under its own ServiceAccount, and the API server enforces the chart's rules on it: a right
that is missing shows here as a model that is not served.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "mlserve"
OLDER = Path(__file__).parent / "older"
ACCOUNT = "system:serviceaccount:mlserve-system:mlserve-operator"


def operator_uid(cluster) -> str:
    pods = cluster.get("pods", "--namespace", "mlserve-system", "--selector=app.kubernetes.io/component=operator")
    (pod,) = [item for item in pods["items"] if "deletionTimestamp" not in item["metadata"]]
    return str(pod["metadata"]["uid"])


def no_pods(cluster, namespace: str) -> bool:
    return not cluster.get("pods", "--namespace", namespace)["items"]


def forbidden(lines) -> list[str]:
    return [str(line) for line in lines if "forbidden" in str(line).lower()]


@pytest.fixture
def released(helm):
    """Whatever a test installed is gone afterwards, the definition included."""
    yield
    helm("uninstall", "mlserve", "--wait", check=False)
    helm.cluster.run("delete", "crd", "modeldeployments.mlserve.io", "--wait=false", check=False)


def test_models_serve_through_the_whole_life_of_a_release(bare_cluster, helm, model, operator_log, released):
    helm.install(OLDER)
    digits = model()
    digits.apply()
    digits.serves()
    before, first = digits.pods(), operator_uid(bare_cluster)

    with digits.stream() as stream:
        helm.upgrade(CHART)
        assert operator_uid(bare_cluster) != first
        stream.goes_on("after the upgrade")
        bare_cluster.wait(digits.is_ready, what="Ready under the new operator")
        assert digits.pods() == before

        helm("rollback", "mlserve", "--wait", "--timeout", "60s")
        stream.goes_on("after the rollback")
        helm.upgrade(CHART)

        helm("uninstall", "mlserve", "--wait", "--timeout", "60s")
        bare_cluster.wait(lambda: no_pods(bare_cluster, "mlserve-system"), what="the operator's pod to be gone")
        stream.goes_on("without an operator")
        assert digits.pods() == before

        helm.install(CHART)
        bare_cluster.kubectl(
            "--namespace", digits.namespace, "scale", "modeldeployment", "digits", "--replicas=2", timeout=30
        )
        bare_cluster.wait(lambda: len(digits.pods()) == len(before) + 1, seconds=60, what="a second pod")
        stream.goes_on("after the reinstallation")
    assert before.items() <= digits.pods().items()

    bare_cluster.kubectl("--namespace", digits.namespace, "delete", "modeldeployment", "digits", "--timeout=30s")
    bare_cluster.wait(lambda: no_pods(bare_cluster, digits.namespace), seconds=60, what="runtime and router to be gone")
    assert forbidden(operator_log()) == []


def test_watched_namespaces_need_no_cluster_wide_right(bare_cluster, helm, model, operator_log, released):
    inside, outside = model("team-a"), model("team-b")
    helm.install(CHART, "--set", "watchNamespaces={team-a}", "--set", "rbac.aggregateRoles=false")
    assert bare_cluster.get("clusterrolebindings", "--selector=app.kubernetes.io/part-of=mlserve")["items"] == []
    for digits in (outside, inside):
        digits.apply()
    inside.serves()
    assert "status" not in outside.resource()
    assert not outside.pods()
    assert forbidden(operator_log()) == []


def test_helm_test_waits_for_an_operator_that_was_installed_a_moment_ago(helm, released):
    helm("install", "mlserve", CHART, "--create-namespace")
    answer = helm("test", "mlserve", "--timeout", "60s")
    assert "Succeeded" in answer.stdout


def test_a_second_replica_comes_and_goes(bare_cluster, helm, released):
    """Back to Recreate, the API server refuses what it filled in for RollingUpdate unless the chart takes it away."""

    def strategy() -> str:
        return str(bare_cluster.get("deployment", "mlserve-operator", "-n", "mlserve-system")["spec"]["strategy"])

    helm("install", "mlserve", CHART, "--create-namespace")
    one = strategy()
    helm("upgrade", "mlserve", CHART, "--set", "replicaCount=2", "--set", "leaderElection.enabled=true")
    assert "RollingUpdate" in strategy()
    helm("rollback", "mlserve")
    assert strategy() == one == "{'type': 'Recreate'}"


RIGHTS = {
    "serve models": (["patch", "modeldeployments.mlserve.io", "--subresource=status"], "yes"),
    "make deployments": (["create", "deployments.apps"], "yes"),
    "write a spec": (["patch", "modeldeployments.mlserve.io"], "no"),
    "list secrets": (["list", "secrets"], "no"),
    "delete secrets": (["delete", "secrets"], "no"),
    "run in pods": (["create", "pods", "--subresource=exec"], "no"),
    "make pods": (["create", "pods"], "no"),
    "grant rights": (["create", "rolebindings.rbac.authorization.k8s.io"], "no"),
    "mint tokens": (["create", "serviceaccounts", "--subresource=token"], "no"),
    "delete the definition": (["delete", "customresourcedefinitions.apiextensions.k8s.io"], "no"),
}


def test_rights_are_the_least_and_people_get_theirs(bare_cluster, helm, released):
    helm.install(CHART)

    def may(user: str, *question: str) -> str:
        answer = bare_cluster.run("auth", "can-i", *question, "--namespace=default", f"--as={user}", check=False)
        return answer.stdout.strip()

    assert {name: may(ACCOUNT, *ask) for name, (ask, _) in RIGHTS.items()} == {
        n: want for n, (_, want) in RIGHTS.items()
    }
    bare_cluster.kubectl("create", "rolebinding", "ann", "--clusterrole=view", "--user=ann", "--namespace=default")
    bare_cluster.kubectl("create", "rolebinding", "bob", "--clusterrole=edit", "--user=bob", "--namespace=default")
    asked = ("get", "create", "delete")
    assert [may("ann", verb, "modeldeployments.mlserve.io") for verb in asked] == ["yes", "no", "no"]
    assert [may("bob", verb, "modeldeployments.mlserve.io") for verb in asked] == ["yes", "yes", "yes"]
