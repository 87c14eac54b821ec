"""Runs pods until enough of them have succeeded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mlserve_local.controllers.replicas import is_active, is_ready, pod_from_template
from mlserve_local.controllers.shared import OWNER, Context, enqueue_all, own_key
from mlserve_local.objects import (
    JOBS,
    PODS,
    Obj,
    condition,
    controller_of,
    is_deleting,
    is_true,
    key_of,
    moment_of,
    name_of,
    namespace_of,
    owner_reference,
    timestamp,
    uid_of,
    without_empty,
)
from mlserve_local.workqueue import WorkQueue

_BACKOFF_SECONDS = 10.0
_MAX_BACKOFF_SECONDS = 360.0


def verdict(job: Obj, pods: Sequence[Obj], now: float) -> tuple[str, str, str] | None:
    """(condition, reason, message) once the Job has ended; None while it goes on."""
    spec = job["spec"]
    succeeded, failed = _in_phase(pods, "Succeeded"), _in_phase(pods, "Failed")
    completions = spec.get("completions")
    if completions is not None and succeeded >= completions:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    if completions is None and succeeded and not any(is_active(pod) for pod in pods):
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    if failed > spec.get("backoffLimit", 6):
        return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    started = moment_of((job.get("status") or {}).get("startTime"))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and started is not None and now >= started + deadline:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    return None


def missing_pods(job: Obj, pods: Sequence[Obj]) -> int:
    """How many more pods may run now; negative if there are too many."""
    spec = job["spec"]
    active, succeeded = sum(is_active(pod) for pod in pods), _in_phase(pods, "Succeeded")
    wanted = int(spec.get("parallelism", 1))
    completions = spec.get("completions")
    if completions is not None:
        wanted = min(wanted, completions - succeeded)
    elif succeeded:
        wanted = active
    return wanted - active


def backoff(pods: Sequence[Obj], now: float) -> float:
    """Seconds to wait before the next pod after failures."""
    failed = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed"]
    if not failed:
        return 0.0
    last = max(_ended(pod) or now for pod in failed)
    delay = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2.0 ** (len(failed) - 1))
    return float(max(0.0, last + delay - now))


def job_status(job: Obj, pods: Sequence[Obj], ended: tuple[str, str, str] | None, now: float) -> Obj:
    """The status as the controller writes it."""
    old = job.get("status") or {}
    status: Obj = {
        **without_empty(
            [
                ("active", sum(is_active(pod) for pod in pods)),
                ("succeeded", _in_phase(pods, "Succeeded")),
                ("failed", _in_phase(pods, "Failed")),
            ]
        ),
        "ready": sum(is_ready(pod) and is_active(pod) for pod in pods),
        "terminating": sum(is_deleting(pod) for pod in pods),
        "startTime": old.get("startTime") or timestamp(now),
        "uncountedTerminatedPods": {},
        **without_empty([("conditions", old.get("conditions")), ("completionTime", old.get("completionTime"))]),
    }
    if ended is not None and not is_true(job, ended[0]):
        moment = timestamp(now)
        entry = {"status": "True", "reason": ended[1], "message": ended[2]}
        times = {"lastProbeTime": moment, "lastTransitionTime": moment}
        criteria = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[ended[0]]
        status["conditions"] = [{"type": kind, **entry, **times} for kind in (criteria, ended[0])]
        if ended[0] == "Complete":
            status["completionTime"] = moment
    return status


class JobController:
    """Jobs without indexes: `completions`, `parallelism`, `backoffLimit`, deadline, time to live, suspend."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._jobs, self._pods = context.informers.jobs, context.informers.pods
        self._events = context.recorder("job-controller")
        self._queue = WorkQueue("job", self._reconcile)
        self._jobs.on_change(enqueue_all(self._queue, own_key))
        self._pods.on_change(enqueue_all(self._queue, _owner_key))

    async def run(self) -> None:
        """Work until cancelled."""
        await self._queue.run()

    async def _reconcile(self, key: str) -> None:
        job = self._jobs.get(key)
        if job is None or is_deleting(job):
            return
        finished = is_true(job, "Complete") or is_true(job, "Failed")
        if finished:
            await self._expire(job)
            return
        now = time.time()
        pods = self._pods.by_index(OWNER, uid_of(job))
        ended = verdict(job, pods, now)
        if ended is not None or job["spec"].get("suspend"):
            await asyncio.gather(*(self._delete(pod) for pod in pods if is_active(pod)))
        else:
            await self._adjust(job, pods, now)
        pods = self._pods.by_index(OWNER, uid_of(job))
        status = job_status(job, pods, ended, now)
        if status != job.get("status"):
            self._jobs.remember(await self._client.replace(JOBS, {**job, "status": status}, "status"))
            if ended is not None:
                kind = "Normal" if ended[0] == "Complete" else "Warning"
                reason = "Completed" if ended[0] == "Complete" else ended[1]
                self._events(job, kind, reason, "Job completed" if ended[0] == "Complete" else ended[2])
        deadline = job["spec"].get("activeDeadlineSeconds")
        if ended is None and deadline is not None:
            self._queue.add_after(key, (moment_of(status["startTime"]) or now) + deadline - now + 0.1)

    async def _adjust(self, job: Obj, pods: Sequence[Obj], now: float) -> None:
        missing = missing_pods(job, pods)
        wait = backoff(pods, now)
        if missing > 0 and wait > 0:
            self._queue.add_after(key_of(job), wait + 0.05)
        elif missing > 0:
            await asyncio.gather(*(self._create(job) for _ in range(missing)))
        elif missing < 0:
            surplus = [pod for pod in pods if is_active(pod)][:-missing]
            await asyncio.gather(*(self._delete(pod) for pod in surplus))

    async def _create(self, job: Obj) -> None:
        pod = pod_from_template(job["spec"]["template"], job, owner_reference(job, JOBS))
        created = await self._client.create(PODS, pod)
        self._pods.remember(created)
        self._events(job, "Normal", "SuccessfulCreate", f"Created pod: {name_of(created)}")

    async def _delete(self, pod: Obj) -> None:
        answer = await self._client.delete(PODS, pod)
        if answer.get("kind") == "Pod" and is_deleting(answer):
            self._pods.remember(answer)
        else:
            self._pods.forget(pod)

    async def _expire(self, job: Obj) -> None:
        """Delete the Job when its time to live after the end is over."""
        lifetime = job["spec"].get("ttlSecondsAfterFinished")
        if lifetime is None:
            return
        ended = condition(job, "Complete") or condition(job, "Failed") or {}
        rest = (moment_of(ended.get("lastTransitionTime")) or 0.0) + lifetime - time.time()
        if rest > 0:
            self._queue.add_after(key_of(job), rest)
        else:
            await self._client.delete(JOBS, job, propagationPolicy="Background")


def _in_phase(pods: Sequence[Obj], phase: str) -> int:
    return sum((pod.get("status") or {}).get("phase") == phase for pod in pods)


def _ended(pod: Obj) -> float | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    times = [moment_of(((s.get("state") or {}).get("terminated") or {}).get("finishedAt")) for s in statuses]
    return max((t for t in times if t is not None), default=None)


def _owner_key(pod: Obj) -> list[str]:
    owner = controller_of(pod)
    return [f"{namespace_of(pod)}/{owner['name']}"] if owner and owner["kind"] == "Job" else []
