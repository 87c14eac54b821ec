"""One container: start it, watch it, restart it as the policy says, stop it within its grace period.

The process is the leader of a group of its own; its output goes to a log file line by line. Whatever happens is
written into the container's record first and told to the pod afterwards, so that the status never runs ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Final

from mlserve_local.node.backoff import CrashBackoff, describe
from mlserve_local.node.context import PodContext
from mlserve_local.node.environment import ConfigError, service_links
from mlserve_local.node.images import ImageNotFoundError, executable
from mlserve_local.node.logs import LineSink, LogFile
from mlserve_local.node.prepare import Execution, config_references, prepare
from mlserve_local.node.prober import Prober
from mlserve_local.node.probes import ProbeResult, probe
from mlserve_local.node.status import ContainerRecord
from mlserve_local.objects import Obj, name_of, timestamp, uid_of
from mlserve_local.processes import Process

log = logging.getLogger(__name__)

_MAX_MESSAGE: Final = 4096
_MAX_OUTPUT: Final = 64 * 1024
_RETRY_SECONDS: Final = 10.0


def _identity(sink: LineSink) -> LineSink:
    return sink


class Container:
    """Runs until it is finished for good: `run` returns when it will not be started again."""

    def __init__(self, context: PodContext, spec: Obj, record: ContainerRecord, *, init: bool = False) -> None:
        self.context = context
        self.spec = spec
        self.record = record
        self.init = init
        self.process: Process | None = None
        self.execution: Execution | None = None
        self.live_log: LogFile | None = None
        self.stopping = asyncio.Event()
        self._out_of_memory = False
        self._backoff = CrashBackoff(context.node.settings.backoff_base)
        self._pull_delay = context.node.settings.backoff_base
        self.prober = Prober(self)

    # --- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the container, and again whenever the restart policy wants it."""
        while not self.stopping.is_set():
            execution = await self._configure()
            if execution is None:
                return
            started = time.monotonic()
            code = await self._run_once(execution)
            if self.stopping.is_set() or not self._wants_restart(code):
                return
            delay = self._backoff.after(started, time.monotonic())
            if delay:
                self._wait_state(
                    "CrashLoopBackOff", f"back-off {describe(delay)} restarting failed {self._described()}"
                )
                self.event("Warning", "BackOff", f"Back-off restarting failed {self._described()}")
                await self._pause(delay)
            self.record.restarts += 1

    def _described(self) -> str:
        pod = self.context.pod
        return f"container {self.record.name} in pod {name_of(pod)}_{self.context.namespace}({uid_of(pod)})"

    def _wants_restart(self, code: int) -> bool:
        if self.record.sidecar:
            return True
        policy = self.context.pod["spec"].get("restartPolicy") or "Always"
        if self.init:
            return code != 0 and policy != "Never"
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    async def _configure(self) -> Execution | None:
        """Wait until image and configuration are there; None if the pod is stopped meanwhile."""
        while not self.stopping.is_set():
            woken = self.context.sources_changed
            try:
                for kind, name in config_references(self.spec):
                    await self.context.node.ensure(self.context.namespace, kind, name)
                if self.context.pod["spec"].get("enableServiceLinks", True):
                    services = self.context.node.services_of(self.context.namespace)
                    self.context.service_links = service_links(services)
                execution = prepare(self.context, self.spec)
            except ImageNotFoundError as error:
                await self._image_missing(str(error))
            except ConfigError as error:
                self._wait_state("CreateContainerConfigError", str(error))
                self.event("Warning", "Failed", f"Error: {error}")
                await self._pause(_RETRY_SECONDS, woken)
            else:
                self.execution = execution
                return execution
        return None

    async def _image_missing(self, message: str) -> None:
        delay, self._pull_delay = self._pull_delay, min(300.0, 2 * self._pull_delay)
        self._wait_state("ErrImagePull", message)
        self.event("Warning", "Failed", message)
        self.event("Warning", "Failed", "Error: ErrImagePull")
        image = self.spec["image"]
        woken = self.context.sources_changed
        await self._pause(min(delay, 2.0), woken)
        if not self.stopping.is_set() and self.spec["image"] == image:
            self._wait_state("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {message}')
            self.event("Normal", "BackOff", f'Back-off pulling image "{image}"')
            await self._pause(delay, woken)

    async def _pause(self, seconds: float, also: asyncio.Event | None = None) -> None:
        """Wait, but not longer than until the pod is stopped (or `also` is set)."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.stopping, also) if event is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # --- one run ----------------------------------------------------------------------------------------------------

    async def _run_once(self, execution: Execution) -> int:
        self.event("Normal", "Pulled", f'Container image "{self.spec["image"]}" already present on machine')
        self._out_of_memory = False
        self.live_log = LogFile(self.log_path(self.record.restarts))
        sinks: list[LineSink] = []
        try:
            self.process, sinks = await self._spawn(execution, self.live_log)
        except OSError as error:
            self.live_log.close()
            return self._failed_to_start(execution, error)
        self.event("Normal", "Created", f"Created container: {self.record.name}")
        self._running()
        async with asyncio.TaskGroup() as group:
            hooks = group.create_task(self._after_start())
            probes = group.create_task(self.prober.run())
            code = await self.process.wait()
            hooks.cancel()
            probes.cancel()
        await asyncio.wait([sink.done for sink in sinks], timeout=1)
        self.live_log.close()
        self._terminated(code)
        return code

    async def _spawn(self, execution: Execution, log_file: LogFile) -> tuple[Process, list[LineSink]]:
        program = executable(execution.argv[0], execution.env["PATH"]) if execution.argv else None
        if program is None:
            shown = execution.argv[0] if execution.argv else ""
            raise FileNotFoundError(f'exec: "{shown}": executable file not found in $PATH')
        loop = asyncio.get_running_loop()
        sinks: list[LineSink] = []
        writers: list[int] = []
        try:
            for stream in ("stdout", "stderr"):
                reader, writer = os.pipe()
                writers.append(writer)
                sink = LineSink(log_file, stream)
                sinks.append(sink)
                await loop.connect_read_pipe(partial(_identity, sink), os.fdopen(reader, "rb", 0))
            process = Process.spawn(
                [program, *execution.argv[1:]],
                env=execution.env,
                cwd=execution.cwd,
                stdout=writers[0],
                stderr=writers[1],
            )
        finally:
            for writer in writers:
                os.close(writer)
        return process, sinks

    def _running(self) -> None:
        record = self.record
        if "terminated" in record.state:
            record.last_state = record.state
        record.container_id = f"process://{uuid.uuid4().hex}"
        record.state = {"running": {"startedAt": timestamp(time.time())}}
        record.started = "startupProbe" not in self.spec and (not self.init or record.sidecar)
        record.ready = record.started and "readinessProbe" not in self.spec
        self.event("Normal", "Started", f"Started container {record.name}")
        self.context.changed()

    def _failed_to_start(self, execution: Execution, error: OSError) -> int:
        del execution
        now = timestamp(time.time())
        self._end({"exitCode": 128, "reason": "StartError", "message": str(error), "startedAt": now, "finishedAt": now})
        self.event("Warning", "Failed", f"Error: failed to start container {self.record.name!r}: {error}")
        return 128

    def _terminated(self, code: int) -> None:
        started = (self.record.state.get("running") or {}).get("startedAt")
        reason = "OOMKilled" if self._out_of_memory else "Completed" if code == 0 else "Error"
        message = self._termination_message(code)
        self._end(
            {
                "exitCode": code,
                "reason": reason,
                **({"message": message} if message else {}),
                "startedAt": started,
                "finishedAt": timestamp(time.time()),
                "containerID": self.record.container_id,
            }
        )

    def _end(self, terminated: Obj) -> None:
        record = self.record
        if "terminated" in record.state:
            record.last_state = record.state
        record.state = {"terminated": terminated}
        record.started = False
        record.ready = self.init and terminated["exitCode"] == 0
        self.process = None
        self.context.changed()

    def _termination_message(self, code: int) -> str:
        text = b""
        if self.execution is not None:
            with contextlib.suppress(OSError):
                text = self.execution.termination_log.read_bytes()
        if (
            not text
            and code != 0
            and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
            and self.live_log
        ):
            lines = self.live_log.path.read_bytes().splitlines()[-80:]
            text = b"\n".join(line.split(b" ", 3)[-1] for line in lines)[-2048:]
        return text[-_MAX_MESSAGE:].decode(errors="replace")

    def _wait_state(self, reason: str, message: str) -> None:
        record = self.record
        if "terminated" in record.state:
            record.last_state = record.state
        record.state = {"waiting": {"reason": reason, "message": message}}
        record.ready = False
        self.context.changed()

    async def _after_start(self) -> None:
        handler = (self.spec.get("lifecycle") or {}).get("postStart")
        if handler:
            result = await self._hook(handler, 60.0)
            if not result.ok and self.process:
                self.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {result.message}")
                self.process.kill()

    # --- stopping ---------------------------------------------------------------------------------------------------

    async def stop(self, grace_seconds: float) -> None:
        """End the container for good: preStop, SIGTERM and, when the grace period is over, SIGKILL."""
        self.stopping.set()
        await self.end_process(grace_seconds, f"Stopping container {self.record.name}")

    async def end_process(self, grace_seconds: float, message: str) -> None:
        """End the present process; whether there will be another is for `run` to decide."""
        process = self.process
        if process is None:
            return
        self.event("Normal", "Killing", message)
        deadline = time.monotonic() + grace_seconds
        handler = (self.spec.get("lifecycle") or {}).get("preStop")
        if handler and grace_seconds > 0:
            result = await self._hook(handler, grace_seconds)
            if not result.ok and process.running:
                self.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {result.message}")
        # A hook that took the whole grace period leaves two seconds, as a kubelet does.
        await process.stop(max(deadline - time.monotonic(), 2.0) if grace_seconds > 0 else 0)

    def kill_now(self) -> None:
        """No grace: the pod is gone from the API."""
        self.stopping.set()
        if self.process:
            self.process.kill()

    def out_of_memory(self) -> None:
        """The group uses more memory than its limit."""
        if self.process:
            self._out_of_memory = True
            self.process.kill()

    async def _hook(self, handler: Obj, seconds: float) -> ProbeResult:
        if "sleep" in handler:
            await self._sleep_while_running(min(seconds, float(handler["sleep"]["seconds"])))
            return ProbeResult(ok=True)
        return await probe({**handler, "timeoutSeconds": seconds}, self.spec, self.context.pod_ip, self.execute)

    async def _sleep_while_running(self, seconds: float) -> None:
        if self.process:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.process.wait()

    # --- commands in the container ----------------------------------------------------------------------------------

    async def execute(self, command: list[str], seconds: float) -> tuple[int, str]:
        """Run a command in the container's environment; (exit code, output). Raises TimeoutError."""
        if self.execution is None:
            raise FileNotFoundError("the container has not started")
        command = [self.execution.rewrite(word) for word in command]
        program = executable(command[0], self.execution.env["PATH"])
        if program is None:
            raise FileNotFoundError(f'exec: "{command[0]}": executable file not found in $PATH')
        with tempfile.TemporaryFile() as output:
            process = Process.spawn(
                [program, *command[1:]],
                env=self.execution.env,
                cwd=self.execution.cwd,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(seconds):
                    code = await process.wait()
            finally:
                process.kill()
            output.seek(0)
            return code, output.read(_MAX_OUTPUT).decode(errors="replace")

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event of this container."""
        self.context.event(kind, reason, message, self.spec, init=self.init)

    def log_path(self, run: int) -> Path:
        """The log of the n-th run."""
        return self.context.directory / "logs" / self.record.name / f"{run}.log"
