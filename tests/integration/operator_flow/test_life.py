"""A ModelDeployment's life, by the real kubectl: apply, predict, scale, switch, restart, delete."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..world import ARTIFACTS, Stream, World, model  # noqa: TID252 - tests are no installed package

SWITCH = {"rollout": {"strategy": "AllAtOnce", "bakeSeconds": 5}}


def test_apply_to_prediction_and_back_to_nothing(world: World) -> None:
    world.apply(model(replicas=1))
    world.until("Ready", "True", seconds=20)
    answer = world.predict()
    assert answer.status_code == 200
    (output,) = [item for item in answer.json()["outputs"] if item["name"] == "probabilities"]
    assert output["data"].index(max(output["data"])) == 0  # the first image is a nought

    body = world.get("mdep", "digits")
    status = body["status"]
    assert status["phase"] == "Healthy"
    assert status["url"] == f"http://digits.{world.namespace}.svc"
    assert status["stable"]["version"] == "1"
    assert status["stable"]["digest"].startswith("sha256:"), "the digest of the first fetch is pinned and shown"
    assert answer.headers["x-mlserve-revision"] == status["stable"]["revision"]
    assert "finalizers" not in body["metadata"]
    assert not [key for key in body["metadata"].get("annotations", {}) if "kopf" in key]

    world.kubectl("scale", "mdep", "digits", "--replicas", "2")
    world.until("Ready", "True")
    scaled = world.get("mdep", "digits")["status"]
    assert (scaled["replicas"], scaled["stable"]["readyReplicas"]) == (2, 2)
    assert scaled["stable"]["revision"] == status["stable"]["revision"], "a new size is no new revision"
    selected = world.kubectl("get", "pods", "-l", scaled["selector"], "-o", "name").split()
    assert len(selected) == 2

    world.kubectl("delete", "mdep", "digits")
    world.cluster.wait(lambda: not world.everything() or None, seconds=30, what="nothing left")


def test_a_switch_answers_every_request_and_restarts_no_pod(world: World, stream: Callable[..., Stream]) -> None:
    world.apply(model(version=1, **SWITCH))
    world.until("Ready", "True")
    first = world.get("mdep", "digits")["status"]["stable"]["revision"]
    with stream(rate=50) as requests:
        requests.wait_for(50)
        world.apply(model(version=2, **SWITCH))
        world.until("Ready", "True")
        requests.wait_for(50)
        pods = {
            pod["metadata"]["labels"]["mlserve.io/revision"]
            for pod in world.get("pods", "-l", "mlserve.io/revision")["items"]
        }
        assert first in pods, "the previous revision stays warm while the new one bakes"
        world.cluster.wait(lambda: first not in world.kubectl("get", "deployments") or None, what="baked")
        requests.wait_for(50)
    assert requests.problems == []
    second = world.get("mdep", "digits")["status"]["stable"]["revision"]
    assert requests.answering() == {first, second}
    assert world.kubectl("get", "controllerrevisions", "-o", "name").count(first) == 1, "kept for undo"
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def test_a_restart_of_the_operator_changes_nothing(world: World, operator_pid: Callable[[], int]) -> None:
    world.apply(model())
    world.until("Ready", "True")
    settled = _settled(world)
    before = operator_pid()
    os.kill(before, signal.SIGKILL)
    world.cluster.wait(lambda: operator_pid() != before or None, seconds=30, what="a new operator")
    # It is at work again when it takes up a change; whatever else it wanted to do, it has done by then.
    world.apply(model("other"))
    world.until("Ready", "True", name="other")
    after = world.versions()
    shared = {"ConfigMap/mlserve-router", "Deployment/mlserve-router", "ServiceAccount/mlserve-router",
              "PodDisruptionBudget/mlserve-router"}  # fmt: skip
    changed = {name for name, version in settled.items() if after.get(name) != version}
    assert {name for name in changed - shared if not name.startswith("Pod/mlserve-router")} == set()
    world.kubectl("delete", "mdep", "--all", "--wait=false")


def _settled(world: World) -> dict[str, str]:
    """Versions once two looks in a row agree."""
    seen: list[dict[str, str]] = [{}]

    def quiet() -> bool:
        seen.append(world.versions())
        return seen[-1] == seen[-2]

    world.cluster.wait(quiet, what="a settled namespace")
    return seen[-1]


def test_deletion_works_while_the_operator_is_down(world: World, operator_down: Callable[[], None]) -> None:
    world.apply(model())
    world.until("Ready", "True")
    operator_down()
    world.kubectl("delete", "mdep", "digits", timeout=30)
    world.cluster.wait(lambda: not world.everything() or None, seconds=30, what="nothing left")


def test_a_deleted_child_comes_back_and_an_edited_one_is_put_right(world: World) -> None:
    world.apply(model())
    world.until("Ready", "True")
    revision = world.get("mdep", "digits")["status"]["stable"]["revision"]
    world.kubectl("delete", "service", revision)
    world.cluster.wait(lambda: world.get("service", revision)["spec"]["clusterIP"] == "None", what="service is back")
    world.kubectl("patch", "service", "digits", "--type", "merge", "-p", '{"spec":{"selector":{"app":"mine"}}}')
    world.cluster.wait(
        lambda: "app.kubernetes.io/component" in world.get("service", "digits")["spec"]["selector"] or None
    )
    world.kubectl("patch", "configmap", "mlserve-router", "--type", "merge", "-p", '{"data":{"routes.yaml":"{}"}}')
    world.cluster.wait(lambda: len(world.get("configmap", "mlserve-router")["data"]["routes.yaml"]) > 2 or None)
    world.cluster.wait(world.serves, what="predictions again")
    world.kubectl("delete", "mdep", "digits", "--wait=false")


@pytest.fixture
def foreign(world: World) -> dict[str, Any]:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "digits", "annotations": {"by": "hand"}},
        "spec": {"selector": {"app": "mine"}, "ports": [{"port": 7}]},
    }
    world.apply(service)
    return service


def test_an_object_of_somebody_else_is_never_touched(world: World, foreign: dict[str, Any]) -> None:
    world.apply(model())
    found = world.until("Ready", "False", "ObjectConflict")
    assert "Service digits exists" in found["message"]
    assert world.condition("Stalled")["status"] == "True"
    live = world.get("service", "digits")
    assert live["spec"]["selector"] == foreign["spec"]["selector"]
    assert "ownerReferences" not in live["metadata"]
    world.kubectl("delete", "service", "digits")
    world.until("Ready", "True")
    world.cluster.wait(world.serves, what="predictions")
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def test_two_models_share_a_router_and_neither_disturbs_the_other(world: World, stream: Callable[..., Stream]) -> None:
    world.apply(model("digits"))
    world.until("Ready", "True")
    with stream(rate=50) as requests:
        world.apply(model("second", uri=f"{ARTIFACTS}/v2"))
        world.until("Ready", "True", name="second")
        assert world.predict("second").status_code == 200
        world.kubectl("delete", "mdep", "second")
        world.cluster.wait(
            lambda: "second" not in world.kubectl("get", "configmap", "mlserve-router", "-o", "yaml") or None
        )
        requests.wait_for(30)
    assert requests.problems == []
    deployments = world.kubectl("get", "deployments", "-l", "app.kubernetes.io/component=router", "-o", "name").split()
    assert deployments == ["deployment.apps/mlserve-router"]
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def test_a_client_cannot_choose_its_listener_by_header(world: World) -> None:
    world.apply(model())
    world.until("Ready", "True")
    answer = world.predict(**{"x-mlserve-listener": "management!", "host": "anything.example"})
    assert answer.status_code == 200
    probe = httpx.get(f"{world.url()}/config-hash", timeout=5)
    assert probe.status_code == 404, "the management port's answers are not to be had at the front door"
    world.kubectl("delete", "mdep", "digits", "--wait=false")
