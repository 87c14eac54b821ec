"""The counters of a pod with several serving processes: their sum, which must never fall.

Whoever reads counters - the operator between two looks, Prometheus between two scrapes - takes a counter that fell for
a restart. So the last counters of a process that crashed are kept and go on being added, and a process that is too busy
to answer counts with what it said last. What a process counted after that, at most a second before its death, is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from mlserve_core.wire import TelemetrySnapshot
from mlserve_runtime.telemetry.gpu import GPU_METRICS
from mlserve_runtime.telemetry.metrics import METRICS

_ADDED: Final = frozenset({"counter", "histogram", "summary"})
_GAUGES: Final[Mapping[str, Callable[[float, float], float]]] = {
    "mlserve_ready": max,
    "mlserve_event_loop_lag_seconds": max,
    "mlserve_max_batch_rows": max,
    "mlserve_model_info": max,
    "mlserve_model_load_seconds": max,
    "process_max_fds": max,
    "process_start_time_seconds": min,
    "python_info": max,
}
"""Gauges that are not added up."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def add_snapshots(parts: Sequence[TelemetrySnapshot]) -> TelemetrySnapshot:
    """The sum of processes of one model, with the identity of the first.

    Counts on another profile than the first's are left out: processes learn of a new rollout within a second of each
    other, and counts on different bins have no sum.
    """
    documents = [part.model_dump() for part in parts]
    total = documents[0]
    for document in documents[1:]:
        total = {name: _add(value, document[name]) for name, value in total.items()}
    first = parts[0]
    return TelemetrySnapshot.model_validate(
        total | {"schema_version": first.schema_version, "sequence": first.sequence}
    )


def _add(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        if one.get("profile_digest") != other.get("profile_digest"):
            return one
        return {name: _add(one.get(name), other.get(name)) for name in (one | other)}
    if isinstance(one, list):
        longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
        return [a + b for a, b in zip(longer, [*shorter, *[0] * (len(longer) - len(shorter))], strict=True)]
    if isinstance(one, bool):
        return one or other
    return one + other if isinstance(one, int) else one


class PodSnapshots:
    """The telemetry of processes, added up; what dead processes counted is kept."""

    def __init__(self) -> None:
        self._kept: list[TelemetrySnapshot] = []

    def keep(self, last: TelemetrySnapshot) -> None:
        """Go on adding the counters of a process that died; nothing waits in it any more."""
        self._kept = [add_snapshots([last.model_copy(update={"in_flight": 0, "queue_rows": 0}), *self._kept])]

    def total(self, living: Sequence[TelemetrySnapshot]) -> TelemetrySnapshot | None:
        """The sum; None before any process has said something."""
        # Those that live come first: their profile is the one that is counted on now.
        parts = [*living, *self._kept]
        return add_snapshots(parts) if parts else None


class PodMetrics(Collector):
    """Families of several expositions, added up; what dead processes counted is kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Metric, Samples]] = {}
        self._living: Sequence[bytes] = ()
        self._restarts = 0
        self._own = CollectorRegistry()
        ProcessCollector(registry=self._own)

    def keep(self, exposition: bytes) -> None:
        """Go on adding the counters of a process that died."""
        add_families(self._kept, exposition, counters_only=True)

    def render(self, expositions: Sequence[bytes], restarts: int) -> bytes:
        """What `GET /metrics` of the pod answers."""
        self._living, self._restarts = expositions, restarts
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before processes were asked."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All families."""
        families = {name: (family, dict(samples)) for name, (family, samples) in self._kept.items()}
        for exposition in (generate_latest(self._own), *self._living):
            add_families(families, exposition)
        for name, (family, samples) in families.items():
            if name == "mlserve_process_restarts":
                continue
            total = Metric(family.name, family.documentation, family.type)
            for (sample, labels), value in samples.items():
                total.add_sample(sample, dict(labels), value)
            yield total
        yield CounterMetricFamily("mlserve_process_restarts", METRICS["mlserve_process_restarts"], value=self._restarts)


def add_families(
    families: dict[str, tuple[Metric, Samples]], exposition: bytes, *, counters_only: bool = False
) -> None:
    """Add an exposition to `families`, in place."""
    for family in text_string_to_metric_families(exposition.decode()):
        if counters_only and family.type not in _ADDED:
            continue
        _, samples = families.setdefault(family.name, (family, {}))
        # Every process sees the same GPUs.
        join = max if family.name in GPU_METRICS else _GAUGES.get(family.name, float.__add__)
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            value = float(sample.value)
            samples[key] = join(samples[key], value) if key in samples else value
