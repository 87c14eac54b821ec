"""A day's work with the real kubectl."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import Server, model

APP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg}
data: {k: v}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: "example.dev/app:1"}]}
---
apiVersion: serving.example.dev/v1alpha1
kind: ModelDeployment
metadata: {name: m1}
spec: {model: {uri: "s3://models/a"}}
"""


@pytest.fixture
def kubectl(server: Server, namespace: str):
    def run(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return server.run("kubectl", "-n", namespace, *arguments, stdin=stdin, check=check)

    return run


def test_apply_is_created_unchanged_configured(kubectl) -> None:
    created = kubectl("apply", "-f", "-", stdin=APP)
    assert created.splitlines() == [
        "configmap/cfg created",
        "deployment.apps/web created",
        "modeldeployment.serving.example.dev/m1 created",
    ]
    assert kubectl("apply", "-f", "-", stdin=APP).count("unchanged") == 3
    changed = APP.replace("app:1", "app:2").replace("k: v", "k: w").replace("models/a", "models/b")
    assert kubectl("apply", "-f", "-", stdin=changed).count("configured") == 3
    assert (
        kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
        == "example.dev/app:2"
    )


def test_server_side_apply_names_the_conflicting_field(kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=APP)
    other = APP.replace("models/a", "models/other")
    refused = kubectl("apply", "--server-side", "--field-manager", "other", "-f", "-", stdin=other, check=False)
    assert 'conflict with "kubectl": .spec.model.uri' in refused
    kubectl("apply", "--server-side", "--field-manager", "other", "--force-conflicts", "-f", "-", stdin=other)


def test_a_list_can_be_applied(kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=APP)
    dumped = kubectl("get", "cm/cfg", "mdep/m1", "-o", "json")
    assert "configured" in kubectl("apply", "-f", "-", stdin=dumped.replace('"s3://models/a"', '"s3://models/z"'))


def test_get_prints_the_columns_of_the_custom_resource(kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=APP)
    header, row = kubectl("get", "mdep").splitlines()
    assert header.split() == ["NAME", "PHASE", "REPLICAS", "READY", "AGE"]
    assert row.split()[0:2] == ["m1", "1"]
    assert "deployment.apps/web" in kubectl("get", "all")
    assert "m1" in kubectl("get", "serving")


def test_watch_shows_changes(server: Server, namespace: str, kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=APP)
    command = ["kubectl", "-n", namespace, "get", "mdep", "-w", "--output-watch-events"]
    with subprocess.Popen(command, env=server.environment(), stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert "EVENT" in watch.stdout.readline()
        assert watch.stdout.readline().startswith("ADDED")
        kubectl("scale", "mdep/m1", "--replicas=3")
        assert re.match(r"MODIFIED\s+m1\s+3", watch.stdout.readline())
        kubectl("delete", "mdep", "m1")
        assert watch.stdout.readline().startswith("DELETED")
        watch.terminate()


def test_validation_errors_name_field_and_rule(kubectl) -> None:
    broken = json.dumps(model("bad", replicas=99))
    said = kubectl("apply", "-f", "-", stdin=broken, check=False)
    assert "spec.replicas: Invalid value: 99: spec.replicas in body should be less than or equal to 10" in said
    unknown = json.dumps(model("bad", nope=1))
    assert 'unknown field "spec.nope"' in kubectl("apply", "-f", "-", stdin=unknown, check=False)


def test_wait_rollout_scale_edit_and_delete(kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=APP)
    patch = '{"status":{"phase":"Ready","conditions":[{"type":"Ready","status":"True"}]}}'
    kubectl("patch", "mdep", "m1", "--subresource=status", "--type=merge", "-p", patch)
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "mdep/m1", "--timeout=10s")
    assert "condition met" in kubectl("wait", "--for=jsonpath={.status.phase}=Ready", "mdep/m1", "--timeout=10s")
    kubectl("set", "image", "deploy/web", "main=example.dev/app:3")
    kubectl("rollout", "restart", "deploy/web")
    kubectl("label", "mdep", "m1", "x=y")
    kubectl("annotate", "deploy", "web", "note=hi")
    kubectl("autoscale", "deploy", "web", "--min=1", "--max=3", "--cpu=80%")
    assert "Deployment/web" in kubectl("get", "hpa")
    refused = kubectl("scale", "deploy/web", "--current-replicas=9", "--replicas=1", check=False)
    assert "Expected replicas to be 9, was 1" in refused
    kubectl("delete", "deploy", "web", "--cascade=foreground", "--timeout=20s")
    assert "NotFound" in kubectl("get", "deploy", "web", check=False)


def test_typed_create_commands_send_protobuf(kubectl) -> None:
    kubectl("create", "cm", "x", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "s", "--from-literal=password=hunter2")
    kubectl("create", "sa", "robot")
    kubectl("create", "deployment", "d", "--image=example.dev/app", "--port=80", "--replicas=2")
    assert kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.replicas}") == "2"
    assert len(kubectl("create", "token", "robot").strip().split(".")) == 3
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    assert kubectl("auth", "can-i", "get", "pods", "--as=nobody", check=False).strip() == "no"
    assert "Username    admin" in kubectl("auth", "whoami")


def test_explain_and_describe_read_the_schema(kubectl) -> None:
    assert "Number of replicas." in kubectl("explain", "mdep.spec.replicas")
    assert "FIELD: replicas <integer>" in kubectl("explain", "deployment.spec.replicas")
    kubectl("apply", "-f", "-", stdin=APP)
    assert "Kind:         ModelDeployment" in kubectl("describe", "mdep", "m1")
    assert "modeldeployments" in kubectl("api-resources", "--api-group=serving.example.dev")


def test_what_needs_a_node_says_so(kubectl, tmp_path: Path) -> None:
    kubectl("run", "p", "--image=example.dev/app:1")
    assert kubectl("logs", "p") == ""
    assert "does not have a host assigned" in kubectl("exec", "p", "--", "ls", check=False)
    assert "metrics not available yet" in kubectl("top", "pods", check=False)  # no kubelet has told any


def test_deleting_a_namespace_empties_it(server: Server) -> None:
    server.run("kubectl", "create", "ns", "short-lived")
    server.run("kubectl", "-n", "short-lived", "apply", "-f", "-", stdin=APP)
    server.run("kubectl", "delete", "ns", "short-lived", "--timeout=20s")
    assert "No resources found" in server.run("kubectl", "get", "cm,deploy,mdep", "-n", "short-lived")
