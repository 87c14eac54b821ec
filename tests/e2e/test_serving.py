"""What a model owner does, with kubectl and mlserve, on any cluster."""

from __future__ import annotations

AT_ONCE = {"rollout": {"strategy": "AllAtOnce", "bakeSeconds": 1}}
NOWHERE = "file:///models/digits/artifacts/nowhere"


def test_apply_predict_scale(world):
    world.apply(1, autoscaling=None)
    world.until("Ready")
    assert "7" in str(world.predict(7))
    world.kubectl("scale", "modeldeployment", "digits", "--replicas=2")
    world.eventually(
        lambda: world.get("modeldeployment", "digits")["status"]["stable"]["readyReplicas"] == 2, "a second pod"
    )
    status = world.run("mlserve", "status", "digits")
    assert "digits" in status


def test_a_new_version_takes_over_and_a_broken_one_does_not(world):
    world.apply(1, **AT_ONCE)
    world.until("Ready")
    world.apply(2, **AT_ONCE)
    world.eventually(lambda: world.serves("2"), "all requests at version 2")

    world.apply(3, uri=NOWHERE, **AT_ONCE)
    world.eventually(
        lambda: world.get("modeldeployment", "digits")["status"].get("rejected"), "the broken version to be rejected"
    )
    assert world.serves("2")
    assert "7" in str(world.predict(7))

    world.apply(2, **AT_ONCE)
    world.until("Ready")


def test_an_autoscaler_owns_the_size(world):
    world.apply(1, autoscaling={"minReplicas": 1, "maxReplicas": 2, "targets": {"cpuUtilization": 70}})
    world.until("Ready")
    (autoscaler,) = world.get("horizontalpodautoscalers")["items"]
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (1, 2)
    events = world.kubectl("events", "--for=modeldeployment/digits")
    assert "digits" in events
