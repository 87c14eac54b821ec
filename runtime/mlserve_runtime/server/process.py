"""The life of the serving process: bind, load, answer, drain, exit.

Ports are bound before anything heavy is imported, so that probes get an honest answer (alive, not ready) from the
first moment; torch is imported and the model loaded and warmed up on a thread meanwhile. Only then is it ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mlserve_core.artifact import ArtifactError
from mlserve_runtime.backends.base import LoadError
from mlserve_runtime.batching.batcher import Batcher
from mlserve_runtime.batching.cost import CostModel
from mlserve_runtime.batching.limits import LatencyTarget
from mlserve_runtime.batching.queue import BatchQueue
from mlserve_runtime.dataplane import DataPlane, Phase
from mlserve_runtime.features import ConfigurationError, build_lookup
from mlserve_runtime.model import ServedModel, load_model
from mlserve_runtime.server.asgi import Application, Front
from mlserve_runtime.server.deferred import DeferredApplication
from mlserve_runtime.server.drain import Drainer, serve_drain_socket
from mlserve_runtime.server.fastpath import protocol_for
from mlserve_runtime.server.last_words import end_with, write_termination_message
from mlserve_runtime.server.listeners import EmbeddedServer, ListenError, bind, embed
from mlserve_runtime.server.management import PlaneSource, build_management
from mlserve_runtime.server.place import Place
from mlserve_runtime.server.routes import build_routes
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.recorder import Recorder

logger = logging.getLogger(__name__)

_COMPARISON_POLL_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 0.5


class Process:
    """One serving process, alone or in its place among several."""

    def __init__(self, settings: Settings, place: Place | None = None) -> None:
        self.settings = settings
        self.place = place
        self.started = time.time()
        self.recorder = Recorder(settings, place.memory if place else None)
        self.plane = DataPlane(settings, self.recorder)
        self.drainer = Drainer(self.plane)
        self.decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        pages = DeferredApplication(self._build_pages, self.decoders)
        self.front = Front(self.plane, build_routes(settings, self.decoders), lambda: pages)
        self._stop = asyncio.Event()
        self._failure = ""
        self._grpc: Any = None
        self._public: EmbeddedServer | None = None
        self._servers: list[EmbeddedServer] = []
        self._background: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        place, socket_path = self.place, self.settings.drain_socket
        if place is None or not place.replacement:
            self._listen_public()
        self._listen_management()
        if place is not None:
            # The parent holds the other end; it is readable once the parent is gone, however it went.
            loop.add_reader(sys.stdin, self._orphaned)
        drain = functools.partial(self.drainer.drain, delay=self.settings.drain_delay)
        drain_socket = await serve_drain_socket(socket_path, drain)
        self._start(self._load)
        self._start(self._watch_loop)
        await self._stop.wait()
        status = await self._leave()
        drain_socket.close()
        socket_path.unlink(missing_ok=True)
        return status

    def _orphaned(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        if not self._stop.is_set():
            logger.error("the parent is gone: leaving as well")
            self._stop.set()

    def _start(self, body: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(body())
        task.add_done_callback(self._ended)
        self._background.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part that fails ends the process, which is restarted; without it, it would never be what it seems."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ListenError):
            self._fail(str(error))
        elif error is not None and not self._stop.is_set():
            logger.error("a part of the server failed", exc_info=error)
            self._fail(f"ModelLoadFailed: {type(error).__name__}: {error}")

    def _listen_public(self) -> None:
        server = self._public = embed(self.front, protocol_for(self.front))
        self._listen("http", server, self.settings.http_port)

    def _listen_management(self) -> None:
        application = build_management(PlaneSource(self.plane))
        if self.place is None:
            self._listen("management", embed(application), self.settings.management_port)
        else:
            server = embed(application, unix_socket=self.place.management_socket)
            self._servers.append(server)
            self._start(server.serve)

    def _listen(self, name: str, server: EmbeddedServer, port: int) -> None:
        listener = bind(name, self.settings.host, port, shared=self.place is not None)
        self._servers.append(server)
        self._start(functools.partial(server.serve, sockets=[listener]))
        host, number = listener.getsockname()[:2]
        logger.info("listening for HTTP", extra={"host": host, "port": number, "listener": name})

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            model = await loop.run_in_executor(self.decoders, load_model, self.settings)
            self.plane.lookup = build_lookup(model.artifact.spec)
        except (LoadError, ArtifactError, ConfigurationError) as error:
            reason = getattr(error, "reason", "ModelLoadFailed")
            self._fail(f"{reason}: {error}")
            return
        except Exception as error:
            logger.exception("loading the model failed")
            self._fail(f"ModelLoadFailed: {type(error).__name__}: {error}")
            return
        await self._serve_grpc()
        self._open(model)
        if self._public is None:
            self._listen_public()

    def _build_pages(self) -> Application:
        from mlserve_runtime.server.app import build_app

        return build_app(self.plane, self.started)

    async def _serve_grpc(self) -> None:
        if self.settings.grpc_port < 0:
            return
        from mlserve_runtime.protocols.grpc_v2.service import serve_grpc

        self._grpc, port = await serve_grpc(
            self.plane, self.settings.host, self.settings.grpc_port, shared=self.place is not None
        )
        logger.info("listening for gRPC", extra={"host": self.settings.host, "port": port, "listener": "grpc"})

    def _open(self, model: ServedModel) -> None:
        """Answer with this model from now on; one that was open before finishes what it has."""
        settings, before = self.settings, self.plane.batcher
        target = settings.latency_target_millis
        batcher = Batcher(
            model.run,
            BatchQueue(max_rows=settings.max_rows, queue_rows=settings.queue_rows, cost=CostModel()),
            loop=asyncio.get_running_loop(),
            max_delay=settings.max_delay_micros / 1e6,
            observer=self.recorder,
            target=LatencyTarget(target / 1000, settings.max_rows) if target else None,
        )
        self.recorder.model_loaded(model)
        self.front.routes = build_routes(settings, self.decoders, model, self.plane.lookup)
        # Everything alive now lives as long as the process; looking through it again and again only costs time.
        gc.collect()
        gc.freeze()
        return_free_memory()
        self.plane.open(model, batcher)
        if before is not None:
            before.close()
        logger.info("ready", extra={"modelVersion": model.version, "loadSeconds": round(model.loaded_seconds, 3)})

    def _fail(self, message: str) -> None:
        logger.error("%s", message)
        self._failure = message
        self.plane.phase = Phase.FAILED
        self._stop.set()

    async def _leave(self) -> int:
        if self._failure:
            write_termination_message(self.settings, self._failure)
            drained = True
        else:
            drained = await self.drainer.drain(delay=0)
        if self._grpc is not None:
            await self._grpc.stop(grace=1)
        await self._close_door()
        for server in self._servers:
            server.should_exit = True
            server.config.timeout_graceful_shutdown = 2
        _, pending = await asyncio.wait(self._background, timeout=3) if self._servers else (set(), set())
        for task in pending:
            task.cancel()
        if self.plane.batcher is not None:
            self.plane.batcher.close()
        if self.plane.lookup is not None:
            await self.plane.lookup.close()
        if self.recorder.tracer is not None:
            await asyncio.to_thread(self.recorder.tracer.close)
        if self.plane.payloads is not None:
            await asyncio.to_thread(self.plane.payloads.close)
        self.decoders.shutdown(wait=False, cancel_futures=True)
        return 0 if drained and not self._failure else 1

    async def _close_door(self) -> None:
        """Tell clients that were just about to ask to go elsewhere, then accept nothing more.

        A connection that is closed while a request is on its way looks like a lost request. Every answer given while
        draining closes its connection, so after a moment only clients that have nothing to ask are still there.
        """
        server = self._public
        if server is None:
            return
        until = time.monotonic() + _LINGER_SECONDS
        await asyncio.sleep(_LINGER_SECONDS / 5)
        while server.server_state.connections and time.monotonic() < until:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)
        for listener in server.servers:
            listener.close()

    async def _reload(self) -> None:
        """Load the artifact again; whatever is wrong with it, the model that is served stays."""
        try:
            model = await asyncio.get_running_loop().run_in_executor(self.decoders, load_model, self.settings)
            lookup = build_lookup(model.artifact.spec)
        except Exception as error:
            logger.exception("the changed artifact is not served: %s", error)  # noqa: TRY401 - the text is for people
            return
        unused = lookup
        if self.plane.model is None or model.artifact.digest != self.plane.model.artifact.digest:
            unused, self.plane.lookup = self.plane.lookup, lookup
            self._open(model)
        if unused is not None:
            await unused.close()

    async def _watch_loop(self) -> None:
        """Measure how late the loop wakes, and look for changed files."""
        loop = asyncio.get_running_loop()
        seen = last = artifact_identity(self.settings.model_dir)
        while not self._stop.is_set():
            due = loop.time() + _COMPARISON_POLL_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _COMPARISON_POLL_SECONDS)
            self.recorder.metrics.loop_lag = max(0.0, loop.time() - due)
            self.recorder.poll()
            if self.settings.watch and self.plane.ready:
                identity = await asyncio.to_thread(artifact_identity, self.settings.model_dir)
                # What still changes is still being written.
                if identity == last != seen:
                    seen = identity
                    await self._reload()
                last = identity


def return_free_memory() -> None:
    """Give back what loading and tuning needed for a moment; a C library without malloc_trim keeps it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def artifact_identity(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Changes when any file of an artifact does, or the directory or link that leads to it is replaced."""
    stamps: list[tuple[str, int, int, int]] = []
    for root, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in sorted(names)):
            with contextlib.suppress(OSError):
                stat = path.stat()
                stamps.append((str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(stamps)


def yield_to_the_model() -> None:
    """Let what arrives wait for a running pass, up to the kernel's slice of some milliseconds, where both share a core.

    Otherwise every arrival interrupts the pass, and under overload these interruptions cost more than the refusals they
    are for (benchmarks/overload.py: goodput at twice the load rose from 80 to 86 % of the capacity). SCHED_BATCH,
    sched(7), changes nothing but that; with a core for each, nothing at all.
    """
    with contextlib.suppress(OSError, AttributeError):  # a sandbox may refuse it, and other systems do not know it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def serve(settings: Settings, place: Place | None = None) -> int:
    """Run the server in this process; the exit status."""
    import uvloop

    yield_to_the_model()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, place))


async def _serve(settings: Settings, place: Place | None) -> int:
    try:
        return await Process(settings, place).run()
    except ListenError as error:
        return end_with(settings, error)
