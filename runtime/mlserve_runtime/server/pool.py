"""Several serving processes behind the same ports, for containers with CPUs to spare.

One interpreter answers on one core; torch's threads help large models, not small ones. The parent loads no model and
answers no prediction: it starts the processes, speaks for all of them on the management port and the drain socket,
replaces one that crashes, and passes on the signal to end. The kernel shares out connections (SO_REUSEPORT), so a
crash breaks the connections of one process and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import ValidationError

from mlserve_core.wire import PATH_METRICS, PATH_PROFILE, PATH_TELEMETRY, TelemetrySnapshot
from mlserve_runtime.backends.threads import available_cpus
from mlserve_runtime.dataplane import Phase
from mlserve_runtime.seen import create_memory
from mlserve_runtime.server.drain import ask_to_drain, serve_drain_socket
from mlserve_runtime.server.last_words import end_with
from mlserve_runtime.server.listeners import ListenError, bind, embed
from mlserve_runtime.server.management import build_management
from mlserve_runtime.server.place import Place, encode
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.pod import PodMetrics, PodSnapshots

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 1.0
_LOADING_POLL_SECONDS: Final = 0.1
_ANSWER_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 30.0
"""A process that could answer once and does not for so long is stuck, and replaced like one that crashed."""
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 60.0
"""A process that lived longer begins again with the shortest pause."""
_KILL_AFTER_SECONDS: Final = 5.0
"""Longer than the grace period by this, and a process is killed."""


@dataclass(slots=True, eq=False)
class Worker:
    """A process, and what it said last."""

    place: Place
    drain_socket: Path
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    snapshot: TelemetrySnapshot | None = None
    exposition: bytes = b""
    answered: float = math.inf
    """Monotonic seconds of its last answer since it was ready."""

    async def ask(self) -> None:
        """Read its counters; one that is gone or does not answer in time counts with what it said before."""
        # RuntimeError: the process ended between two questions, and its client was closed.
        with contextlib.suppress(httpx.HTTPError, ValidationError, RuntimeError):
            self.snapshot = TelemetrySnapshot.model_validate_json(await self.get(PATH_TELEMETRY))
            self.exposition = await self.get(PATH_METRICS)
            if self.snapshot.ready:
                self.answered = time.monotonic()

    async def get(self, path: str) -> bytes:
        """An answer of its management port. Raises httpx.HTTPError."""
        return (await self.client.get(path)).raise_for_status().content

    async def drain(self) -> bool:
        """Ask it to drain; True once it has, or is gone."""
        return await ask_to_drain(self.drain_socket)

    @property
    def ready(self) -> bool:
        """Whether it said so."""
        return self.snapshot is not None and self.snapshot.ready


class Pool:
    """The parent. Also the management port's Source."""

    def __init__(self, settings: Settings, processes: int) -> None:
        threads = settings.threads or max(1, available_cpus() // processes)
        self.settings = dataclasses.replace(settings, threads=threads, processes=1)
        self.restarts = 0
        self._phase = Phase.LOADING
        self._processes = processes
        self._workers: dict[int, Worker] = {}
        self._memory = create_memory()
        self._directory = Path()
        """Sockets of the processes; exists while they run, readable by this user only."""
        self._stop = asyncio.Event()
        self._asking = asyncio.Lock()
        self._snapshots = PodSnapshots()
        self._metrics = PodMetrics()
        self._sequence = 0

    @property
    def phase(self) -> Phase:
        """See management.Source. Ready when all were ready once and one still is."""
        if self._phase is Phase.READY and not any(worker.ready for worker in self._workers.values()):
            return Phase.LOADING
        return self._phase

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        reserved = self._reserve_ports()
        self._directory = Path(tempfile.mkdtemp(prefix="ml-", dir=self.settings.drain_socket.parent))
        management = embed(build_management(self))
        listener = bind("management", self.settings.host, self.settings.management_port)
        serving = asyncio.ensure_future(management.serve(sockets=[listener]))
        _log_listener("management", listener)
        drain_socket = await serve_drain_socket(self.settings.drain_socket, self.drain)
        keepers = [asyncio.ensure_future(self._keep(index)) for index in range(self._processes)]
        watching = asyncio.ensure_future(self._watch())
        await self._stop.wait()
        statuses = await self._end(keepers)
        watching.cancel()
        management.should_exit = True
        await serving
        drain_socket.close()
        self.settings.drain_socket.unlink(missing_ok=True)
        shutil.rmtree(self._directory, ignore_errors=True)
        for one in reserved:
            one.close()
        return 1 if any(statuses) else 0

    # --- what the management port asks ----------------------------------------------------------------------------

    async def metrics(self) -> bytes:
        """The metrics of all processes as one."""
        await self._ask_all()
        living = [worker.exposition for worker in self._workers.values() if worker.exposition]
        return self._metrics.render(living, self.restarts)

    async def telemetry(self) -> TelemetrySnapshot:
        """The counters of all processes since the parent began, under the parent's boot id."""
        await self._ask_all()
        told = [worker.snapshot for worker in self._workers.values() if worker.snapshot is not None]
        total = self._snapshots.total(told) or self._silent()
        self._sequence += 1
        return total.model_copy(
            update={
                "boot_id": self.settings.boot_id,
                "sequence": self._sequence,
                "ready": self.phase is Phase.READY,
                "draining": self.phase in {Phase.LEAVING, Phase.DRAINING},
            }
        )

    async def profile(self) -> bytes | None:
        """The reference profile, from any process."""
        for worker in list(self._workers.values()):
            with contextlib.suppress(httpx.HTTPError, RuntimeError):
                return await worker.get(PATH_PROFILE)
        return None

    async def drain(self) -> bool:
        """Take the pod out of service; True when nothing is in flight in any process."""
        self._phase = Phase.LEAVING
        return all(await asyncio.gather(*(worker.drain() for worker in self._workers.values())))

    # --- processes ------------------------------------------------------------------------------------------------

    def _reserve_ports(self) -> list[socket.socket]:
        """Bind the ports without listening: nobody else gets them, and port 0 becomes a number all can use."""
        numbers, reserved = {}, []
        for name in ("http", "grpc"):
            number = getattr(self.settings, f"{name}_port")
            if number >= 0:
                # Sharing would succeed beside another server of the same user, and give it half of the connections.
                bind(name, self.settings.host, number).close()
                reserved.append(bind(name, self.settings.host, number, shared=True))
                numbers[f"{name}_port"] = reserved[-1].getsockname()[1]
                _log_listener(name, reserved[-1])
        self.settings = dataclasses.replace(self.settings, **numbers)
        return reserved

    async def _keep(self, index: int) -> int:
        """Keep one place occupied; the exit status of the process that was in it last."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            worker = await self._spawn(index, replacement=self._phase is not Phase.LOADING)
            if self._stop.is_set():  # the signal came while it was started, and did not reach it
                with contextlib.suppress(ProcessLookupError):
                    worker.process.terminate()
            began = time.monotonic()
            status = await worker.process.wait()
            await self._bury(worker)
            if self._stop.is_set():
                return status
            if self._phase is Phase.LOADING:
                logger.error("process %d ended with status %d before all were ready; so does the pod", index, status)
                self._phase = Phase.FAILED
                self._stop.set()
                return status or 1
            if self._phase is not Phase.READY:
                logger.error("process %d ended with status %d while the pod was leaving", index, status)
                await self._stop.wait()
                return status
            self.restarts += 1
            if time.monotonic() - began > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            logger.error("process %d ended with status %d; another starts in %.1f s", index, status, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)
                return 0
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _spawn(self, index: int, *, replacement: bool) -> Worker:
        place = Place(index, self._directory / f"{index}", self._memory, replacement)
        drain_socket = self._directory / f"{index}d"
        settings = dataclasses.replace(self.settings, drain_socket=drain_socket, boot_id=f"{index}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mlserve_runtime.server.worker", encode(settings, place)),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(self._memory,),
            start_new_session=True,
        )
        transport = httpx.AsyncHTTPTransport(uds=str(place.management_socket))
        client = httpx.AsyncClient(transport=transport, base_url="http://process", timeout=_ANSWER_SECONDS)
        worker = self._workers[index] = Worker(place, drain_socket, process, client)
        logger.info("process %d started", index, extra={"processId": process.pid})
        return worker

    async def _bury(self, worker: Worker) -> None:
        """Keep the counters of a process that ended."""
        del self._workers[worker.place.index]
        if worker.snapshot is not None:
            self._snapshots.keep(worker.snapshot)
            self._metrics.keep(worker.exposition)
        worker.place.management_socket.unlink(missing_ok=True)
        await worker.client.aclose()

    async def _end(self, keepers: Sequence[asyncio.Future[int]]) -> list[int]:
        """Pass on the signal, and wait for all to drain."""
        if self._phase is not Phase.FAILED:
            self._phase = Phase.DRAINING
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        _, late = await asyncio.wait(keepers, timeout=self.settings.grace + _KILL_AFTER_SECONDS)
        for worker in self._workers.values() if late else ():
            logger.error("process %d did not end in time and is killed", worker.place.index)
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
        return [await keeper for keeper in keepers]

    # --- counters -------------------------------------------------------------------------------------------------

    async def _ask_all(self) -> None:
        async with self._asking:
            await asyncio.gather(*(worker.ask() for worker in self._workers.values()))

    async def _watch(self) -> None:
        """Read the counters of all now and then, so that little is lost with a process; notice when all are ready."""
        while True:
            await self._ask_all()
            workers = self._workers.values()
            if self._phase is Phase.LOADING and len(workers) == self._processes and all(w.ready for w in workers):
                self._phase = Phase.READY
                logger.info("ready", extra={"processes": self._processes})
            for worker in workers:
                if time.monotonic() - worker.answered > _SILENT_SECONDS:
                    logger.error("process %d has not answered for %.0f s", worker.place.index, _SILENT_SECONDS)
                    with contextlib.suppress(ProcessLookupError):
                        worker.process.kill()
            await asyncio.sleep(_LOADING_POLL_SECONDS if self._phase is Phase.LOADING else _POLL_SECONDS)

    def _silent(self) -> TelemetrySnapshot:
        settings = self.settings
        return TelemetrySnapshot(
            name=settings.model_name,
            revision=settings.revision,
            version=settings.model_version,
            model_digest=settings.model_digest,
            pod=settings.pod,
            pod_uid=settings.pod_uid,
            boot_id=settings.boot_id,
        )


def _log_listener(name: str, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    logger.info(
        "listening for %s", "gRPC" if name == "grpc" else "HTTP", extra={"host": host, "port": port, "listener": name}
    )


def serve_pool(settings: Settings, processes: int) -> int:
    """Serve with several processes; the exit status."""
    with asyncio.Runner() as runner:
        return runner.run(_serve(settings, processes))


async def _serve(settings: Settings, processes: int) -> int:
    try:
        return await Pool(settings, processes).run()
    except ListenError as error:
        return end_with(settings, error)
