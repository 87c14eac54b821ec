"""Every object that is built is valid for Kubernetes, and says what its builder promises."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest

from mlserve_core import wire
from mlserve_core.api.v1alpha1 import ModelDeploymentSpec
from mlserve_operator.resources.children import Wanted, build_children
from mlserve_operator.resources.metadata import runtime_selector
from mlserve_operator.resources.overlay import overlay
from mlserve_operator.resources.records import (
    build_checkpoint,
    build_feedback_keys,
    build_snapshot,
    read_checkpoint,
    read_snapshot,
)
from mlserve_operator.resources.router import build_router
from mlserve_operator.rollout.revisions import Snapshot
from mlserve_operator.rollout.state import RevisionPlan, Role, RolloutState, Route

from .conftest import make_snapshot

Object = dict[str, Any]
NEWEST = kubernetes_validate.latest_version()
GPU = {"gpu": {"count": 2, "resource": "nvidia.com/mig-1g.5gb"}}
SPECS: dict[str, Object] = {
    "minimal": {},
    "direct": {"traffic": {"mode": "Direct"}, "rollout": {"strategy": "AllAtOnce"}},
    "autoscaled": {
        "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": 4,
            "targets": {"cpuUtilization": 60, "inFlightPerReplica": 8, "queueMillis": 20},
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        }
    },
    "gpu": {"runtime": GPU, "rollout": {"maxSurgeGpus": 0}},
    "everything": {
        "model": {
            "uri": "s3://models/digits/1",
            "credentials": {"secretName": "models"},
            "digest": "sha256:" + "a" * 64,
        },
        "runtime": {
            "image": "registry/x:1",
            "device": "cuda",
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi", "cpu": 2}},
            "batching": {"maxRows": 8},
            "env": [{"name": "A", "value": "1"}],
            "envFrom": [{"secretRef": {"name": "s"}}],
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "serviceAccountName": "models",
            "imagePullSecrets": [{"name": "pull"}],
        },
    },
    "claim": {"model": {"uri": "pvc://models/digits/1"}},
    "image": {"model": {"uri": "oci://registry/models/digits:1"}},
}


def children_of(
    owner: Object, spec: Object, size: tuple[int, int | None] = (2, None), *, port: int | None = 10_000
) -> list[Object]:
    owner = {**owner, "spec": {**owner["spec"], **spec}}
    snapshot = make_snapshot(owner)
    return build_children(
        Wanted(
            owner=owner,
            spec=ModelDeploymentSpec.model_validate(owner["spec"]),
            plans=[RevisionPlan(revision=snapshot.revision, role=Role.STABLE, replicas=size[0], ceiling=size[1])],
            snapshots={snapshot.revision: snapshot},
            route=Route(weights={snapshot.revision: 100}),
            router="mlserve-router",
            port=port,
            digests={snapshot.revision: "sha256:abc"},
            comparison={"rolloutId": "x", "profile": {}},
        )
    )


def one(children: list[Object], kind: str, name: str = "") -> Object:
    found = [body for body in children if body["kind"] == kind and name in ("", body["metadata"]["name"])]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_children_are_valid_and_owned(owner: Object, spec: Object) -> None:
    for body in children_of(owner, spec):
        kubernetes_validate.validate(body, NEWEST, strict=True)
        (reference,) = body["metadata"]["ownerReferences"]
        assert reference["uid"] == "uid-digits"
        assert "blockOwnerDeletion" not in reference, "an uninstalled operator must block nothing"
        assert "finalizers" not in body["metadata"]
        assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "mlserve-operator"
        assert len(body["metadata"]["name"]) <= 63


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_selectors_select_the_pods(owner: Object, spec: Object) -> None:
    children = children_of(owner, spec)
    deployment = one(children, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        one(children, "Service", deployment["metadata"]["name"])["spec"]["selector"],
        one(children, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_the_pod_is_restricted(owner: Object) -> None:
    """What the restricted Pod Security Standard asks for."""
    pod = one(children_of(owner, {}), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["containers"], *pod["initContainers"]]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]


def environment(container: Object) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def test_the_server_reads_what_the_fetch_wrote(owner: Object) -> None:
    pod = one(children_of(owner, {}), "Deployment")["spec"]["template"]["spec"]
    (fetch,), (server,) = pod["initContainers"], pod["containers"]
    mounts = [{m["name"]: m for m in container["volumeMounts"]} for container in (fetch, server)]
    assert mounts[0]["model"]["mountPath"] == mounts[1]["model"]["mountPath"] == wire.MODEL_DIR
    assert "readOnly" not in mounts[0]["model"]
    assert mounts[1]["model"]["readOnly"]
    assert environment(fetch)[wire.ENV_MODEL_URI] == "s3://models/digits/1"
    assert wire.ENV_MODEL_URI not in environment(server)


def test_without_a_digest_the_first_fetch_is_pinned(owner: Object) -> None:
    children = children_of(owner, {})
    deployment = one(children, "Deployment")
    name = f"{deployment['metadata']['name']}-digest"
    assert one(children, "ConfigMap", name)["data"] == {"digest": "sha256:abc"}
    server = deployment["spec"]["template"]["spec"]["containers"][0]
    source = environment(server)[wire.ENV_MODEL_DIGEST]["configMapKeyRef"]
    assert source == {"name": name, "key": "digest", "optional": True}


def test_only_batching_that_was_set_is_passed_on(owner: Object) -> None:
    pod = one(children_of(owner, SPECS["everything"]), "Deployment")["spec"]["template"]["spec"]
    given = environment(pod["containers"][0])
    assert given[wire.ENV_MAX_ROWS] == "8"
    assert wire.ENV_TIMEOUT_MILLIS not in given
    assert given["A"] == "1"


@pytest.mark.parametrize(
    ("runtime", "device"),
    [
        ({}, "cpu"),
        ({"device": "auto"}, "cpu"),
        ({"device": "auto", **GPU}, "cuda"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "cuda"),
        ({"device": "cuda"}, "cuda"),
        ({"device": "cpu"}, "cpu"),
    ],
)
def test_the_device_follows_from_what_the_pod_asks_for(owner: Object, runtime: Object, device: str) -> None:
    pod = one(children_of(owner, {"runtime": runtime}), "Deployment")["spec"]["template"]["spec"]
    assert environment(pod["containers"][0])[wire.ENV_DEVICE] == device


def test_gpus_are_limits_and_a_toleration(owner: Object) -> None:
    deployment = one(children_of(owner, SPECS["gpu"]), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/mig-1g.5gb"] == resources["requests"]["nvidia.com/mig-1g.5gb"] == 2
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize(("uri", "field"), [("claim", "persistentVolumeClaim"), ("image", "image")])
def test_mounted_artifacts_are_only_verified(owner: Object, uri: str, field: str) -> None:
    pod = one(children_of(owner, SPECS[uri]), "Deployment")["spec"]["template"]["spec"]
    assert field in next(volume for volume in pod["volumes"] if volume["name"] == "model")
    for container in [*pod["containers"], *pod["initContainers"]]:
        mount = next(item for item in container["volumeMounts"] if item["name"] == "model")
        assert mount["readOnly"]
        assert mount.get("subPath") == ("digits/1" if uri == "claim" else None)


def test_the_front_door_leads_to_the_router_or_to_one_revision(owner: Object) -> None:
    routed = one(children_of(owner, {}), "Service", "digits")
    assert routed["spec"]["selector"][wire.LABEL_COMPONENT] == wire.COMPONENT_ROUTER
    assert {(port["port"], port["targetPort"]) for port in routed["spec"]["ports"]} == {(80, 10_000), (8081, 10_000)}
    children = children_of(owner, SPECS["direct"])
    revision = one(children, "Deployment")["metadata"]["name"]
    assert one(children, "Service", "digits")["spec"]["selector"] == runtime_selector("digits", revision)
    assert not [body for body in children if body["kind"] == "NetworkPolicy"], "clients reach these pods directly"


def test_the_autoscaler_keeps_the_floor_of_the_rollout(owner: Object) -> None:
    spec = {"autoscaling": {"minReplicas": 1, "maxReplicas": 1}}
    autoscaler = one(children_of(owner, spec), "HorizontalPodAutoscaler")
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (2, 2)


@pytest.mark.parametrize(("size", "bounds"), [((1, 1), (1, 1)), ((0, 0), None), ((3, None), (3, 5))])
def test_where_gpus_are_short_the_autoscaler_is_bound(
    owner: Object, size: tuple[int, int | None], bounds: tuple[int, int] | None
) -> None:
    spec = {"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}
    found = [body for body in children_of(owner, spec, size) if body["kind"] == "HorizontalPodAutoscaler"]
    assert [(body["spec"]["minReplicas"], body["spec"]["maxReplicas"]) for body in found] == (
        [bounds] if bounds else []
    )


@pytest.mark.parametrize(("surge", "expected"), [(None, (1, 0)), (0, (0, 1)), (1, (0, 1)), (2, (1, 0))])
def test_a_pod_is_replaced_within_the_surge(owner: Object, surge: int | None, expected: tuple[int, int]) -> None:
    rollout = {"rollout": {"maxSurgeGpus": surge}} if surge is not None else {}
    strategy = one(children_of(owner, {"runtime": GPU, **rollout}), "Deployment")["spec"]["strategy"]
    assert (strategy["rollingUpdate"]["maxSurge"], strategy["rollingUpdate"]["maxUnavailable"]) == expected


def test_an_overlay_cannot_break_the_selectors(owner: Object) -> None:
    patch = {
        "metadata": {"labels": {wire.LABEL_REVISION: "other", "team": "a"}},
        "spec": {"containers": [{"name": "runtime", "env": [{"name": "EXTRA", "value": "1"}]}, {"name": "sidecar"}]},
    }
    template = one(children_of(owner, {"runtime": {"podTemplate": patch}}), "Deployment")["spec"]["template"]
    assert template["metadata"]["labels"][wire.LABEL_REVISION].startswith("digits-")
    assert template["metadata"]["labels"]["team"] == "a"
    assert [container["name"] for container in template["spec"]["containers"]] == ["runtime", "sidecar"]
    assert environment(template["spec"]["containers"][0])["EXTRA"] == "1"
    assert template["spec"]["containers"][0]["image"]


STRANGE: dict[str, Object] = {
    "no-metadata": {"metadata": None},
    "text-for-metadata": {"metadata": "mine"},
    "no-labels": {"metadata": {"labels": None}},
    "text-for-a-container": {"spec": {"containers": ["mine"]}},
    "text-for-containers": {"spec": {"containers": "mine"}},
    "container-without-name": {"spec": {"containers": [{"image": "mine"}]}},
}


@pytest.mark.parametrize("name", STRANGE)
def test_an_overlay_that_is_no_template_is_left_to_the_api_server_to_refuse(owner: Object, name: str) -> None:
    owner["spec"]["runtime"] = {"podTemplate": STRANGE[name]}
    template = make_snapshot(owner).template
    assert runtime_selector("digits").items() <= template["metadata"]["labels"].items()
    if "spec" in STRANGE[name]:
        assert "mine" in str(template["spec"]["containers"])


def test_a_revision_without_its_snapshot_is_told_of_and_left_alone(owner: Object) -> None:
    snapshot = make_snapshot(owner)
    plans = [RevisionPlan(revision=name, role=Role.STABLE, replicas=1) for name in (snapshot.revision, "digits-lost")]
    wanted = Wanted(
        owner=owner,
        spec=ModelDeploymentSpec.model_validate(owner["spec"]),
        plans=plans,
        snapshots={snapshot.revision: snapshot},
        route=Route(weights={snapshot.revision: 100}),
    )
    assert "digits-lost" in wanted.lost
    made = {body["metadata"]["name"] for body in build_children(wanted) if body["kind"] == "Deployment"}
    assert made == {snapshot.revision}


def test_an_overlay_removes_and_leaves_its_arguments_alone() -> None:
    base = {"volumes": [{"name": "a"}, {"name": "b"}], "hostNetwork": True}
    patch = {"volumes": [{"name": "a", "$patch": "delete"}], "hostNetwork": None}
    before = copy.deepcopy((base, patch))
    assert overlay(base, patch) == {"volumes": [{"name": "b"}]}
    assert (base, patch) == before


def test_records_are_valid_and_read_back(owner: Object) -> None:
    state = RolloutState(stable="digits-1", weight=5, message="x")
    checkpoint = build_checkpoint(owner, state, port=10_001, resource_version="7")
    snapshot = make_snapshot(owner, number=4)
    stored = build_snapshot(owner, snapshot)
    secret = build_feedback_keys(owner, b"k" * 32)
    for body in (checkpoint, stored, secret):
        kubernetes_validate.validate(body, NEWEST, strict=True)
    assert read_checkpoint(checkpoint) == (state, 10_001)
    assert checkpoint["metadata"]["resourceVersion"] == "7"
    assert read_checkpoint(None) == (RolloutState(), None)
    assert read_snapshot(stored) == snapshot
    assert isinstance(read_snapshot(stored), Snapshot)


def test_the_router_is_valid_and_owned_by_all_it_serves(owner: Object) -> None:
    other = {**owner, "metadata": {**owner["metadata"], "name": "fraud", "uid": "uid-a"}}
    objects = build_router(
        name="mlserve-router", namespace="team", owners=[owner, other], files={"routes.yaml": "{}"},
        replicas=2, resources=None, image="envoyproxy/envoy:v1.40-latest", log_level="warning",
    )  # fmt: skip
    assert [body["kind"] for body in objects] == ["ServiceAccount", "ConfigMap", "Deployment", "PodDisruptionBudget"]
    for body in objects:
        kubernetes_validate.validate(body, NEWEST, strict=True)
        owners = body["metadata"]["ownerReferences"]
        assert [reference["name"] for reference in owners] == ["fraud", "digits"], (
            "a stable order: no write for nothing"
        )
        assert not any(reference.get("controller") for reference in owners)
