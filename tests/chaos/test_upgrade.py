"""The operator is replaced by another version with other defaults: pods, decisions and rejections stay."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from mlserve_local.up import Cluster

from .conftest import Operators
from .rollouts import TOTAL, Batch, Object, Rollout, Stage

PATIENCE_SECONDS = 90.0
NEXT_RELEASE = "99.0.0"
OTHER_DEFAULTS = ("--no-network-policy", "--fetch-allow", "models.example.org", "--workers", "3")


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """Packages in which `mlserve` is of a later version, as the one who asks importlib is told."""
    record = tmp_path / f"mlserve-{NEXT_RELEASE}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlserve\nVersion: {NEXT_RELEASE}\n")
    return tmp_path


def test_an_upgrade_in_mid_rollout_and_after_a_rollback(
    chaos_cluster: Cluster, operators: Operators, next_release: Path
) -> None:
    with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:
        batch = Batch(api, chaos_cluster.data_dir / "scripts", f"upgrade-{uuid.uuid4().hex[:6]}")
        old = operators.start()
        batch.begin(2)
        good, bad = batch.rollouts
        until(bad.advance, "rolled back")
        until(lambda: good.stage is Stage.COUNTING or (good.advance() and False), "in mid-rollout")
        until(lambda: len(bad.end_state()["deployments"]) == 1, "the rejected version's pods are gone")
        rejected, trial, remembered = pods(bad), pods(good), bad.end_state()
        assert (len(rejected), len(trial)) == (1, 2)

        operators.kill(old)
        operators.start(*OTHER_DEFAULTS, packages=next_release)
        newer = Rollout(api, batch.scripts, batch.namespace, "newer", "good")
        newer.begin()
        until(lambda: pods(newer), "the new operator is at work")
        assert {image for _, image in pods(newer)} == {f"ghcr.io/mlserve/mlserve-runtime:{NEXT_RELEASE}"}

        until(lambda: "waits for" in good.checkpoint().get("message", ""), "all is counted")
        assert pods(good) == trial, "neither version's pods were replaced"
        until(good.advance, "promoted on what both operators counted")
        assert good.counted == (TOTAL, TOTAL)
        assert pods(good) < trial, "the promoted version's pods are those that were on trial"
        assert pods(bad) == rejected
        assert bad.end_state() == remembered, "what was rejected stays rejected"
        batch.delete()


def pods(rollout: Rollout) -> set[tuple[str, str]]:
    """Identity and image of every runtime pod."""
    found = rollout.children("/api/v1", "pods")
    return {
        (pod["metadata"]["uid"], runtime(pod)["image"]) for pod in found if "deletionTimestamp" not in pod["metadata"]
    }


def runtime(pod: Object) -> Object:
    return next(item for item in pod["spec"]["containers"] if item["name"] == "runtime")


def until(probe: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
