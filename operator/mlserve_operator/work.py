"""The workers: take keys, reconcile them, and know whether they still move.

Liveness is more than a process that answers: a worker that hangs, a queue that nobody takes from, or a watch that
went silent while the world went on are told apart from an idle operator and fail the probe.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import KIND
from mlserve_operator import kube, metrics
from mlserve_operator.kube import ApiError
from mlserve_operator.reconcile import Key, ObstacleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlserve_operator.index import Index
    from mlserve_operator.kube import Kube
    from mlserve_operator.queue import WorkQueue
    from mlserve_operator.reconcile import Reconciler

logger = logging.getLogger(__name__)

RECONCILE_LIMIT_SECONDS: Final = 60.0
STUCK_SECONDS: Final = 120.0


@dataclass
class Workers:
    """Workers of one queue.

    Attributes:
        queue: where keys come from.
        reconciler: what is done with them.
        clock: monotonic seconds.
        is_leader: whether this replica may write.
    """

    queue: WorkQueue[Key]
    reconciler: Reconciler
    clock: Callable[[], float]
    is_leader: asyncio.Event = field(default_factory=asyncio.Event)
    stale: str = ""
    """Why the watch is known to be behind; empty while it keeps up."""

    async def run(self, count: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())

    def trouble(self) -> str:
        """Why the process should be restarted; empty if it should not."""
        overdue = self.queue.oldest_overdue()
        metrics.QUEUE_LENGTH.set(len(self.queue))
        metrics.QUEUE_AGE.set(overdue)
        if self.is_leader.is_set() and overdue > STUCK_SECONDS:
            return f"a key has been waiting for {overdue:.0f} s: the queue is stuck"
        return self.stale

    async def _work(self) -> None:
        while True:
            await self.is_leader.wait()
            key = await self.queue.take()
            started = self.clock()
            try:
                async with asyncio.timeout(RECONCILE_LIMIT_SECONDS):
                    await self.reconciler.reconcile(key)
            except Exception as error:  # noqa: BLE001 - one bad key must not end the operator
                self._failed(key, error)
            except asyncio.CancelledError:
                self.queue.done(key)
                raise
            else:
                self.queue.done(key)
            finally:
                metrics.RECONCILE_SECONDS.labels(key.kind).observe(self.clock() - started)

    def _failed(self, key: Key, error: Exception) -> None:
        delay = self.queue.failed(key)
        if isinstance(error, ApiError) and error.conflict:
            logger.info("%s %s/%s: somebody else wrote first, looking again", key.kind, key.namespace, key.name)
            return
        metrics.RECONCILE_ERRORS.labels(key.kind).inc()
        expected = isinstance(error, (ObstacleError, ApiError, TimeoutError))
        logger.warning(
            "%s %s/%s: %s; again in %.1f s",
            key.kind, key.namespace, key.name, error or type(error).__name__, delay,
            exc_info=None if expected else error,
        )  # fmt: skip


@dataclass
class Resync:
    """The slow look at everything: is what the watch told still what is there?"""

    api: Kube
    index: Index
    workers: Workers
    namespaces: Sequence[str]
    seconds: float
    patience: float = 30.0

    async def run(self) -> None:
        """Compare and wake, until cancelled."""
        while True:
            await asyncio.sleep(self.seconds)
            await self._compare()
            for owner in self.index.of_kind(KIND):
                metadata = owner["metadata"]
                self.workers.queue.add(Key(KIND, metadata["namespace"], metadata["name"]))

    async def _compare(self) -> None:
        listed: list[kube.Object] = []
        try:
            for namespace in self.namespaces or ("",):
                listed += await self.api.list(kube.MODEL_DEPLOYMENT, namespace)
        except ApiError as error:
            logger.warning("the slow resync could not list: %s", error)
            return
        behind = self._behind(listed)
        if behind:
            await asyncio.sleep(self.patience)  # the watch may merely be on its way
            behind = [item for item in self._behind(listed) if item in behind]
        self.workers.stale = f"the watch never told of {', '.join(behind)}" if behind else ""

    def _behind(self, listed: Sequence[kube.Object]) -> list[str]:
        behind = []
        for body in listed:
            metadata = body["metadata"]
            known = self.index.get(KIND, metadata["namespace"], metadata["name"])
            if known is None or known["metadata"]["generation"] < metadata["generation"]:
                behind.append(f"{metadata['namespace']}/{metadata['name']}")
        return behind
