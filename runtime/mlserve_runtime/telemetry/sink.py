"""What the payload log writes, and what takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mlserve_runtime.batching.queue import Answer, Tensors
from mlserve_runtime.model import ServedModel


@dataclass(frozen=True, slots=True)
class Sample:
    """An answered request."""

    time: float
    """Seconds since 1970."""
    route: str
    request_id: str
    lane: str | None
    latency_millis: float
    inputs: Tensors
    """Raw, as the client sent them."""
    answers: Sequence[Answer]
    model: ServedModel


class Sink(Protocol):
    """Where samples go; used by one thread. All methods raise OSError when nothing more can be written."""

    def write(self, sample: Sample) -> None:
        """Take a sample."""

    def tick(self) -> None:
        """Called about once a second."""

    def close(self) -> None:
        """Write what waits."""
