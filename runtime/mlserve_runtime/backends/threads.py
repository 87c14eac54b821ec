"""How many threads a forward pass may use: what the container was given, not what the node has.

A process in a container with a quota of two CPUs on a machine of 64 would start 64 threads, be throttled by the
kernel, and be slower than with two. Quotas of cgroup v2 and v1 are read, and the affinity mask respected.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cpus(root: Path = CGROUP_ROOT) -> int:
    """CPUs this process may use: the smaller of affinity and cgroup quota, at least 1."""
    affinity = len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def cpu_quota(root: Path = CGROUP_ROOT) -> float | None:
    """CPUs of the cgroup's quota; None where there is no limit or no cgroup."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return _quota_v1(root)
    return None if limit == "max" else float(limit) / float(period)


def _quota_v1(root: Path) -> float | None:
    try:
        limit = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return limit / period if limit > 0 and period > 0 else None
