"""The operator dies at any instruction, or another one takes over: the rollouts end as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from mlserve_local.up import Cluster

from .conftest import Operators
from .rollouts import TOTAL, Batch

SIDE_BY_SIDE = 6
PATIENCE_SECONDS = 120.0
LONGEST_LIFE_SECONDS = 6.0
LEADER_ELECTION = ("--leader-election", "--leader-election-namespace", "default")


@pytest.fixture
def start(chaos_cluster: Cluster) -> Iterator[Callable[[], Batch]]:
    """Starts a batch of rollouts."""
    batches = []
    with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:

        def begin() -> Batch:
            batch = Batch(api, chaos_cluster.data_dir / "scripts", f"chaos-{uuid.uuid4().hex[:6]}")
            batches.append(batch)
            batch.begin(SIDE_BY_SIDE)
            return batch

        yield begin
        for batch in batches:
            batch.delete()


def finish(batch: Batch, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """Lead a batch to its end and say what is there when everything is at rest."""
    lead(batch, seconds)
    deadline, before = time.monotonic() + PATIENCE_SECONDS, None
    while (now := batch.end_states()) != before or _unfinished(now):
        assert time.monotonic() < deadline, f"never at rest: {now}"
        before = now
        time.sleep(0.5)  # between two pictures that must be alike
    return now


def _unfinished(states: dict[str, Any]) -> bool:
    """Pods of a deleted revision go in their own time."""
    return any(len(state["deployments"]) != 1 for state in states.values())


def lead(batch: Batch, seconds: float) -> bool:
    """Lead a batch for a while; whether it came to its end."""
    deadline = time.monotonic() + seconds
    while not (ended := batch.advance()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return ended


@pytest.fixture(scope="module")
def undisturbed(chaos_cluster: Cluster) -> dict[str, Any]:
    """End states of rollouts whose operator lived all the time."""
    operators = Operators(chaos_cluster)
    operators.start()
    try:
        with httpx.Client(base_url=chaos_cluster.settings.api_url, timeout=30) as api:
            batch = Batch(api, chaos_cluster.data_dir / "scripts", "undisturbed")
            batch.begin(SIDE_BY_SIDE)
            assert lead(batch, PATIENCE_SECONDS), batch.explain()
            states = finish(batch)
            check_counts(batch)
            batch.delete()
            return states
    finally:
        operators.end()


def check_counts(batch: Batch, *, watched: bool = True) -> None:
    """Good versions were promoted on exactly what there was to count, and nothing twice.

    Bad ones stopped early, where somebody watched all the time: between two kills, or while a leader is frozen,
    traffic goes on.
    """
    for rollout in batch.rollouts:
        if rollout.version == "good":
            assert rollout.counted == (TOTAL, TOTAL), rollout.name
        else:
            assert 0 < rollout.counted[0] <= (TOTAL - 1 if watched else TOTAL), rollout.name


def test_the_undisturbed_end_is_what_the_story_says(undisturbed: dict[str, Any]) -> None:
    for name, state in undisturbed.items():
        if name.endswith("bad"):
            assert (state["phase"], state["command"]) == ("RolledBack", None)
            assert [reason for _, reason in state["rejected"]] == ["AnalysisFailed"]
        else:
            assert (state["phase"], state["rejected"]) == ("Healthy", [])
            assert state["command"] == "promote:1"
        assert state["weight"] == 100
        assert list(state["deployments"].values()) == [(1, 1)]
        assert state["generation"] == 2, "the spec is the user's alone"


def test_killed_at_random_points(
    operators: Operators, start: Callable[[], Batch], undisturbed: dict[str, Any], chaos_runs: int
) -> None:
    chance = random.Random(chaos_runs)
    kills = 0
    while kills < chaos_runs:
        batch, ended = start(), False
        while not ended and kills < chaos_runs:
            operator = operators.start()
            ended = lead(batch, chance.uniform(0.3, LONGEST_LIFE_SECONDS))
            operators.kill(operator)
            kills += 1
        operator = operators.start()
        assert lead(batch, PATIENCE_SECONDS), batch.explain()
        assert finish(batch) == undisturbed
        check_counts(batch, watched=False)
        operators.kill(operator)
        batch.delete()


def test_another_replica_takes_over(
    operators: Operators, start: Callable[[], Batch], undisturbed: dict[str, Any]
) -> None:
    """The leader is frozen in mid-rollout, another leads, and the first wakes up with what it believed before."""
    first, second = (operators.start(*LEADER_ELECTION) for _ in range(2))
    leader, standby = _by_leadership(operators, first, second)
    batch = start()
    assert not lead(batch, 6), "frozen in mid-rollout"
    os.kill(leader.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while not operators.leads(standby):
        batch.advance()
        assert time.monotonic() < deadline, "the standby never took over"
        time.sleep(0.1)
    os.kill(leader.pid, signal.SIGCONT)
    assert lead(batch, PATIENCE_SECONDS), batch.explain()
    assert finish(batch) == undisturbed
    check_counts(batch, watched=False)


def _by_leadership(
    operators: Operators, first: subprocess.Popen[bytes], second: subprocess.Popen[bytes]
) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if operators.leads(first):
            return first, second
        if operators.leads(second):
            return second, first
        time.sleep(0.1)
    pytest.fail("nobody leads")
