"""What the chart renders is what Kubernetes accepts, for the oldest and the newest supported version."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mlserve_operator.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "mlserve"
OLDEST, NEWEST = "1.30.0", "1.37.0"
FOREIGN = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}  # kinds of the Prometheus operator: no built-in schema

EVERYTHING: dict[str, Any] = {
    "commonLabels": {"team": "platform"},
    "image": {"digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "crds": {"annotations": {"argocd.argoproj.io/sync-wave": "-1"}},
    "serviceAccount": {"annotations": {"example.com/role": "mlserve"}},
    "clusterDomain": "example.internal",
    "runtime": {"networkPolicy": False, "fetchAllow": ["minio.storage.svc", "10.0.0.0/8"]},
    "router": {"dnsResolver": "10.96.0.10:53", "logLevel": "info"},
    "operator": {
        "extraArgs": ["--resync-seconds=60"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    },
    "history": {"persistence": {"enabled": True, "storageClassName": "fast"}},
    "podLabels": {"tier": "control"},
    "podAnnotations": {"example.com/note": "x"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "control", "operator": "Exists", "effect": "NoSchedule"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "service": {"annotations": {"example.com/note": "x"}},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "monitoring": {
        name: {"enabled": True, "labels": {"release": "prometheus"}}
        for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboards")
    },
}

MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "replicas": {"replicaCount": 3, "leaderElection": {"enabled": True}},
    "namespaces": {"watchNamespaces": ["team-a", "team-b"], "monitoring": {"podMonitor": {"enabled": True}}},
    "bring-your-own": {
        "crds": {"install": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "history": {"persistence": {"enabled": True, "existingClaim": "mine"}},
        "podDisruptionBudget": {"enabled": False},
    },
    "crds-go-with-the-release": {"crds": {"keep": False}},
}


def by_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def deployment(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = by_kind(objects, "Deployment")
    return found


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("case", MATRIX)
def test_every_object_is_valid(render, case, version):
    objects = render(MATRIX[case], kube_version=version)
    assert objects
    for item in objects:
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("case", MATRIX)
def test_names_and_labels_are_complete_and_unique(render, case):
    objects = render(MATRIX[case])
    keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(keys) == len(set(keys))
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "mlserve"
        assert all(isinstance(value, str) for value in labels.values()), item["metadata"]["name"]


def test_lint_is_strictly_clean(helm):
    answer = subprocess.run([helm, "lint", "--strict", CHART], check=False, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_generated_files_are_up_to_date():
    subprocess.run([sys.executable, str(ROOT / "tools" / "generate.py"), "--check"], check=True, cwd=ROOT)


def test_oldest_version_is_what_the_chart_declares():
    declared = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert declared == f">={OLDEST}-0"
    assert NEWEST.rsplit(".", 1)[0] == kubernetes_validate.latest_version().rsplit(".", 1)[0]


@pytest.mark.parametrize("keep", [True, False])
def test_crd_is_the_generated_one(render, keep):
    (source,) = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    (rendered,) = by_kind(render({"crds": {"keep": keep}}), "CustomResourceDefinition")
    assert json.dumps(rendered["spec"], sort_keys=True) == json.dumps(source["spec"], sort_keys=True)
    policy = rendered["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
    assert policy == ("keep" if keep else None)


def test_all_namespaces_needs_a_cluster_role_and_no_role(render):
    objects = render()
    assert [role["metadata"]["name"] for role in by_kind(objects, "ClusterRoleBinding")] == ["mlserve-operator"]
    assert not by_kind(objects, "Role")


def test_watched_namespaces_need_roles_only(render):
    objects = render({"watchNamespaces": ["team-a", "team-b"], "rbac": {"aggregateRoles": False}})
    assert not by_kind(objects, "ClusterRole")
    assert not by_kind(objects, "ClusterRoleBinding")
    assert {role["metadata"]["namespace"] for role in by_kind(objects, "RoleBinding")} == {"team-a", "team-b"}
    args = deployment(objects)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [a for a in args if a.startswith("--namespace")] == ["--namespace=team-a", "--namespace=team-b"]


@pytest.mark.parametrize("release", ["mlserve", "team-a"])
def test_each_release_has_a_lease_of_its_own(render, release):
    """Two in one namespace, for different namespaces of models, would otherwise stand for the same office."""
    objects = render({"fullnameOverride": release, "replicaCount": 2, "leaderElection": {"enabled": True}})
    lease = f"{release}-operator"
    args = deployment(objects)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--leader-election-name={lease}" in args
    (role,) = by_kind(objects, "Role")
    assert [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule] == [[lease]]


@pytest.mark.parametrize("case", MATRIX)
def test_no_rule_is_a_wildcard_or_an_escalation(render, case):
    objects = render(MATRIX[case])
    for role in [*by_kind(objects, "Role"), *by_kind(objects, "ClusterRole")]:
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
            assert not {"pods/exec", "serviceaccounts/token"} & set(rule["resources"])
            if "secrets" in rule["resources"]:
                assert not {"list", "watch", "delete"} & set(rule["verbs"])


@pytest.mark.parametrize("case", MATRIX)
def test_every_pod_meets_the_restricted_standard(render, case):
    objects = render(MATRIX[case])
    pods = [by_kind(objects, "Pod")[0]["spec"], deployment(objects)["spec"]["template"]["spec"]]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_the_test_pod_is_not_behind_the_service(render):
    objects = render()
    (service,) = by_kind(objects, "Service")
    (pod,) = by_kind(objects, "Pod")
    assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= deployment(objects)["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("case", MATRIX)
def test_the_operator_understands_its_arguments(render, case):
    pod = deployment(render(MATRIX[case]))["spec"]["template"]["spec"]
    settings = load_settings(pod["containers"][0]["args"], {})
    values = MATRIX[case]
    assert settings.namespaces == tuple(values.get("watchNamespaces", ()))
    assert settings.leader_election == (values.get("replicaCount", 1) > 1)
    assert settings.network_policy == values.get("runtime", {}).get("networkPolicy", True)
    assert settings.cluster_domain == values.get("clusterDomain", "cluster.local")
    assert settings.management_port == pod["containers"][0]["ports"][0]["containerPort"]
    assert settings.data_dir in {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}


def test_replicas_roll_and_a_single_one_is_never_doubled(render):
    assert deployment(render())["spec"]["strategy"]["type"] == "Recreate"
    several = render(MATRIX["replicas"])
    assert deployment(several)["spec"]["strategy"]["type"] == "RollingUpdate"
    assert [b["spec"]["maxUnavailable"] for b in by_kind(several, "PodDisruptionBudget")] == [1]
    assert [r["rules"][0]["resources"] for r in by_kind(several, "Role")] == [["leases"]]


def test_prometheus_rule_points_at_the_configured_runbooks(render):
    values = {"monitoring": {"prometheusRule": {"enabled": True, "runbookUrl": "https://wiki.example/mlserve/"}}}
    (rule,) = by_kind(render(values), "PrometheusRule")
    urls = [r["annotations"]["runbook_url"] for g in rule["spec"]["groups"] for r in g["rules"] if "alert" in r]
    assert urls
    assert all(url.startswith("https://wiki.example/mlserve/") and "//" not in url[8:] for url in urls)


def test_dashboards_are_the_committed_ones(render):
    maps = by_kind(render({"monitoring": {"dashboards": {"enabled": True}}}), "ConfigMap")
    rendered = {name: json.loads(text) for m in maps for name, text in m["data"].items()}
    committed = {
        f"mlserve-{p.name}": json.loads(p.read_text()) for p in (CHART / "files" / "dashboards").glob("*.json")
    }
    assert committed
    assert rendered == committed
    assert all(m["metadata"]["labels"]["grafana_dashboard"] == "1" for m in maps)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"crds": {"instal": True}}, r"/crds.*'instal' not allowed"),
    "wrong type": ({"watchNamespaces": "team-a"}, r"/watchNamespaces.*got string, want array"),
    "not a namespace": ({"watchNamespaces": ["Team_A"]}, r"/watchNamespaces/0.*does not match"),
    "not a quantity": ({"history": {"persistence": {"size": "1GB"}}}, r"/history/persistence/size.*does not match"),
    "not a digest": ({"image": {"digest": "latest"}}, r"/image/digest.*does not match"),
    "unknown policy": ({"image": {"pullPolicy": "Sometimes"}}, r"/image/pullPolicy.*'Always', 'IfNotPresent', 'Never'"),
    "out of range": ({"operator": {"resyncSeconds": 1}}, r"/operator/resyncSeconds.*minimum"),
    "two writers": ({"replicaCount": 2}, r"replicaCount > 1 needs leaderElection.enabled=true"),
    "shared history": (
        {"replicaCount": 2, "leaderElection": {"enabled": True}, "history": {"persistence": {"enabled": True}}},
        r"replicaCount > 1 cannot share history.persistence",
    ),
    "no account": ({"serviceAccount": {"create": False}}, r"serviceAccount.name is needed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_values_are_refused_with_the_reason(render, case):
    values, message = REFUSED[case]
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        render(values)


def test_old_clusters_are_refused(render):
    with pytest.raises(ValueError, match=r"incompatible with Kubernetes v1\.29"):
        render({}, kube_version="1.29.0")


def test_schema_describes_every_value():
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)

    def missing(values: dict[str, Any], described: dict[str, Any], path: str = "") -> list[str]:
        found = []
        for key, value in values.items():
            here = described.get("properties", {}).get(key)
            if here is None or not here.get("description"):
                found.append(f"{path}{key}")
            elif isinstance(value, dict) and "properties" in here:
                found += missing(value, here, f"{path}{key}.")
        return found

    assert not missing(yaml.safe_load((CHART / "values.yaml").read_text()), schema)
