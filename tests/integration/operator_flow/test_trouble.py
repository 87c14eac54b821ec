"""Bad input and bad luck: the reason is said, what serves goes on serving, and the end of the cause is enough."""

from __future__ import annotations

from typing import Any

import pytest

from ..world import ARTIFACTS, World, model  # noqa: TID252 - tests are no installed package

WRONG_DIGEST = "sha256:" + "0" * 64
BROKEN: list[Any] = [
    pytest.param({"uri": f"{ARTIFACTS}/v99"}, "ModelLoadFailed", "v99 does not exist", id="missing-artifact"),
    pytest.param({"digest": WRONG_DIGEST}, "ChecksumMismatch", WRONG_DIGEST[:20], id="wrong-digest"),
    pytest.param({"image": "registry.example/nothing:1"}, "ImagePullFailed", "registry.example/nothing:1", id="image"),
    pytest.param({"cpu": "500"}, "InsufficientResources", "no node can run pod", id="too-few-resources"),
]


def broken(change: dict[str, str]) -> dict[str, Any]:
    """The second version with something wrong."""
    body = model(version=2, rollout={"strategy": "AllAtOnce", "progressDeadlineSeconds": 10, "bakeSeconds": 0})
    spec = body["spec"]
    spec["model"] |= {key: change[key] for key in ("uri", "digest") if key in change}
    if "image" in change:
        spec["runtime"]["image"] = change["image"]
    if "cpu" in change:
        spec["runtime"]["resources"] = {"requests": {"cpu": change["cpu"]}}
    return body


@pytest.mark.parametrize(("change", "reason", "text"), BROKEN)
def test_a_broken_version_says_why_and_recovers_with_its_cause(
    world: World, change: dict[str, str], reason: str, text: str
) -> None:
    world.apply(broken(change))
    found = world.until("Ready", "False", reason, seconds=40)
    assert text in found["message"]
    assert world.condition("Available")["status"] == "False"
    warnings = world.get("events", "--field-selector", f"reason={reason}")["items"]
    assert len(warnings) >= 1
    world.apply(model(version=1, rollout={"strategy": "AllAtOnce"}))
    world.until("Ready", "True")
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def test_a_broken_second_version_leaves_the_first_alone(world: World) -> None:
    world.apply(model(version=1, revisionHistoryLimit=0))
    world.until("Ready", "True")
    before = world.get("mdep", "digits")["status"]["stable"]
    pods = world.kubectl("get", "pods", "-l", "mlserve.io/revision", "-o", "name")
    second = broken({"digest": WRONG_DIGEST})
    second["spec"]["revisionHistoryLimit"] = 0
    world.apply(second)
    found = world.until("Ready", "False", "RolledBack")
    assert "ChecksumMismatch" in str(world.get("mdep", "digits")["status"]["rejected"])
    assert before["revision"] in found["message"]
    assert world.condition("Stalled")["status"] == "True"
    assert world.condition("Available")["status"] == "True"
    world.cluster.wait(
        lambda: world.kubectl("get", "pods", "-l", "mlserve.io/revision", "-o", "name") == pods or None,
        what="the same pods, and none of the broken version",
    )
    assert world.predict().headers["x-mlserve-revision"] == before["revision"]
    world.cluster.wait(lambda: world.versions() == world.versions(), what="nothing is made and deleted in turns")
    world.apply(model(version=1))
    world.until("Ready", "True")
    assert world.get("mdep", "digits")["status"]["stable"]["revision"] == before["revision"]
    world.kubectl("delete", "mdep", "digits", "--wait=false")


REFUSED: list[Any] = [
    pytest.param({"model": {"uri": "ftp://x/y"}}, "must begin with one of s3://", id="scheme"),
    pytest.param({"traffic": {"mode": "Gateway"}}, "mode Gateway needs gateway.parentRefs", id="gateway"),
    pytest.param({"traffic": {"mode": "Direct"}}, "cannot split requests", id="direct-canary"),
    pytest.param({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "minReplicas must not be above", id="bounds"),
    pytest.param({"rollout": {"steps": [{"weight": 50}, {"weight": 5}]}}, "must rise from step to step", id="steps"),
    pytest.param({"replicas": -1}, "spec.replicas", id="negative"),
    pytest.param({"replicas": "two"}, "spec.replicas", id="type"),
]


@pytest.mark.parametrize(("change", "complaint"), REFUSED)
def test_a_wrong_resource_is_refused_at_apply(world: World, change: dict[str, Any], complaint: str) -> None:
    import json

    body = model()
    body["spec"] |= change
    refused = world.cluster.run("apply", "--namespace", world.namespace, "-f", "-", stdin=json.dumps(body), check=False)
    assert refused.returncode != 0
    assert complaint in refused.stderr


def test_a_name_that_fits_no_service_is_refused(world: World) -> None:
    import json

    refused = world.cluster.run(
        "apply", "--namespace", world.namespace, "-f", "-", stdin=json.dumps(model("1digits")), check=False
    )
    assert refused.returncode != 0
    assert "begins with a letter" in refused.stderr
