"""The workers: take keys, reconcile them, and know whether they still move.

Liveness is more than a process that answers: workers that hang, a queue that nobody takes from, or a watch that went
silent while the world went on are told apart from an idle operator and fail the probe. One that is merely behind does
not: to begin anew would put it further behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlserve_core.api.v1alpha1 import KIND
from mlserve_operator import kube, metrics
from mlserve_operator.execute import NotLeadingError
from mlserve_operator.handlers import CHILD_SELECTOR, WATCHED, keys_of
from mlserve_operator.kube import ApiError
from mlserve_operator.obstacles import ObstacleError
from mlserve_operator.reconcile import Key

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
        is_leader: whether this replica may write.
        clock: monotonic seconds.
    """

    queue: WorkQueue[Key]
    reconciler: Reconciler
    is_leader: asyncio.Event
    clock: Callable[[], float]
    stale: str = ""
    """Why the watch is known to be behind; empty while it keeps up."""
    _moved_at: float = 0.0

    async def run(self, count: int) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())

    def trouble(self) -> str:
        """Why the process should be restarted; empty if it should not."""
        overdue = self.queue.oldest_overdue() if self.is_leader.is_set() else 0.0
        metrics.QUEUE_LENGTH.set(len(self.queue))
        metrics.QUEUE_AGE.set(overdue)
        still = self.clock() - self._moved_at
        if min(overdue, still) > STUCK_SECONDS:
            return f"a key has been waiting for {overdue:.0f} s, and none was worked on for {still:.0f} s"
        return self.stale

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            await self.is_leader.wait()  # only now: leadership may be lost while there is nothing to do
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
                self._moved_at = self.clock()
                metrics.RECONCILE_SECONDS.labels(key.kind).observe(self._moved_at - started)

    def _failed(self, key: Key, error: Exception) -> None:
        delay = self.queue.failed(key)
        if isinstance(error, ApiError) and error.conflict:
            logger.info("%s %s/%s: somebody else wrote first, looking again", key.kind, key.namespace, key.name)
            return
        metrics.RECONCILE_ERRORS.labels(key.kind).inc()
        expected = isinstance(error, (ObstacleError, ApiError, NotLeadingError, TimeoutError))
        logger.warning(
            "%s %s/%s: %s; again in %.1f s",
            key.kind, key.namespace, key.name, str(error) or type(error).__name__, delay,
            exc_info=None if expected else error,
        )  # fmt: skip


@dataclass
class Resync:
    """The slow look at everything: is what the watch told still what is there?

    A watch that was cut off for too long begins anew with a list, and of what was deleted in between nobody tells.
    Then the look comes at once.

    Attributes:
        api: where the truth is.
        index: what the watches told.
        workers: are woken, and told of a watch that is behind.
        relisted: set when a watch began anew.
        namespaces: namespaces that are watched; none means all.
        seconds: time between two looks.
        patience: seconds that news may be on its way.
    """

    api: Kube
    index: Index
    workers: Workers
    relisted: asyncio.Event
    namespaces: Sequence[str]
    seconds: float
    patience: float = 30.0
    settling: float = 2.0

    async def run(self) -> None:
        """Compare and wake, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    await self.relisted.wait()
                    await asyncio.sleep(self.settling)  # all kinds begin anew together
            self.relisted.clear()
            await self.compare()
            for owner in self.index.of_kind(KIND):
                metadata = owner["metadata"]
                self.workers.queue.add(Key(KIND, metadata["namespace"], metadata["name"]))

    async def compare(self) -> None:
        """Forget what is gone, and find out whether the watch keeps up with what is there."""
        for kind in WATCHED:
            await self._forget_gone(kind)
        listed = await self._forget_gone(kube.MODEL_DEPLOYMENT)
        behind = self._behind(listed)
        if behind:
            await asyncio.sleep(self.patience)  # the watch may merely be on its way
            behind = [item for item in self._behind(listed) if item in behind]
        self.workers.stale = f"the watch never told of {', '.join(behind)}" if behind else ""

    async def _forget_gone(self, kind: kube.Kind) -> list[kube.Object]:
        """Drop what is known and no longer there. Returns the metadata of what is there."""
        known, listed = list(self.index.of_kind(kind.kind)), []
        selector = CHILD_SELECTOR if kind in WATCHED else ""
        try:
            for namespace in self.namespaces or ("",):
                listed += [item async for item in self.api.metadata(kind, namespace, selector)]
        except ApiError as error:
            if not error.not_found:  # a kind that is not installed
                logger.warning("the slow resync could not list %s: %s", kind.plural, error)
            return []
        there = {item["uid"] for item in listed}
        for body in known:
            if body["metadata"]["uid"] not in there:
                self.index.end(body)
                for key in keys_of(body, self.index):
                    self.workers.queue.add(key)
        return listed

    def _behind(self, listed: Sequence[kube.Object]) -> list[str]:
        behind = []
        for metadata in listed:
            known = self.index.get(KIND, metadata["namespace"], metadata["name"])
            if known is None or known["metadata"]["generation"] < metadata["generation"]:
                behind.append(f"{metadata['namespace']}/{metadata['name']}")
        return behind
