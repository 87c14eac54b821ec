"""What the pods use: CPU and memory of each container's processes, measured for autoscaling and memory limits.

Every container is a session of its own, so one pass over /proc tells the use of all of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlserve_local.apiserver import quantity
from mlserve_local.node.container import Container
from mlserve_local.node.pod import PodWorker
from mlserve_local.objects import Obj, name_of, namespace_of, timestamp, uid_of

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS: Final = 10.0
CONFIRM_SECONDS: Final = 1.0
"""After a container was found over its memory limit: one sample may catch a fork that shares its pages."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Use of one session: CPU seconds since its start, resident bytes."""

    cpu_seconds: float
    rss_bytes: int


def sessions() -> dict[int, Usage]:
    """Use of every session of the machine by the pid of its leader."""
    found: dict[int, Usage] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        session = int(fields[3])
        # user, system and those of children that have ended
        ticks = sum(int(fields[index]) for index in (11, 12, 13, 14))
        before = found.get(session, Usage(0.0, 0))
        found[session] = Usage(before.cpu_seconds + ticks / _TICK, before.rss_bytes + int(fields[21]) * _PAGE)
    return found


@dataclass(slots=True)
class _Sample:
    pid: int
    at: float
    usage: Usage
    cores: float = 0.0


class Stats:
    """Samples of all containers; the rate of one is its CPU use between the last two samples."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], _Sample] = {}
        self._over_limit: set[tuple[str, str]] = set()
        self._sampled_at = 0.0

    @property
    def next_in(self) -> float:
        """Seconds until the next sample is due."""
        return CONFIRM_SECONDS if self._over_limit else SAMPLE_SECONDS

    def sample(self, workers: Iterable[PodWorker]) -> None:
        """Measure, and end containers that exceed their memory limit in two samples in a row."""
        now = time.monotonic()
        measured = sessions()
        samples: dict[tuple[str, str], _Sample] = {}
        for worker in workers:
            for container in worker.containers:
                process = container.process
                if process is None or process.pid not in measured:
                    continue
                key = (worker.uid, container.record.name)
                samples[key] = _advance(self._samples.get(key), process.pid, now, measured[process.pid])
                self._enforce(key, container, measured[process.pid])
        self._over_limit &= samples.keys()
        self._samples = samples
        self._sampled_at = now

    def _enforce(self, key: tuple[str, str], container: Container, usage: Usage) -> None:
        limit = memory_limit(container.spec)
        if limit is None or usage.rss_bytes <= limit:
            self._over_limit.discard(key)
        elif key in self._over_limit:
            self._over_limit.discard(key)
            container.out_of_memory()
        else:
            self._over_limit.add(key)

    def summary(self, node_name: str, workers: Mapping[str, PodWorker]) -> Obj:
        """The part of a kubelet's `/stats/summary` that metrics need."""
        if time.monotonic() - self._sampled_at > SAMPLE_SECONDS / 2:
            self.sample(workers.values())
        now = timestamp(time.time())
        pods = [self._pod(worker, now) for worker in workers.values()]
        total_cpu = sum(pod["cpu"]["usageNanoCores"] for pod in pods)
        total_memory = sum(pod["memory"]["workingSetBytes"] for pod in pods)
        node = {"nodeName": node_name, "cpu": {"time": now, "usageNanoCores": total_cpu}}
        return {"node": {**node, "memory": {"time": now, "workingSetBytes": total_memory}}, "pods": pods}

    def _pod(self, worker: PodWorker, now: str) -> Obj:
        containers: list[Obj] = []
        for container in worker.containers:
            sample = self._samples.get((worker.uid, container.record.name))
            if sample is None:
                continue
            nano_cores = round(sample.cores * 1e9)
            used = {"usageNanoCores": nano_cores, "usageCoreNanoSeconds": round(sample.usage.cpu_seconds * 1e9)}
            memory = {"workingSetBytes": sample.usage.rss_bytes, "rssBytes": sample.usage.rss_bytes}
            entry = {"name": container.record.name, "cpu": {"time": now, **used}, "memory": {"time": now, **memory}}
            containers.append(entry)
        pod = worker.context.pod
        cpu = sum(c["cpu"]["usageNanoCores"] for c in containers)
        memory_bytes = sum(c["memory"]["workingSetBytes"] for c in containers)
        return {
            "podRef": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid_of(pod)},
            "containers": containers,
            "cpu": {"time": now, "usageNanoCores": cpu},
            "memory": {"time": now, "workingSetBytes": memory_bytes},
        }


def _advance(old: _Sample | None, pid: int, now: float, usage: Usage) -> _Sample:
    if old is None or old.pid != pid or now <= old.at:
        return _Sample(pid, now, usage)
    cores = max(0.0, usage.cpu_seconds - old.usage.cpu_seconds) / (now - old.at)
    return _Sample(pid, now, usage, cores)


def memory_limit(container: Obj) -> int | None:
    """Bytes of limits.memory, if set."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return None if limit is None else int(quantity.parse(limit))
