"""Counters of several processes as those of one pod."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlserve_core.wire import FeatureCounts, FeedbackCounts, LaneCounts, ProfileCounts, TelemetrySnapshot
from mlserve_runtime.telemetry.pod import PodMetrics, add_snapshots


def profile(digest: str, rows: int) -> ProfileCounts:
    return ProfileCounts(
        profile_digest=digest,
        rows=rows,
        features={"age": FeatureCounts(counts=[rows, 0], missing=1)},
        predictions=[rows],
    )


def told(requests: int, **lane: object) -> TelemetrySnapshot:
    live = LaneCounts(requests=requests, latency=[requests, 0, 1], **lane)
    return TelemetrySnapshot(name="m", revision="r", boot_id="0", live=live, in_flight=1, ready=True)


def test_everything_is_added() -> None:
    one = told(
        3,
        own=profile("a", 3),
        comparison=profile("b", 2),
        feedback=FeedbackCounts(confusion={"yes": {"yes": 1}}, rewards=1, reward_sum_milli=-500),
    )
    other = told(
        4,
        own=profile("a", 4),
        comparison=profile("b", 1),
        feedback=FeedbackCounts(confusion={"yes": {"no": 1}, "no": {"no": 2}}, rewards=1, reward_sum_milli=200),
    )
    total = add_snapshots([one, other])
    assert (total.name, total.in_flight, total.ready) == ("m", 2, True)
    assert (total.live.requests, total.live.latency) == (7, [7, 0, 2])
    assert total.live.feedback.confusion == {"yes": {"yes": 1, "no": 1}, "no": {"no": 2}}
    assert total.live.feedback.reward_sum_milli == -300
    assert total.live.own is not None
    assert total.live.own.profile_digest == "a"
    assert total.live.own.features["age"] == FeatureCounts(counts=[7, 0], missing=2)
    assert total.live.comparison is not None
    assert total.live.comparison.rows == 3


def test_counts_on_another_profile_are_no_part_of_the_sum() -> None:
    total = add_snapshots([told(1, comparison=profile("new", 1)), told(1, comparison=profile("old", 9)), told(1)])
    assert total.live.comparison == profile("new", 1)
    assert total.live.requests == 3


def test_a_process_without_a_profile_does_not_hide_the_others() -> None:
    assert add_snapshots([told(1), told(1, own=profile("a", 2))]).live.own == profile("a", 2)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.randoms())
def test_the_order_does_not_matter(counts: list[int], random: object) -> None:
    parts = [told(count, own=profile("a", count)) for count in counts]
    total = add_snapshots(parts)
    random.shuffle(parts)  # type: ignore[attr-defined]
    assert add_snapshots(parts) == total
    assert total.live.requests == sum(counts)


EXPOSITION = b"""# HELP mlserve_requests_total Requests
# TYPE mlserve_requests_total counter
mlserve_requests_total{route="predict",status="200"} %d
# HELP mlserve_batch_rows Rows
# TYPE mlserve_batch_rows histogram
mlserve_batch_rows_bucket{le="1"} 1
mlserve_batch_rows_bucket{le="+Inf"} 2
mlserve_batch_rows_count 2
mlserve_batch_rows_sum 9
# HELP mlserve_queue_rows Waiting
# TYPE mlserve_queue_rows gauge
mlserve_queue_rows 5
# HELP mlserve_event_loop_lag_seconds Lag
# TYPE mlserve_event_loop_lag_seconds gauge
mlserve_event_loop_lag_seconds 0.25
# HELP mlserve_process_restarts_total Restarts
# TYPE mlserve_process_restarts_total counter
mlserve_process_restarts_total 0
"""


def test_metrics_are_added_and_a_dead_process_is_not_forgotten() -> None:
    metrics = PodMetrics()
    before = metrics.render([EXPOSITION % 3, EXPOSITION % 4], restarts=0).decode()
    assert 'mlserve_requests_total{route="predict",status="200"} 7.0' in before
    assert 'mlserve_batch_rows_bucket{le="+Inf"} 4.0' in before
    assert "mlserve_queue_rows 10.0" in before
    assert "mlserve_event_loop_lag_seconds 0.25" in before
    metrics.keep(EXPOSITION % 3)
    after = metrics.render([EXPOSITION % 4], restarts=1).decode()
    assert 'mlserve_requests_total{route="predict",status="200"} 7.0' in after, "a counter never falls"
    assert "mlserve_batch_rows_sum 18.0" in after
    assert "mlserve_queue_rows 5.0" in after, "nothing waits in a dead process"
    assert "mlserve_process_restarts_total 1.0" in after
    assert metrics.render([EXPOSITION % 4], restarts=1).decode().count("# TYPE mlserve_requests_total") == 1
