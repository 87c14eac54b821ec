"""Whatever processes do and whenever they are asked, the counters of a pod never fall and never exceed the truth."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlserve_core.wire import LaneCounts, TelemetrySnapshot
from mlserve_runtime.telemetry.pod import PodMetrics, PodSnapshots

PROCESSES = 3
EXPOSITION = "# TYPE mlserve_requests_total counter\nmlserve_requests_total %d\n"


class Pod(RuleBasedStateMachine):
    """Processes that count, are asked, and die."""

    def __init__(self) -> None:
        super().__init__()
        self.truth = [0] * PROCESSES
        self.told: list[int | None] = [None] * PROCESSES
        self.asked_of_the_dead = 0
        self.ever = 0
        self.snapshots = PodSnapshots()
        self.metrics = PodMetrics()
        self.before = 0

    @rule(place=st.integers(0, PROCESSES - 1), requests=st.integers(1, 50))
    def count(self, place: int, requests: int) -> None:
        self.truth[place] += requests
        self.ever += requests

    @rule(place=st.integers(0, PROCESSES - 1))
    def ask(self, place: int) -> None:
        self.told[place] = self.truth[place]

    @rule(place=st.integers(0, PROCESSES - 1))
    def crash(self, place: int) -> None:
        told = self.told[place]
        if told is not None:
            self.snapshots.keep(snapshot(told))
            self.metrics.keep((EXPOSITION % told).encode())
            self.asked_of_the_dead += told
        self.truth[place], self.told[place] = 0, None

    @invariant()
    def the_sum_is_of_all_that_was_told(self) -> None:
        living = [told for told in self.told if told is not None]
        said = self.snapshots.total([snapshot(told) for told in living])
        total = said.live.requests if said is not None else 0
        assert total == sum(living) + self.asked_of_the_dead
        assert self.before <= total <= self.ever
        self.before = total
        text = self.metrics.render([(EXPOSITION % told).encode() for told in living], restarts=0).decode()
        if said is not None:
            assert said.in_flight == len(living)
            assert f"mlserve_requests_total {float(total)}" in text


def snapshot(requests: int) -> TelemetrySnapshot:
    return TelemetrySnapshot(name="m", revision="r", boot_id="0", in_flight=1, live=LaneCounts(requests=requests))


TestPod = Pod.TestCase
TestPod.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
