"""Bad luck in mid-rollout that is nobody's code: the rollout stops where it is, stable serves, and status says why."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from mlserve_local.up import Cluster

from .conftest import Operators
from .rollouts import ROLLOUT, Object, Rollout

PATIENCE_SECONDS = 90.0
ENDLESS = 10**9
NOBODY = "http://127.0.0.1:9"
ANALYSIS: Object = {"intervalSeconds": 1, "minRequests": 50, "marginPerMille": 50, "errorLimit": 3}
PROMETHEUS = shutil.which("prometheus")


@pytest.fixture
def start(chaos_cluster: Cluster) -> Iterator[Callable[..., Rollout]]:
    """Starts a ModelDeployment; requests come all the time."""
    namespace = f"luck-{uuid.uuid4().hex[:6]}"
    with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        assert api.post("/api/v1/namespaces", json=body).is_success

        def begin(name: str, **analysis: object) -> Rollout:
            rollout = {**ROLLOUT, "analysis": {**ANALYSIS, **analysis}, "progressDeadlineSeconds": 10}
            found = Rollout(api, chaos_cluster.data_dir / "scripts", namespace, name, "good", spec={"rollout": rollout})
            found.begin()
            found.let_requests_come(ENDLESS)
            return found

        yield begin
        api.delete(f"/api/v1/namespaces/{namespace}")


def until(probe: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def conditions(rollout: Rollout) -> dict[str, tuple[str, str, str]]:
    body = rollout.get(rollout.path)
    found = body.get("status", {}).get("conditions", ())
    fresh = [item for item in found if item["observedGeneration"] == body["metadata"]["generation"]]
    return {item["type"]: (item["status"], item["reason"], item["message"]) for item in fresh}


def is_ready(rollout: Rollout) -> bool:
    return conditions(rollout).get("Ready", ("",))[0] == "True"


def phase(rollout: Rollout) -> str:
    return str(rollout.get(rollout.path).get("status", {}).get("phase"))


def check(address: str, query: str) -> list[Object]:
    return [{"name": "lag", "address": address, "query": query, "max": "10", "failureLimit": 2}]


def test_what_cannot_be_measured_pauses_and_what_cannot_run_is_taken_back(
    operators: Operators, start: Callable[..., Rollout]
) -> None:
    operators.start()
    queried = start("queried", prometheus=check(NOBODY, "up"))
    liar, slow, huge = start("liar"), start("slow"), start("huge")
    rollouts = [queried, liar, slow, huge]
    until(lambda: all(is_ready(rollout) for rollout in rollouts), "version 1 serves")
    stable = {rollout.name: rollout.get(rollout.path)["status"]["stable"]["revision"] for rollout in rollouts}
    for rollout, version in ((queried, "good"), (liar, "liar"), (slow, "slow")):
        rollout.patch({"spec": {"model": {"version": version}}})
    huge.patch({"spec": {"runtime": {"resources": {"requests": {"cpu": "500"}}}}})

    for rollout, words in ((queried, NOBODY), (liar, "speaks for somebody-else"), (slow, "TimeoutError")):
        until(lambda paused=rollout: phase(paused) == "Paused", f"{rollout.name} is paused")
        seen = conditions(rollout)
        assert seen["Ready"][:2] == ("False", "CanaryPaused")
        assert "could not be measured" in seen["Ready"][2]
        assert words in seen["Ready"][2]
        assert seen["Available"][0] == "True"
        status = rollout.get(rollout.path)["status"]
        assert (status["canary"]["weight"], status.get("rejected", [])) == (50, []), "nothing is held against it"

    until(lambda: phase(huge) == "RolledBack", "taken back")
    (rejection,) = huge.get(huge.path)["status"]["rejected"]
    assert rejection["reason"] == "InsufficientResources"
    assert "no node can run pod" in rejection["message"]
    assert conditions(huge)["Available"][0] == "True"
    until(lambda: set(huge.end_state()["deployments"]) == {stable["huge"]}, "only stable is left")

    nothing_to_ask = {"spec": {"rollout": {"analysis": {"prometheus": []}}}}
    queried.patch({**nothing_to_ask, "metadata": {"annotations": {"mlserve.io/command": "resume:1"}}})
    until(lambda: "has passed every step" in queried.checkpoint().get("message", ""), "it goes on and passes")


@pytest.fixture
def prometheus(operators: Operators, tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the operator every second."""
    operator = operators.start()
    targets = [{"targets": [f"127.0.0.1:{operators.ports[operator.pid]}"]}]
    scrapes = [{"job_name": "operator", "static_configs": targets, "honor_labels": True}]
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": scrapes})
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    flags = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PROMETHEUS), *flags, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")
def test_a_real_prometheus_stops_a_rollout(start: Callable[..., Rollout], prometheus: str) -> None:
    weight = 'mlserve_rollout_weight{namespace="{{namespace}}", name="{{name}}", role="canary"}'
    rollout = start("digits", prometheus=check(prometheus, weight))
    until(lambda: is_ready(rollout), "version 1 serves")
    rollout.patch({"spec": {"model": {"version": "good"}}})
    until(lambda: phase(rollout) == "RolledBack", "its weight of 50 is above the limit of 10")
    (rejection,) = rollout.get(rollout.path)["status"]["rejected"]
    assert rejection["reason"] == "AnalysisFailed"
    assert "lag: 50.0, limits -inf..10" in rejection["message"]


def test_routers_that_look_for_pods_in_the_wrong_place_are_told_of(
    operators: Operators, start: Callable[..., Rollout]
) -> None:
    """The pods are ready, as their probes say, and nobody can reach them."""
    wrong = operators.start("--cluster-domain", "nowhere.example")
    rollout = start("digits")
    until(lambda: conditions(rollout).get("Ready", ("", ""))[1] == "NoHealthyUpstream", "told")
    seen = conditions(rollout)
    assert "1 of 1 router pods reach no pod of digits-" in seen["Ready"][2]
    assert seen["Available"][:2] == ("False", "NoHealthyUpstream")
    operators.kill(wrong)
    operators.start()
    until(lambda: is_ready(rollout), "reached")
    assert conditions(rollout)["Available"][0] == "True"
