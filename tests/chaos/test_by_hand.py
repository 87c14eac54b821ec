"""Somebody edits what the operator made, in the middle of a rollout: it is put right, or said, and nothing is lost."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator

import httpx
import pytest

from mlserve_local.up import Cluster

from .conftest import Operators
from .rollouts import TOTAL, Batch, Rollout, Stage

PATIENCE_SECONDS = 60.0
ENDLESS = 10**9
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def rollout(chaos_cluster: Cluster, operators: Operators) -> Iterator[Rollout]:
    """A good version at 50 %; requests have not begun."""
    operators.start()
    with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:
        batch = Batch(api, chaos_cluster.data_dir / "scripts", f"hand-{uuid.uuid4().hex[:6]}")
        batch.begin(1)
        (found,) = batch.rollouts
        wait(lambda: found.advance() or found.stage is Stage.COUNTING, "counting")
        yield found
        batch.delete()


def wait(probe: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_children_and_routes_are_put_right_and_the_rollout_goes_on(rollout: Rollout) -> None:
    base = f"/namespaces/{rollout.namespace}"
    router = f"/api/v1{base}/configmaps/mlserve-router"
    service = f"/api/v1{base}/services/{rollout.name}"
    routes = rollout.get(router)["data"]
    assert rollout.api.patch(router, content=json.dumps({"data": {"routes.yaml": "{}"}}), headers=MERGE).is_success
    assert rollout.api.delete(service).is_success
    wait(lambda: rollout.get(router)["data"] == routes, "the routes are what they were")
    wait(lambda: rollout.api.get(service).is_success, "the front door is back")
    wait(rollout.advance, "promoted")
    assert rollout.counted == (TOTAL, TOTAL)


def test_an_unreadable_checkpoint_is_said_and_nothing_is_touched(rollout: Rollout) -> None:
    path = f"/api/v1/namespaces/{rollout.namespace}/configmaps/{rollout.name}-rollout"
    good = rollout.get(path)["data"]["state.json"]
    before = rollout.end_state()

    def write(text: str) -> None:
        patch = json.dumps({"data": {"state.json": text}})
        assert rollout.api.patch(path, content=patch, headers=MERGE).is_success

    def ready() -> tuple[str, str]:
        conditions = rollout.get(rollout.path)["status"]["conditions"]
        return next((item["reason"], item["message"]) for item in conditions if item["type"] == "Ready")

    write('{"phase": "Sideways"}')
    wait(lambda: ready()[0] == "InvalidSpec", "the status says it")
    assert f"{rollout.name}-rollout" in ready()[1]
    after = rollout.end_state()
    assert {key: after[key] for key in ("deployments", "services", "revisions")} == {
        key: before[key] for key in ("deployments", "services", "revisions")
    }
    write(good)
    wait(rollout.advance, "promoted once it can be read again")


def test_deleted_deployments_of_both_versions_come_back_and_the_rollout_ends_well(rollout: Rollout) -> None:
    rollout.let_requests_come(ENDLESS)
    status = rollout.get(rollout.path)["status"]
    revisions = {status["stable"]["revision"], status["canary"]["revision"]}
    base = f"/apis/apps/v1/namespaces/{rollout.namespace}/deployments"
    before = {name: rollout.get(f"{base}/{name}")["metadata"]["uid"] for name in revisions}
    for name in revisions:
        assert rollout.api.delete(f"{base}/{name}").is_success

    def are_back() -> bool:
        found = {item["metadata"]["name"]: item for item in rollout.children("/apis/apps/v1", "deployments")}
        ready = {name for name, item in found.items() if item.get("status", {}).get("readyReplicas") == 1}
        return ready == revisions and not {found[name]["metadata"]["uid"] for name in revisions} & set(before.values())

    wait(are_back, "both are made anew")
    assert rollout.get(rollout.path)["status"].get("rejected", []) == [], "nobody's fault"
    wait(lambda: "has passed every step" in rollout.checkpoint().get("message", ""), "judged on what came after")
    rollout.patch({"metadata": {"annotations": {"mlserve.io/command": "promote:1"}}})
    wait(lambda: rollout.get(rollout.path)["status"]["phase"] == "Healthy", "promoted")
    assert rollout.get(rollout.path)["status"]["stable"]["revision"] == status["canary"]["revision"]
