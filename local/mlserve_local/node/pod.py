"""The life of one pod on the node: volumes, init containers in order, containers, and an orderly end.

One task leads the pod through its life, one writes its status whenever something changed, and a third ends it
when the API says so. A pod that was here before a restart of the node starts its containers anew.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlserve_local.client import NETWORK_ERRORS, STRATEGIC, ApiError
from mlserve_local.node.container import Container
from mlserve_local.node.context import NodeServices, PodContext
from mlserve_local.node.environment import ConfigError
from mlserve_local.node.mounts import Mounts
from mlserve_local.node.status import ContainerRecord, PodView, pod_status
from mlserve_local.objects import PODS, Obj, is_deleting, key_of, name_of, timestamp, uid_of, version_of

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 5.0


class PodWorker:
    """Created for each pod bound to the node; `done` is called when nothing of it is left."""

    def __init__(self, node: NodeServices, pod: Obj, done: Callable[[str], None]) -> None:
        self.uid = uid_of(pod)
        self._done = done
        self._dirty = asyncio.Event()
        self._moved = asyncio.Event()
        directory = node.settings.data_dir / "pods" / self.uid
        self.context = PodContext(node, pod, directory, self._changed)
        self.mounts = Mounts(self.context)
        old = pod.get("status") or {}
        self._start_time = old.get("startTime") or timestamp(time.time())
        self._finished = old.get("phase") in ("Succeeded", "Failed")
        self._terminal = False
        self._pushed: Obj | None = None
        self.init = [self._container(spec, init=True) for spec in pod["spec"].get("initContainers") or ()]
        self.main = [self._container(spec, init=False) for spec in pod["spec"]["containers"]]
        self._ending: asyncio.Task[None] | None = None
        self._life = asyncio.create_task(self._live(), name=f"pod {key_of(pod)}")
        self._life.add_done_callback(_report)
        self._writer = asyncio.create_task(self._write_status(), name=f"status {key_of(pod)}")

    @property
    def containers(self) -> list[Container]:
        """All containers, init ones first."""
        return [*self.init, *self.main]

    def _container(self, spec: Obj, *, init: bool) -> Container:
        sidecar = init and spec.get("restartPolicy") == "Always"
        record = ContainerRecord(spec["name"], spec["image"], sidecar=sidecar)
        statuses = (self.context.pod.get("status") or {}).get("initContainerStatuses" if init else "containerStatuses")
        for status in statuses or ():
            if status["name"] == record.name:
                _restore(record, status, finished=self._finished)
        if not init and not self.context.pod["spec"].get("initContainers") and not record.state.get("terminated"):
            record.state = {"waiting": {"reason": "ContainerCreating"}}
        return Container(self.context, spec, record, init=init)

    # --- what the API says ------------------------------------------------------------------------------------------

    def update(self, pod: Obj) -> None:
        """Take a newer version of the pod."""
        self.context.pod = pod
        for container, spec in zip(
            self.containers, [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]], strict=True
        ):
            self._update_container(container, spec)
        if is_deleting(pod):
            if self._ending is None:
                self._ending = asyncio.create_task(self._end(), name=f"end {key_of(pod)}")
            return
        self.sources_changed()
        self._changed()

    def _update_container(self, container: Container, spec: Obj) -> None:
        changed = container.spec["image"] != spec["image"]
        container.spec = spec
        if changed:
            container.record.image = spec["image"]
            if container.process is not None:
                grace = float(self.context.pod["spec"].get("terminationGracePeriodSeconds", 30))
                message = f"Container {container.record.name} definition changed, will be restarted"
                asyncio.create_task(container.end_process(grace, message))  # noqa: RUF006 - ends with the process

    def sources_changed(self) -> None:
        """A ConfigMap or Secret of the namespace has changed, or the pod's own labels and annotations."""
        self.context.notify_sources()

    def gone(self) -> None:
        """The pod was removed from the API without waiting: end it now."""
        for container in self.containers:
            container.kill_now()
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(deleted=True))

    # --- life -------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        if self._finished:
            return
        network = self.context.pod["spec"].get("hostNetwork")
        settings, addresses = self.context.node.settings, self.context.node.addresses
        old_ip = (self.context.pod.get("status") or {}).get("podIP") or ""
        self.context.pod_ip = settings.host_ip if network else addresses.allocate(old_ip)
        self._changed()
        if not await self._mount():
            return
        keeper = asyncio.create_task(self._keep_volumes())
        sidecars: list[asyncio.Task[None]] = []
        try:
            if await self._initialise(sidecars):
                for container in self.main:
                    if "waiting" in container.record.state:
                        container.record.state = {"waiting": {"reason": "ContainerCreating"}}
                await asyncio.gather(*(container.run() for container in self.main))
                await self._stop_sidecars(self._grace())
        finally:
            keeper.cancel()
            await asyncio.gather(*sidecars, return_exceptions=True)
            self._changed()

    async def _initialise(self, sidecars: list[asyncio.Task[None]]) -> bool:
        """Run the init containers one after the other; False if the pod cannot go on."""
        for container in self.init:
            if not container.record.sidecar:
                await container.run()
                if container.record.exit_code != 0:
                    return False
                continue
            sidecars.append(asyncio.create_task(container.run()))
            while not container.record.started and not container.stopping.is_set():
                await self._moved.wait()
        return not any(container.stopping.is_set() for container in self.main)

    async def _mount(self) -> bool:
        """Wait until all volumes are there; False if the pod is ended before."""
        while self._ending is None:
            woken = self.context.sources_changed
            try:
                await self.mounts.sync()
            except (ConfigError, ApiError, OSError, *NETWORK_ERRORS) as error:
                self.context.event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
                await _first_of(woken, self._moved, seconds=_RETRY_SECONDS)
            else:
                return True
        return False

    async def _keep_volumes(self) -> None:
        """Follow the sources for as long as the pod lives."""
        while True:
            woken = self.context.sources_changed
            due = self.mounts.refresh_at
            await _first_of(woken, seconds=None if due is None else max(1.0, due - time.time()))
            try:
                await self.mounts.sync()
            except (ConfigError, ApiError, OSError, *NETWORK_ERRORS) as error:
                # What was mounted stays as it is, as with a kubelet: the pod goes on with what it has.
                log.debug("volumes of %s: %s", key_of(self.context.pod), error)

    # --- end --------------------------------------------------------------------------------------------------------

    def _grace(self) -> float:
        pod = self.context.pod
        seconds = pod["metadata"].get("deletionGracePeriodSeconds")
        return float(pod["spec"].get("terminationGracePeriodSeconds", 30) if seconds is None else seconds)

    async def _stop_sidecars(self, grace: float) -> None:
        for container in reversed(self.init):
            await container.stop(grace)

    async def _end(self, *, deleted: bool = False) -> None:
        self._changed()
        grace = 0.0 if deleted else self._grace()
        deadline = time.monotonic() + grace
        await asyncio.gather(*(container.stop(grace) for container in self.main))
        await self._stop_sidecars(0 if deleted else max(2.0, deadline - time.monotonic()))
        await asyncio.gather(self._life, return_exceptions=True)
        self._terminal = True
        self._writer.cancel()
        if not deleted:
            await self._remove_from_api()
        if not self.context.pod["spec"].get("hostNetwork"):
            self.context.node.addresses.release(self.context.pod_ip)
        await asyncio.to_thread(shutil.rmtree, self.context.directory, ignore_errors=True)
        self._done(self.uid)

    async def _remove_from_api(self) -> None:
        """Say how it ended, then delete the object for good; tries until the API has it."""
        while True:
            try:
                await self._push()
                await self.context.node.client.delete(PODS, self.context.pod, gracePeriodSeconds=0)
            except (ApiError, *NETWORK_ERRORS) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    return
                log.warning("end of %s not told yet: %s", key_of(self.context.pod), error)
                await asyncio.sleep(1)
            else:
                return

    async def shut_down(self, grace: float) -> None:
        """The node ends: end the processes, leave the object for the node's next life."""
        self._writer.cancel()
        if self._ending is not None:
            self._ending.cancel()
        self._life.cancel()
        for container in self.containers:
            container.stopping.set()
        running = [container.process for container in self.containers if container.process is not None]
        await asyncio.gather(*(process.stop(grace) for process in running))

    # --- status -----------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        self._dirty.set()
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _write_status(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._push()
            except (ApiError, *NETWORK_ERRORS) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    continue
                log.debug("status of %s not written: %s", key_of(self.context.pod), error)
                await asyncio.sleep(1)
                self._dirty.set()

    async def _push(self) -> None:
        if self._finished:
            return
        pod = self.context.pod
        now = timestamp(time.time())
        view = PodView(
            pod, self.context.pod_ip, self.context.node.settings.host_ip, self._start_time, now, self._terminal
        )
        status = pod_status(view, [c.record for c in self.init], [c.record for c in self.main])
        if status == self._pushed:
            return
        body = {"metadata": {"uid": self.uid}, "status": status}
        written = await self.context.node.client.patch(
            PODS, self.context.namespace, name_of(pod), body, subresource="status", kind=STRATEGIC
        )
        self._pushed = status
        if version_of(written) > version_of(self.context.pod):
            self.context.pod = written


def _restore(record: ContainerRecord, status: Obj, *, finished: bool) -> None:
    """Continue the record of a container that ran before the node was restarted."""
    record.restarts = int(status.get("restartCount") or 0)
    record.last_state = status.get("lastState") or {}
    if finished:
        record.state = status.get("state") or record.state
        return
    running = (status.get("state") or {}).get("running")
    if running:
        record.restarts += 1
        record.last_state = {
            "terminated": {
                "exitCode": 137,
                "reason": "ContainerStatusUnknown",
                "message": "The node was restarted and started the container anew",
                "startedAt": running.get("startedAt"),
                "finishedAt": timestamp(time.time()),
            }
        }


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s ended unexpectedly", task.get_name(), exc_info=error)


async def _first_of(*events: asyncio.Event, seconds: float | None) -> None:
    """Wait for any of the events, at most so long."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def clean_up(data_dir: Path, known: set[str]) -> None:
    """Remove the directories of pods that are no longer bound to the node."""
    pods = data_dir / "pods"
    if pods.is_dir():
        for directory in pods.iterdir():
            if directory.name not in known:
                shutil.rmtree(directory, ignore_errors=True)
