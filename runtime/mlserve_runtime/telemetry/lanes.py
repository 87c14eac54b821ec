"""Which requests are evidence, and what is counted of them.

Live requests are judged; mirrored ones (the router marks its copies with a header, gateways built on Envoy append
`-shadow` to their host) are counted apart; previews are counted nowhere. Where the router names the independent unit
a request belongs to, only the unit's first request of a rollout is judged: one busy user is one observation, not
thousands.

Counters are plain integers owned by the event loop. What comes with every request is gathered by the recorder and
counted as arrays, hundreds at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mlserve_core.wire import (
    HEADER_MIRROR,
    HEADER_PREVIEW,
    HEADER_UNIT,
    LATENCY_EDGES_MICROS,
    MIRROR_HOST_SUFFIX,
    LaneCounts,
    latency_bucket,
)
from mlserve_runtime.calls import Headers, LaneName
from mlserve_runtime.errors import ServingError
from mlserve_runtime.telemetry.histogram import Histogram

Floats: TypeAlias = npt.NDArray[np.float64]

_PREVIEW: Final = HEADER_PREVIEW.encode()
_MIRROR: Final = HEADER_MIRROR.encode()
_UNIT: Final = HEADER_UNIT.encode()
_SUFFIX: Final = MIRROR_HOST_SUFFIX.encode()
_EDGES: Final = np.array(LATENCY_EDGES_MICROS, dtype=np.float64)
_BUCKETS: Final = len(LATENCY_EDGES_MICROS) + 1
_EDGES_A_DOUBLING: Final = 4
_MAX_UNITS: Final = 100_000


class Lane:
    """Counters of one kind of request."""

    def __init__(self) -> None:
        self.requests = 0
        self.rows = 0
        self.client_errors = 0
        self.rejected = 0
        self.server_errors = 0
        self.timeouts = 0
        self.bad_outputs = 0
        self.latency = np.zeros(_BUCKETS, dtype=np.int64)
        self.latency_sum_micros = 0
        self.queue = np.zeros(_BUCKETS, dtype=np.int64)

    def answered(self, rows: int, latency_micros: Floats, queue_micros: Floats) -> None:
        """Predictions were given: all their rows, and the times of each request."""
        self.requests += len(latency_micros)
        self.rows += rows
        self.latency += np.bincount(np.searchsorted(_EDGES, latency_micros), minlength=_BUCKETS)
        self.latency_sum_micros += round(latency_micros.sum())
        self.queue += np.bincount(np.searchsorted(_EDGES, queue_micros), minlength=_BUCKETS)

    def failed(self, error: ServingError, latency_micros: float) -> None:
        """A request got no prediction. Draining and cancelled ones are not held against anybody."""
        status = error.status
        if status in {499, 503}:
            return
        self.requests += 1
        if status == 429:
            self.rejected += 1
        elif status < 500:
            self.client_errors += 1
        else:
            if status == 504:
                self.timeouts += 1
            else:
                self.server_errors += 1
            if error.reason == "bad_output":
                self.bad_outputs += 1
            self.latency[latency_bucket(latency_micros)] += 1
            self.latency_sum_micros += int(latency_micros)

    def counts(self) -> LaneCounts:
        """A snapshot without profiles and feedback."""
        return LaneCounts(
            requests=self.requests,
            rows=self.rows,
            client_errors=self.client_errors,
            rejected=self.rejected,
            server_errors=self.server_errors,
            timeouts=self.timeouts,
            bad_outputs=self.bad_outputs,
            latency=self.latency.tolist(),
            latency_sum_micros=self.latency_sum_micros,
            queue=self.queue.tolist(),
        )


class Units:
    """The units already judged in this rollout; memory is bounded by forgetting the oldest."""

    def __init__(self, limit: int = _MAX_UNITS) -> None:
        self._limit = limit
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def first(self, unit: bytes) -> bool:
        """Whether this is the first request of a unit since the last reset."""
        if unit in self._seen:
            self._seen.move_to_end(unit)
            return False
        self._seen[unit] = None
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return True

    def reset(self) -> None:
        """A new rollout begins."""
        self._seen.clear()


def is_mirrored(host: bytes) -> bool:
    """Whether a gateway mirrored a request to this host: `name-shadow` or `name-shadow:port`."""
    return host.partition(b":")[0].endswith(_SUFFIX)


class Lanes:
    """The live and the mirror lane, and the rule that assigns requests to them."""

    def __init__(self) -> None:
        self.live = Lane()
        self.mirror = Lane()
        self.unjudged = Lane()
        """Previews and repeated units: in the metrics people watch, but no evidence."""
        self.units = Units()

    def assign(self, headers: Headers) -> LaneName | None:
        """The lane that judges a request; None for previews and for units that were judged before."""
        if _PREVIEW in headers:
            return None
        told = headers.get(_MIRROR)
        if told == b"true" or (told is None and is_mirrored(headers.get(b"host", b""))):
            return "mirror"
        unit = headers.get(_UNIT)
        if unit is not None and not self.units.first(unit[:256]):
            return None
        return "live"

    def of(self, name: LaneName | None) -> Lane:
        """The counters of a lane."""
        if name == "live":
            return self.live
        return self.mirror if name == "mirror" else self.unjudged

    def latency(self) -> Histogram:
        """Latencies of all requests, for people: every fourth edge (one a doubling) of what is on the wire."""
        lanes = (self.live, self.mirror, self.unjudged)
        histogram = Histogram([edge / 1e6 for edge in LATENCY_EDGES_MICROS[::_EDGES_A_DOUBLING]])
        for index, count in enumerate(np.sum([lane.latency for lane in lanes], axis=0).tolist()):
            place = -(-index // _EDGES_A_DOUBLING)
            histogram.counts[min(place, len(histogram.counts) - 1)] += count
        histogram.sum = sum(lane.latency_sum_micros for lane in lanes) / 1e6
        return histogram
