"""One writer among several replicas: leadership by a Lease, so that a second replica is a warm standby.

Every write asks first whether this replica leads (execute.py). A process that was frozen, or cut off, believes for a
while that it still does, so leadership also ends by the clock, with the lease that was renewed last. And a checkpoint
is written by compare-and-swap: even a write that was under way cannot carry out an old decision.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from typing import TYPE_CHECKING

from mlserve_operator import metrics
from mlserve_operator.kube import LEASE_SECONDS, lease_election

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlserve_operator.kube import Kube

logger = logging.getLogger(__name__)


class Leadership(asyncio.Event):
    """Set while this replica leads and its lease has not run out.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._until = math.inf

    def renew(self, since: float) -> None:
        """The lease was renewed, by a request that was sent at that time."""
        self._until = since + LEASE_SECONDS

    def is_set(self) -> bool:
        """Whether this replica may write at this very moment."""
        return super().is_set() and self._clock() < self._until


async def lead(kube: Kube, namespace: str, lease: str, is_leader: Leadership) -> None:
    """Hold `is_leader` set while this replica leads; stand again after a loss. Runs until cancelled."""
    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}-{os.getpid()}"

    async def started() -> None:
        logger.info("leading as %s", identity)
        metrics.LEADER.set(1)
        is_leader.set()

    async def stopped() -> None:
        logger.warning("no longer leading: the lease could not be renewed")
        metrics.LEADER.set(0)
        is_leader.clear()

    while True:
        await lease_election(kube, namespace, lease, identity, started, stopped, is_leader.renew)
