"""How many pods each revision has on its way: with an autoscaler, and where GPUs are too few for two fleets."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mlserve_local.up import Cluster

from .conftest import Operators
from .rollouts import ROLLOUT, Object, Rollout

PATIENCE_SECONDS = 90.0
ENDLESS = 10**9
PLAN: Object = {
    **ROLLOUT,
    "autoPromote": True,
    # Every pod tells the same counts here, whatever its share of the requests.
    "analysis": {"intervalSeconds": 1, "minRequests": 50, "marginPerMille": 50, "share": {"enabled": False}},
}


@pytest.fixture
def rollout(chaos_cluster: Cluster, operators: Operators) -> Iterator[Callable[[Object], Rollout]]:
    """Starts a ModelDeployment whose next version is good; requests come all the time."""
    operators.start()
    namespace = f"sizes-{uuid.uuid4().hex[:6]}"
    with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        assert api.post("/api/v1/namespaces", json=body).is_success

        def start(spec: Object) -> Rollout:
            found = Rollout(api, chaos_cluster.data_dir / "scripts", namespace, "digits", "good", spec=spec)
            found.begin()
            found.let_requests_come(ENDLESS)
            until(lambda: phase(found) == "Healthy", "version 1 serves")
            return found

        yield start
        api.delete(f"/api/v1/namespaces/{namespace}")


def until(probe: Callable[[], Any], what: str, between: Callable[[], object] = lambda: None) -> None:
    """Wait for something; look at something else all the while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        between()
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def phase(rollout: Rollout) -> str:
    return str(rollout.get(rollout.path).get("status", {}).get("phase", ""))


def sizes(rollout: Rollout) -> dict[str, int]:
    """Pods that each revision's Deployment asks for."""
    found = rollout.children("/apis/apps/v1", "deployments")
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in found}


SCALED: Object = {"autoscaling": {"minReplicas": 3, "maxReplicas": 4, "targets": {"cpuUtilization": 90}}}


@pytest.mark.parametrize("size", [{"replicas": 3}, SCALED], ids=["fixed", "autoscaled"])
def test_a_rollout_swaps_pods_where_one_gpu_is_left(rollout: Callable[[Object], Rollout], size: Object) -> None:
    """Four GPUs, three of them taken: the node itself would refuse a fifth pod."""
    digits = rollout({"runtime": {"gpu": {"count": 1}}, "rollout": {**PLAN, "maxSurgeGpus": 1}, **size})
    (first,) = sizes(digits)
    seen: list[tuple[int, int, int]] = []

    def look() -> None:
        pods = digits.children("/api/v1", "pods")
        runtime = [pod for pod in pods if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "runtime"]
        assert len(runtime) <= 4, "never more pods than GPUs, those that are ending included"
        conditions = [item for pod in runtime for item in pod["status"].get("conditions", ())]
        assert not [item for item in conditions if item.get("reason") == "Unschedulable"]
        status, size = digits.get(digits.path)["status"], sizes(digits)
        canary = status.get("canary") or {}
        position = canary.get("weight", 0), size.get(first, 0), size.get(canary.get("revision", ""), 0)
        if canary and (not seen or seen[-1] != position):
            seen.append(position)

    digits.patch({"spec": {"model": {"version": "good"}}})
    until(lambda: phase(digits) == "Baking", "promoted", look)
    (second,) = sizes(digits).keys() - {first}
    on_the_way = list(dict.fromkeys(weight for weight, *_ in seen if weight < 100))
    assert on_the_way == [0, 33, 50, 66], "requests follow the pods"
    assert [item for item in seen if item[0] == 0][-1][1:] == (3, 1), "a canary in the spare GPU"
    until(lambda: sizes(digits) == {second: 3}, "the previous version is gone", look)
    until(lambda: phase(digits) == "Healthy", "settled")


def test_an_autoscaler_owns_the_sizes(rollout: Callable[[Object], Rollout], operators: Operators) -> None:
    """Stable keeps what it ran with while it has requests, and the new revision begins with as much."""
    autoscaling = {"minReplicas": 1, "maxReplicas": 5, "targets": {"cpuUtilization": 90}}
    grown = {"behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}
    plan = {**PLAN, "autoPromote": False, "bakeSeconds": 2}
    digits = rollout({"autoscaling": {**autoscaling, **grown}, "rollout": plan})
    (first,) = sizes(digits)
    scale = f"/apis/apps/v1/namespaces/{digits.namespace}/deployments/{first}/scale"
    merge = {"content-type": "application/merge-patch+json"}
    assert digits.api.patch(scale, content='{"spec": {"replicas": 4}}', headers=merge).is_success
    until(lambda: sizes(digits)[first] == 4 and ready(digits, first) == 4, "grown by load")

    digits.patch({"spec": {"model": {"version": "good"}, "autoscaling": {"behavior": None}}})
    until(lambda: "waits for" in digits.checkpoint().get("message", ""), "all steps passed")
    (second,) = sizes(digits).keys() - {first}
    assert sizes(digits) == {first: 4, second: 2}
    assert floors(digits) == {first: 4, second: 2}, "half of the requests: half of stable's size"
    digits.patch({"metadata": {"annotations": {"mlserve.io/command": "promote:1"}}})
    until(lambda: phase(digits) == "Baking", "promoted")
    assert ready(digits, second) == 4, "all pods were there before all requests"
    until(lambda: phase(digits) == "Healthy", "settled")
    until(lambda: floors(digits) == {second: 1}, "the autoscaler is free again")
    assert scale_writes(operators) == 0, "no size was written by the operator"


def ready(rollout: Rollout, revision: str) -> int:
    found = rollout.get(f"/apis/apps/v1/namespaces/{rollout.namespace}/deployments/{revision}")
    return int(found.get("status", {}).get("readyReplicas", 0))


def floors(rollout: Rollout) -> dict[str, int]:
    found = rollout.children("/apis/autoscaling/v2", "horizontalpodautoscalers")
    return {item["metadata"]["name"]: item["spec"]["minReplicas"] for item in found}


def scale_writes(operators: Operators) -> float:
    """Writes of a Deployment's size, which alone are merge patches."""
    (port,) = (operators.ports[process.pid] for process in operators.running)
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    assert 'api_writes_total{kind="Deployment",verb="create"}' in text
    found = re.search(r'api_writes_total\{kind="Deployment",verb="merge"\} (\S+)', text)
    return float(found.group(1)) if found else 0.0
