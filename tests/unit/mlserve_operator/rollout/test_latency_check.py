"""Slow answers come in groups, and a tail within the limit is no regression: neither may roll a version back."""

from __future__ import annotations

import pytest

from mlserve_core.api.v1alpha1 import Analysis
from mlserve_operator.rollout.accumulate import _add_counts
from mlserve_operator.rollout.evidence import CheckEvidence, Verdict
from mlserve_operator.rollout.judge import ALPHA_SHARE, _report

WEIGHTS = (5, 25, 50, 100)


def verdict(*looks: tuple[int, int, int, int]) -> Verdict:
    """Verdict of the latency check after looks of (canary, slow of it, stable, slow of it)."""
    analysis, check = Analysis(), CheckEvidence()
    for counts in looks:
        check = _add_counts("latency", check, counts, analysis, WEIGHTS)
    return _report("latency", check, ALPHA_SHARE["latency"] / analysis.false_alarm_one_in, 0).verdict


@pytest.mark.parametrize(
    ("looks", "failed"),
    [
        pytest.param([(20, 0, 380, 2)] * 3 + [(20, 6, 380, 2)], False, id="one stall of the canary's pod"),
        pytest.param([(20, 20, 380, 2)] * 3, True, id="every answer slow"),
        pytest.param([(100, 30, 300, 15)] * 10, True, id="30 percent slow, stable 5"),
        pytest.param([(100, 2, 100, 0)] * 20, False, id="a tail of 2 percent is within p95"),
        pytest.param([(100, 5, 300, 15)] * 40, False, id="alike"),
    ],
)
def test_only_lasting_slowness_of_the_bulk_fails(looks: list[tuple[int, int, int, int]], *, failed: bool) -> None:
    assert (verdict(*looks) is Verdict.FAILED) is failed
