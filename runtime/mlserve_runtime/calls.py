"""A request and its answer, as the prediction path passes them on, whatever carries them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import orjson

from mlserve_runtime.batching.queue import Job
from mlserve_runtime.errors import ServingError
from mlserve_runtime.model import ServedModel
from mlserve_runtime.processing import Tensors

if TYPE_CHECKING:
    from mlserve_runtime.batching.batcher import Batcher

Headers: TypeAlias = Mapping[bytes, bytes]
"""Lower-case names."""

LaneName: TypeAlias = Literal["live", "mirror"]

JSON = b"application/json"


@dataclass(slots=True)
class Reply:
    """What goes back to a client."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    message: Any = None
    """The answer as a message, for protocols that do not speak in bytes."""


@dataclass(slots=True)
class Prepared:
    """A request whose values were read: what to run and how to write the answer."""

    inputs: Tensors
    encode: Callable[[ServedModel, Job], Reply]
    timeout: float | None = None
    """Seconds the client wants to wait."""
    priority: int = 0
    max_ids: int = 1
    """Prediction ids are made for requests of at most this many rows."""


def error_body(text: str) -> bytes:
    """The body of every failed HTTP call, whatever the protocol."""
    return orjson.dumps({"error": text})


class Route(Protocol):
    """One way to ask for a prediction. Instances are immutable and shared by all requests."""

    name: str
    """Label of metrics."""

    def decode(self, call: Call, model: ServedModel) -> Prepared | Awaitable[Prepared]:
        """Read the values. Raises ServingError. Awaitable where decoding must leave the event loop."""


@dataclass(slots=True, eq=False)
class Call:
    """One request on the prediction path."""

    route: Route
    headers: Headers
    body: bytes
    reply: Callable[[Reply], None]
    received: float
    """Monotonic seconds when its last byte had come."""
    version: str = ""
    """Version in the URL, if any."""
    query: bytes = b""
    lane: LaneName | None = None
    """The telemetry lane that judges it; None for what is no evidence."""
    decoded: float = 0.0
    job: Job | None = None
    batcher: Batcher | None = None
    """Where the job waits or runs; after a reload not where new ones go."""
    alone: bool = False
    """Every client that is connected waits for an answer already: no other request can come now."""
    payload: Any = None
    """The request as a message, for protocols that do not speak in bytes."""
    timeout: float | None = None
    """Seconds the transport leaves for an answer."""
    refuse: Callable[[ServingError], None] | None = None
    """Tells the client of an error where that is no HTTP answer; None writes `{"error": "text"}`."""
    abandoned: bool = False
    """The client is gone: nobody needs the answer."""
