"""Level-triggered work: events only name what to look at again, and looking is what a controller does.

A key that is added while it is worked on is worked on once more afterwards; a key that is added twice is worked on
once; no key is ever worked on twice at the same time; one that fails comes back with exponential backoff.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from mlserve_local.client import NETWORK_ERRORS, ApiError

log = logging.getLogger(__name__)

Reconcile = Callable[[str], Awaitable[None]]
_FIRST_RETRY_SECONDS: Final = 0.02
_LAST_RETRY_SECONDS: Final = 30.0


class WorkQueue:
    """Keys waiting for `reconcile`."""

    def __init__(self, name: str, reconcile: Reconcile, *, workers: int = 4) -> None:
        self._name = name
        self._reconcile = reconcile
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}

    def add(self, key: str) -> None:
        """Work on the key as soon as a worker is free."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Work on the key after a while; the earlier of two such timers counts."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        pending = self._timers.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + seconds:
                return
            pending.cancel()
        self._timers[key] = loop.call_later(seconds, self._expire, key)

    def _expire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._working.add(key)
            try:
                await self._reconcile(key)
                self._failures.pop(key, None)
            except ApiError as error:
                # A conflict only says that the local copy lags behind: the next look will be at the new state.
                (log.debug if error.code == 409 else log.warning)("%s %s: %s", self._name, key, error)
                self._retry(key)
            except NETWORK_ERRORS as error:
                log.debug("%s %s: %r", self._name, key, error)
                self._retry(key)
            except Exception:
                log.exception("%s %s failed", self._name, key)
                self._retry(key)
            finally:
                self._working.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _retry(self, key: str) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(failures, 16)))
