"""Rollouts through the real router under a steady stream of real images."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from ..world import Stream, World, model  # noqa: TID252 - tests are no installed package

INTERVAL = 2
ANALYSIS = {"intervalSeconds": INTERVAL, "minRequests": 50}


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
    assert requests.problems == []
    status = world.get("mdep", "digits")["status"]
    assert status["stable"]["version"] == "2"
    assert status["lastCommand"]["command"] == "promote:1"
    world.kubectl("delete", "mdep", "digits", "--wait=false")


def _weight(world: World) -> int:
    """Share of the canary; 0 without one."""
    status = world.get("mdep", "digits").get("status", {})
    return int(status.get("canary", {}).get("weight", 0))
