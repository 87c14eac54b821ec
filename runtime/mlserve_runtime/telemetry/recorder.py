"""Everything counted in one place, and the snapshot the operator pulls."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

import numpy as np

from mlserve_core.wire import TelemetrySnapshot
from mlserve_runtime.batching.execution import Outcome
from mlserve_runtime.batching.queue import Answer, Batch, Tensors
from mlserve_runtime.calls import Call, LaneName
from mlserve_runtime.errors import ServingError
from mlserve_runtime.feedback.ledger import Ledger
from mlserve_runtime.feedback.tokens import Signer
from mlserve_runtime.model import ServedModel
from mlserve_runtime.seen import REPORTS, UNITS, SharedSeen
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.budget import Budget
from mlserve_runtime.telemetry.histogram import Histogram
from mlserve_runtime.telemetry.lanes import Lanes, Units
from mlserve_runtime.telemetry.profiles import ComparisonFile, LaneProfiles, read_profile
from mlserve_runtime.telemetry.tracing import Tracer, build_tracer

LANE_NAMES: Final[tuple[LaneName, ...]] = ("live", "mirror")
PHASES: Final = ("parse", "queue", "forward", "encode")
_FIGURES: Final = Struct("6d")
"""Of an answered request: when it was received, decoded, started, finished and sent, and its rows."""
_pack: Final = _FIGURES.pack
_GATHERED_BYTES: Final = 1024 * _FIGURES.size
"""So many answers are counted together: arithmetic on arrays that runs seldom finds nothing of itself in the caches."""


@dataclass(slots=True)
class ServerMetrics:
    """What people watch; exported by telemetry.metrics."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """By route and status."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Requests without a prediction, by reason."""
    phase_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    """Sums over the answered requests."""
    answered: int = 0
    batch_rows: Histogram = field(default_factory=Histogram.rows)
    batch_seconds: Histogram = field(default_factory=Histogram.seconds)
    confidence: Histogram = field(default_factory=Histogram.fractions)
    loop_lag: float = 0.0


class SharedUnits(Units):
    """The units judged in a rollout by all processes of a pod; another rollout has other keys."""

    def __init__(self, seen: SharedSeen, rollout: str = "") -> None:
        super().__init__()
        self._shared = seen
        self._prefix = rollout.encode() + b"\0"

    def first(self, unit: bytes) -> bool:
        """Whether no process of the pod has judged this unit in the rollout."""
        return self._shared.first(self._prefix + unit)


class Recorder:
    """Owned by the event loop."""

    def __init__(self, settings: Settings, memory: int | None = None) -> None:
        """`memory` is the descriptor of what the processes of a pod have seen (see seen.py); None for one process."""
        self.settings = settings
        self.lanes = Lanes()
        self._seen_units = None if memory is None else SharedSeen(memory, UNITS)
        if self._seen_units is not None:
            self.lanes.units = SharedUnits(self._seen_units)
        self.metrics = ServerMetrics()
        self.signer = Signer(settings.feedback_keys_dir)
        self.ledger = Ledger(self.signer, shared=None if memory is None else SharedSeen(memory, REPORTS))
        self._answers: defaultdict[tuple[LaneName | None, str], bytearray] = defaultdict(bytearray)
        """_FIGURES by lane and route. Packed, since numbers that are kept as objects are missing where the interpreter
        would use their memory again at once."""
        self._profiles: dict[LaneName, LaneProfiles] = {}
        self._budget = Budget()
        """Of all lanes together, for counting on the bins of profiles."""
        self._comparison = ComparisonFile(settings.comparison_dir)
        self.tracer: Tracer | None = None
        self._first_output = ""
        self._rollout = ""
        self._sequence = 0

    def model_loaded(self, model: ServedModel) -> None:
        """Count on the model's own profile from now on."""
        if self.tracer is None:
            self.tracer = build_tracer(self.settings)
        own = read_profile(model.artifact.profile_path)
        confidence = self.metrics.confidence
        self._profiles = {name: LaneProfiles(own, model.pipeline, confidence, self._budget) for name in LANE_NAMES}
        self._first_output = model.artifact.spec.outputs[0].name
        self._comparison = ComparisonFile(self.settings.comparison_dir)
        self.poll_comparison()

    def poll(self) -> None:
        """Look whether mounted files have changed: feedback keys, and what to compare with."""
        self.signer.poll()
        self.poll_comparison()

    def poll_comparison(self) -> None:
        """Look whether the operator has changed what to compare with; a new rollout judges every unit anew."""
        changed, comparison = self._comparison.poll()
        if not changed:
            return
        for profiles in self._profiles.values():
            profiles.compare(comparison)
        rollout = comparison.rollout if comparison else ""
        if rollout != self._rollout:
            self._rollout = rollout
            self.lanes.units = Units() if self._seen_units is None else SharedUnits(self._seen_units, rollout)

    def answered(self, call: Call, now: float) -> None:
        """A prediction was sent."""
        job = call.job
        if job is None:
            return
        key = (call.lane, call.route.name)
        gathered = self._answers[key]
        gathered += _pack(call.received, call.decoded, job.started, job.finished, now, job.rows)
        if len(gathered) >= _GATHERED_BYTES:
            self._count_answers(*key)
        if self.tracer is not None:
            self.tracer.record(call, 200, now)

    def _count_answers(self, lane: LaneName | None, route: str) -> None:
        gathered = self._answers.pop((lane, route))
        received, decoded, started, finished, sent, rows = np.frombuffer(gathered).reshape(-1, _FIGURES.size // 8).T
        metrics, queue = self.metrics, started - decoded
        metrics.answered += len(rows)
        metrics.requests[route, 200] += len(rows)
        durations = (decoded - received, queue, finished - started, sent - finished)
        for phase, seconds in zip(PHASES, durations, strict=True):
            metrics.phase_seconds[phase] += float(seconds.sum())
        self.lanes.of(lane).answered(int(rows.sum()), (sent - received) * 1e6, queue * 1e6)

    def failed(self, call: Call, error: ServingError, now: float) -> None:
        """A request was answered with an error."""
        latency = now - call.received
        self.metrics.requests[call.route.name, error.status] += 1
        self.metrics.rejected[error.reason] += 1
        self.lanes.of(call.lane).failed(error, latency * 1e6)
        if self.tracer is not None:
            self.tracer.record(call, error.status, now)

    def cached(self, call: Call, answer: Answer, inputs: Tensors) -> None:
        """Rows answered without the model are evidence like any other."""
        if call.lane is not None and self._profiles and self._budget.allows():
            self._profiles[call.lane].update(inputs, answer.result.outputs[self._first_output])

    def batch_done(self, batch: Batch, outcome: Outcome) -> None:
        """Count the rows of a pass; see batcher.Observer."""
        self.metrics.batch_rows.observe(batch.rows)
        self.metrics.batch_seconds.observe(outcome.seconds)
        if outcome.result is None or not self._profiles or not self._budget.allows():
            return
        scores = outcome.result.outputs[self._first_output]
        lanes = [piece.job.lane for piece in batch.slices]
        first = lanes[0]
        if lanes.count(first) == len(lanes):
            if first is not None:
                self._profiles[first].update(outcome.inputs, scores)
            return
        for name, profiles in self._profiles.items():
            start = 0
            chosen: list[int] = []
            for piece, lane in zip(batch.slices, lanes, strict=True):
                if lane == name:
                    chosen.extend(range(start, start + piece.rows))
                start += piece.rows
            if chosen:
                profiles.update({key: array[chosen] for key, array in outcome.inputs.items()}, scores[chosen])

    def flush(self) -> None:
        """Count what was gathered, before somebody reads."""
        for key in tuple(self._answers):
            self._count_answers(*key)
        for profiles in self._profiles.values():
            profiles.flush()

    def snapshot(
        self, model: ServedModel | None, *, ready: bool, draining: bool, in_flight: int, queue_rows: int
    ) -> TelemetrySnapshot:
        """The counters since boot, for `GET /telemetry`."""
        self._sequence += 1
        self.flush()
        settings = self.settings
        lanes = {}
        for name in LANE_NAMES:
            own, comparison = self._profiles[name].counts() if self._profiles else (None, None)
            extra = {"own": own, "comparison": comparison, "feedback": self.ledger.counts(settings.revision, name)}
            lanes[name] = self.lanes.of(name).counts().model_copy(update=extra)
        return TelemetrySnapshot(
            name=model.name if model else settings.model_name,
            revision=settings.revision,
            version=model.version if model else settings.model_version,
            model_digest=model.artifact.digest if model else settings.model_digest,
            pod=settings.pod,
            pod_uid=settings.pod_uid,
            boot_id=settings.boot_id,
            sequence=self._sequence,
            ready=ready,
            draining=draining,
            in_flight=in_flight,
            queue_rows=queue_rows,
            live=lanes["live"],
            mirror=lanes["mirror"],
            other_feedback={
                revision: self.ledger.counts(revision, "live")
                for revision in self.ledger.revisions()
                if revision != settings.revision
            },
        )
