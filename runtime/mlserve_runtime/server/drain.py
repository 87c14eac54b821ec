"""Leaving without losing a request.

Kubernetes tells the endpoints and the pod at the same time that the pod goes, and routers hear of it later. So on
`mlserve-runtime drain` (the pod's preStop) the process becomes unready but still answers for a moment; then it
refuses what is new with a 503 that says another replica can be asked, finishes what is in flight, and reports.
Asked through a Unix socket: nobody on the network can take a pod out of service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from mlserve_runtime.dataplane import DataPlane, Phase

logger = logging.getLogger(__name__)


class Drainer:
    """Takes the data plane through its last phases; every call after the first joins it."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._drained: asyncio.Task[bool] | None = None
        self._hurry = asyncio.Event()

    async def drain(self, *, delay: float) -> bool:
        """Drain; True when nothing is in flight any more, False when the grace period ended first.

        Args:
            delay: Seconds to go on answering; a second call with 0 ends that time at once.
        """
        if delay == 0:
            self._hurry.set()
        if self._drained is None:
            self._drained = asyncio.ensure_future(self._drain(delay))
        return await asyncio.shield(self._drained)

    async def _drain(self, delay: float) -> bool:
        plane = self._plane
        plane.phase = Phase.LEAVING
        logger.info("leaving: unready, still answering for %.1f s", delay)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), delay)
        plane.phase = Phase.DRAINING
        logger.info("draining: %d requests in flight", plane.in_flight)
        try:
            await asyncio.wait_for(plane.idle.wait(), plane.settings.grace)
        except TimeoutError:
            logger.error("%d requests were still in flight when the grace period ended", plane.in_flight)  # noqa: TRY400
            return False
        return True


async def serve_drain_socket(path: Path, drain: Callable[[], Awaitable[bool]]) -> asyncio.Server:
    """Listen on a Unix socket; every connection calls `drain` and is answered `drained` or `timeout`."""

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        drained = await drain()
        with contextlib.suppress(ConnectionError):
            writer.write(b"drained\n" if drained else b"timeout\n")
            await writer.drain()
        writer.close()

    _make_room(path)
    server = await asyncio.start_unix_server(connected, path)
    _make_private(path)
    return server


async def ask_to_drain(path: Path) -> bool:
    """Ask the process that listens there; True once it has drained or is gone."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return True
    try:
        answer = await reader.read()  # to its end: it may come in pieces
    except OSError:
        answer = b""
    finally:
        writer.close()
    return answer in {b"drained\n", b""}


def _make_room(path: Path) -> None:
    """A socket file outlives the process that made it."""
    path.unlink(missing_ok=True)


def _make_private(path: Path) -> None:
    path.chmod(0o600)
