"""One process answers for all others of a local cluster: it starts them in order, starts them again when they crash,
and ends them all when it ends, even if it is killed.

Run as `python -m mlserve_local supervise`; `up` starts it and reads its progress from a pipe, one JSON line per step.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import yaml

from mlserve_local import parts
from mlserve_local.client import NETWORK_ERRORS, ApiClient, ApiError, ClusterConfig
from mlserve_local.objects import Obj, Resource, is_true
from mlserve_local.parts import Part
from mlserve_local.processes import MARKER, Process, become_subreaper, end_orphans, start_time
from mlserve_local.program import READY_DESCRIPTOR
from mlserve_local.settings import ClusterError, ClusterSettings, ClusterState, PartState

log = logging.getLogger(__name__)

READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 8.0
_MAX_BACKOFF_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 60.0
_LOG_BYTES: Final = 20 * 1024 * 1024
CRD_RESOURCE: Final = Resource(
    "apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)


@dataclass(slots=True)
class _Running:
    part: Part
    process: Process
    started: float
    restarts: int = 0
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Runs one cluster. `report` receives progress as (step, text)."""

    def __init__(self, settings: ClusterSettings, progress: int | None = None) -> None:
        self._settings = settings
        self._progress = progress
        self._running: dict[str, _Running] = {}
        self._ready = False

    async def run(self) -> None:
        """Start everything and keep it running until cancelled. Raises ClusterError if the start fails."""
        become_subreaper()
        try:
            await self._start()
            self._ready = True
            self._save_state()
            self._report("ready", "")
            await asyncio.Event().wait()
        except ClusterError as error:
            self._report("failed", str(error))
            raise
        finally:
            await self._stop()

    # --- start ------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        settings = self._settings
        if not settings.external_kubeconfig:
            await self._launch(parts.api_server(settings))
        first = [parts.node(settings), parts.network(settings)]
        if not settings.external_kubeconfig:
            first.insert(0, parts.controllers(settings))
        await asyncio.gather(self._apply_crds(), *(self._launch(part) for part in first))
        if settings.with_operator:
            await self._launch(parts.operator(settings))

    async def _launch(self, part: Part) -> None:
        """Start a part for the first time and wait until it is ready."""
        began = time.monotonic()
        process, announcement = self._spawn(part)
        running = _Running(part, process, began)
        self._running[part.name] = running
        self._save_state()
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._until_ready(part, process, announcement)
        except TimeoutError:
            raise ClusterError(
                f"{part.name} was not ready within {READY_SECONDS:g} s; see {self._settings.log(part.name)}"
            ) from None
        running.keeper = asyncio.create_task(self._keep(running))
        self._report("started", f"{part.name} ({time.monotonic() - began:.1f} s)")

    def _spawn(self, part: Part) -> tuple[Process, asyncio.StreamReader]:
        settings = self._settings
        path = settings.log(part.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        reader, writer = os.pipe()
        environment = {**os.environ, MARKER: settings.data_dir, READY_DESCRIPTOR: str(writer)}
        try:
            with path.open("ab") as file:
                process = Process.spawn(
                    part.argv,
                    env=environment,
                    cwd=settings.directory,
                    stdout=file,
                    stderr=file,
                    death_signal=15,
                    pass_fds=(writer,),
                )
        except OSError as error:
            os.close(reader)
            raise ClusterError(f"{part.name} cannot be started: {error}") from error
        finally:
            os.close(writer)
        stream = asyncio.StreamReader()
        task = asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", 0)
        )
        asyncio.ensure_future(task)  # noqa: RUF006 - done within one turn of the loop
        return process, stream

    async def _until_ready(self, part: Part, process: Process, announcement: asyncio.StreamReader) -> None:
        ended = asyncio.ensure_future(process.wait())
        ready = asyncio.ensure_future(_answers(part.health) if part.health else _announced(announcement))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done() or not ready.result():
                code = await ended
                tail = _tail(self._settings.log(part.name))
                raise ClusterError(f"{part.name} ended with {code}; {self._settings.log(part.name)} says: {tail}")
        finally:
            ended.cancel()
            ready.cancel()

    async def _apply_crds(self) -> None:
        """Bring the custom resource definitions up to date, and wait until they are served."""
        files = self._settings.crd_files()
        async with ApiClient(ClusterConfig.load(self._settings.kubeconfig), user_agent="mlserve-local") as client:
            for file in files:
                for document in filter(None, yaml.safe_load_all(file.read_text())):
                    await _apply_crd(client, document, file)

    # --- keep -------------------------------------------------------------------------------------------------------

    async def _keep(self, running: _Running) -> None:
        """Start a part again whenever it ends, later and later if it does so at once."""
        delay = 0.5
        while True:
            code = await running.process.wait()
            # What a node leaves behind came to this process: containers' children that no pod owns any more.
            end_orphans()
            if time.monotonic() - running.started > _STABLE_SECONDS:
                delay = 0.5
            log.warning("%s ended with %d; again in %.1f s", running.part.name, code, delay)
            self._save_state()
            await asyncio.sleep(delay)
            delay = min(_MAX_BACKOFF_SECONDS, 2 * delay)
            try:
                running.process, _ = self._spawn(running.part)
            except ClusterError as error:
                log.error("%s", error)  # noqa: TRY400 - the message says it all
                continue
            running.started = time.monotonic()
            running.restarts += 1
            self._save_state()

    def _save_state(self) -> None:
        states = [
            PartState(name, r.process.pid, start_time(r.process.pid) or 0, r.restarts)
            for name, r in self._running.items()
        ]
        own = PartState("supervisor", os.getpid(), start_time(os.getpid()) or 0)
        ClusterState(own, tuple(states), self._ready).save(self._settings.directory)

    # --- stop -------------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Operator first, API server last: each part can still say goodbye to those it depends on."""
        for running in self._running.values():
            if running.keeper is not None:
                running.keeper.cancel()
        for name in reversed(list(self._running)):
            began = time.monotonic()
            code = await self._running[name].process.stop(_STOP_SECONDS)
            log.info("%s ended with %d after %.1f s", name, code, time.monotonic() - began)
        end_orphans()
        with contextlib.suppress(FileNotFoundError):
            (self._settings.directory / "state.json").unlink()

    def _report(self, step: str, text: str) -> None:
        if self._progress is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._progress, json.dumps({"step": step, "text": text}).encode() + b"\n")
        if step in ("ready", "failed"):
            os.close(self._progress)
            self._progress = None


async def _answers(url: str) -> bool:
    """Ask until the URL answers 200."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            with contextlib.suppress(*NETWORK_ERRORS):
                async with session.get(url) as response:
                    if response.status == 200:
                        return True
            await asyncio.sleep(0.05)


async def _announced(stream: asyncio.StreamReader) -> bool:
    return bool(await stream.readline())


async def _apply_crd(client: ApiClient, document: Obj, file: Path) -> None:
    try:
        await client.apply(CRD_RESOURCE, document, manager="mlserve-local")
        async with asyncio.timeout(10):
            name = document["metadata"]["name"]
            while not is_true(await client.get(CRD_RESOURCE, "", name), "Established"):  # noqa: ASYNC110 - remote
                await asyncio.sleep(0.05)
    except (ApiError, TimeoutError, *NETWORK_ERRORS) as error:
        raise ClusterError(f"{file} was not accepted: {error}") from error


def _tail(path: Path, lines: int = 3) -> str:
    try:
        return " | ".join(path.read_text(errors="replace").strip().splitlines()[-lines:]) or "nothing"
    except OSError:
        return "nothing"


def remove_data(settings: ClusterSettings) -> None:
    """Forget everything the cluster stored; it must not be running."""
    shutil.rmtree(settings.directory, ignore_errors=True)
