"""Where a serving process stands among several of a pod, and how many a pod can afford."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlserve_runtime.backends.threads import available_cpus
from mlserve_runtime.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """What the parent tells a process about its place. See server.pool."""

    index: int
    """From 0; kept by a process that replaces another."""
    management_socket: Path
    """What a lone process says on the management port, this one says to its parent."""
    memory: int
    """Descriptor of what the processes have seen. See mlserve_runtime.seen."""
    replacement: bool = False
    """It replaces one that crashed: its port is not opened before it can answer, because others do."""


def affordable_processes(wanted: int) -> int:
    """How many processes are started: no more than CPUs, said in the log, and at least one."""
    cpus = available_cpus()
    if wanted > cpus:
        logger.warning(
            "%d processes were asked for, %d are started: the container may use %d CPUs, and more processes than CPUs "
            "only take turns; raise the CPU limit or lower MLSERVE_PROCESSES",
            wanted, cpus, cpus,
        )  # fmt: skip
    return max(1, min(wanted, cpus))


def encode(settings: Settings, place: Place) -> str:
    """Settings and place as one argument of a command."""
    return json.dumps([dataclasses.asdict(settings), dataclasses.asdict(place)], default=str)


def decode(text: str) -> tuple[Settings, Place]:
    """What `encode` wrote."""
    settings, place = json.loads(text)
    return Settings(**_typed(Settings(), settings)), Place(
        **{**place, "management_socket": Path(place["management_socket"])}
    )


def _typed(example: Settings, values: dict[str, Any]) -> dict[str, Any]:
    """JSON has neither paths nor tuples."""
    kinds = {name: type(getattr(example, name)) for name in values}
    return {name: value if type(value) is kinds[name] else kinds[name](value) for name, value in values.items()}
