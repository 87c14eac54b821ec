"""One writer among several replicas: leadership by a Lease, so that a second replica is a warm standby.

Every write asks first whether this replica leads (execute.py), and is protected twice: a checkpoint is written by
compare-and-swap, so even a replica that has not noticed yet that it lost cannot act on an old decision.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from mlserve_operator import metrics
from mlserve_operator.kube import lease_election

if TYPE_CHECKING:
    from mlserve_operator.kube import Kube

logger = logging.getLogger(__name__)


async def lead(kube: Kube, namespace: str, lease: str, is_leader: asyncio.Event) -> None:
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
        await lease_election(kube, namespace, lease, identity, started, stopped)
