"""Rollouts through the real router under a steady stream of real images."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import yaml

from .conftest import ROOT, Object, Stream, World, model

INTERVAL = 2
ANALYSIS = {"intervalSeconds": INTERVAL, "minRequests": 50}


def nan_version(**spec: Any) -> Object:
    """The example whose outputs are NaN for dark images. It is TorchScript, which is loaded by pinned digest only."""
    example = yaml.safe_load((ROOT / "models" / "digits" / "modeldeployment-v6.yaml").read_text())
    body = model(version=6, **spec)
    body["spec"]["model"]["digest"] = example["spec"]["model"]["digest"]
    return body


def test_a_canary_climbs_without_a_failed_request_and_users_stay_where_they_are(
    world: World, stream: Callable[..., Stream], operator_pid: Callable[[], int]
) -> None:
    """The operator dies in the middle; nobody notices."""
    spec = {
        "traffic": {"stickyHeader": "x-user-id"},
        "rollout": {
            "steps": [{"weight": 50, "holdSeconds": 4}],
            "analysis": ANALYSIS,
            "autoPromote": False,
            "bakeSeconds": 60,
        },
    }
    world.apply(model(version=1, **spec))
    world.until("Ready", "True")
    with stream(rate=60, headers=lambda number: {"x-user-id": f"user-{number % 97}"}) as requests:
        requests.wait_for(50)
        world.apply(model(version=2, **spec))
        world.cluster.wait(lambda: _weight(world) == 50 or None, seconds=90, what="half of the requests")
        requests.revisions.clear()
        os.kill(operator_pid(), signal.SIGKILL)
        requests.wait_for(400)
        assert _weight(world) == 50, "promotion waits for a person"
        torn = {user: seen for user, seen in requests.revisions.items() if len(seen) > 1}
        assert not torn, "no user sees two revisions while weights hold"
        assert len({next(iter(seen)) for seen in requests.revisions.values()}) == 2
        world.kubectl("annotate", "mdep", "digits", "mlserve.io/command=promote:1")
        world.until("Ready", "True", seconds=90)
        requests.wait_for(50)
    assert requests.failures == []
    status = world.get("mdep", "digits")["status"]
    assert status["stable"]["version"] == "2"
    assert status["lastCommand"]["command"] == "promote:1"
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def test_a_broken_version_loses_its_traffic_within_two_looks(world: World, stream: Callable[..., Stream]) -> None:
    spec = {"rollout": {"steps": [{"weight": 20, "holdSeconds": 30}], "analysis": ANALYSIS}}
    world.apply(model(version=1, **spec))
    world.until("Ready", "True")
    stable = world.get("mdep", "digits")["status"]["stable"]["revision"]
    with stream(rate=100) as requests:
        requests.wait_for(100)
        world.apply(nan_version(**spec))

        def reached() -> bool:
            return any(revision not in ("", stable) for _, revision in requests.answers)

        world.cluster.wait(lambda: reached() or None, seconds=90, what="the first bad answer")
        began = time.monotonic()
        world.cluster.wait(lambda: _weight(world) == 0 or None, what="no traffic for the broken version")
        taken = time.monotonic() - began
        found = world.until("Ready", "False", "RolledBack")
    assert taken <= 2 * INTERVAL + 3
    assert stable in found["message"]
    assert [item["reason"] for item in world.get("mdep", "digits")["status"]["rejected"]] == ["AnalysisFailed"]
    assert {revision for status, revision in requests.answers if status != 200} <= {
        revision for _, revision in requests.answers if revision != stable
    }, "only the faulty model itself answered wrongly"
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def _weight(world: World) -> int:
    """Share of the canary; 0 without one."""
    status = world.get("mdep", "digits").get("status", {})
    return int(status.get("canary", {}).get("weight", 0))
