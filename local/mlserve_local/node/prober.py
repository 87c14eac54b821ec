"""Runs the probes of one container while its process lives: first startup, then liveness and readiness together."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mlserve_local.node.context import PodContext
from mlserve_local.node.probes import ProbeResult, ProbeState, probe
from mlserve_local.node.status import ContainerRecord
from mlserve_local.objects import Obj
from mlserve_local.processes import Process


class Probed(Protocol):
    """What a prober asks of a container, and may do to it."""

    context: PodContext
    spec: Obj
    record: ContainerRecord
    process: Process | None
    stopping: asyncio.Event

    async def execute(self, command: list[str], seconds: float) -> tuple[int, str]:
        """Run a command in it."""

    async def end_process(self, grace_seconds: float, message: str) -> None:
        """Restart it."""

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event of it."""


class Prober:
    """The three probes of a container, as far as its spec has them."""

    def __init__(self, container: Probed) -> None:
        self._container = container

    async def run(self) -> None:
        """Probe until cancelled; returns at once if there is nothing to probe."""
        spec = self._container.spec
        if "startupProbe" in spec and not await self._startup(spec["startupProbe"]):
            return
        async with asyncio.TaskGroup() as group:
            if "livenessProbe" in spec:
                group.create_task(self._liveness(spec["livenessProbe"]))
            if "readinessProbe" in spec:
                group.create_task(self._readiness(spec["readinessProbe"]))

    async def _ask(self, kind: str, spec: Obj) -> ProbeResult:
        container = self._container
        result = await probe(spec, container.spec, container.context.pod_ip, container.execute)
        if not result.ok and container.process is not None:
            container.event("Warning", "Unhealthy", f"{kind} probe failed: {result.message}")
        return result

    async def _startup(self, spec: Obj) -> bool:
        container = self._container
        state = _state(spec)
        await asyncio.sleep(spec.get("initialDelaySeconds") or 0)
        while not container.stopping.is_set():
            state.observe(ok=(await self._ask("Startup", spec)).ok)
            if state.verdict:
                container.record.started = True
                container.record.ready = "readinessProbe" not in container.spec
                container.context.changed()
                return True
            if state.verdict is False:
                await self._restart("startup", spec)
                return False
            await asyncio.sleep(spec.get("periodSeconds") or 10)
        return False

    async def _liveness(self, spec: Obj) -> None:
        container = self._container
        state = _state(spec)
        await asyncio.sleep(spec.get("initialDelaySeconds") or 0)
        while not container.stopping.is_set():
            state.observe(ok=(await self._ask("Liveness", spec)).ok)
            if state.verdict is False and not container.stopping.is_set():
                await self._restart("liveness", spec)
                return
            await asyncio.sleep(spec.get("periodSeconds") or 10)

    async def _restart(self, kind: str, spec: Obj) -> None:
        container = self._container
        grace = spec.get("terminationGracePeriodSeconds")
        if grace is None:
            grace = container.context.pod["spec"].get("terminationGracePeriodSeconds", 30)
        message = f"Container {container.record.name} failed {kind} probe, will be restarted"
        await container.end_process(float(grace), message)

    async def _readiness(self, spec: Obj) -> None:
        # Goes on while the pod is being terminated: a draining server says unready before it ends.
        container = self._container
        state = _state(spec)
        state.verdict = False
        await asyncio.sleep(spec.get("initialDelaySeconds") or 0)
        while True:
            if state.observe(ok=(await self._ask("Readiness", spec)).ok):
                container.record.ready = bool(state.verdict)
                container.context.changed()
            await asyncio.sleep(spec.get("periodSeconds") or 10)


def _state(spec: Obj) -> ProbeState:
    return ProbeState(spec.get("successThreshold") or 1, spec.get("failureThreshold") or 3)
