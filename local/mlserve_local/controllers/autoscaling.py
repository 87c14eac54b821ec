"""How many replicas do the metrics call for? Pure, after the rules of the HorizontalPodAutoscaler.

`usage / target` gives a ratio per metric, the largest proposal counts; within the tolerance nothing happens; policies
bound the speed of change, stabilisation windows hold back a scale-down until the load has stayed low.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mlserve_local.objects import Obj

TOLERANCE: Final = 0.1
_DEFAULT_UP: Final = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DEFAULT_DOWN: Final = {
    "stabilizationWindowSeconds": 300,
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


@dataclass(frozen=True, slots=True)
class PodSample:
    """One pod of the target: what it uses (None: not known) and whether it is ready."""

    value: float | None
    request: float
    """What the pod asks for; 1 for metrics without requests."""
    ready: bool


def proposal(current: int, samples: Sequence[PodSample], target: float) -> tuple[int, float] | None:
    """(replicas, measured average as a share of the request); None without any measurement.

    Pods without a measurement damp the change: they count as idle when scaling up, as on target when scaling down.

    >>> proposal(2, [PodSample(0.9, 1.0, True), PodSample(0.9, 1.0, True)], 0.5)
    (4, 0.9)
    """
    measured = [s for s in samples if s.value is not None and s.ready]
    if not measured:
        return None
    requested = sum(s.request for s in measured)
    average = sum(s.value or 0.0 for s in measured) / requested
    ratio = average / target
    missing = [s for s in samples if s.value is None or not s.ready]
    if missing and not math.isclose(ratio, 1.0):
        assumed = target if ratio < 1 else 0.0
        total = sum(s.value or 0.0 for s in measured) + sum(s.request * assumed for s in missing)
        damped = total / (requested + sum(s.request for s in missing)) / target
        if abs(damped - 1) <= TOLERANCE or (ratio > 1) != (damped > 1):
            return current, average
        return math.ceil(round(damped * len(samples), 6)), average
    if abs(ratio - 1) <= TOLERANCE:
        return current, average
    return math.ceil(round(ratio * len(measured), 6)), average


@dataclass(slots=True)
class History:
    """What one autoscaler remembers between looks."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)
    """(when, replicas added; negative for removed)."""


def behavior(autoscaler: Obj, direction: str) -> Obj:
    """The rules of `scaleUp` or `scaleDown` with defaults."""
    default = _DEFAULT_UP if direction == "scaleUp" else _DEFAULT_DOWN
    given = (autoscaler["spec"].get("behavior") or {}).get(direction) or {}
    return {**default, **{key: value for key, value in given.items() if value is not None}}


def stabilised(autoscaler: Obj, history: History, current: int, wanted: int, now: float) -> int:
    """The recommendation that the windows allow: the lowest recent one when going up, the highest when going down."""
    up = behavior(autoscaler, "scaleUp")["stabilizationWindowSeconds"]
    down = behavior(autoscaler, "scaleDown")["stabilizationWindowSeconds"]
    if not history.recommendations:
        # After a start the present size counts as recommended: a restart must not undo a scale-up at once.
        history.recommendations.append((now, current))
    history.recommendations.append((now, wanted))
    history.recommendations = [(t, n) for t, n in history.recommendations if now - t <= max(up, down)]
    lowest = min((n for t, n in history.recommendations if now - t < up), default=wanted)
    highest = max((n for t, n in history.recommendations if now - t < down), default=wanted)
    return min(max(current, lowest), highest)


def rate_limited(autoscaler: Obj, history: History, current: int, wanted: int, now: float) -> int:
    """Apply the policies of the direction."""
    if wanted == current:
        return wanted
    up = wanted > current
    rules = behavior(autoscaler, "scaleUp" if up else "scaleDown")
    if rules["selectPolicy"] == "Disabled":
        return current
    bounds = [_policy_bound(policy, history, current, up=up, now=now) for policy in rules["policies"]]
    widest = (rules["selectPolicy"] == "Max") == up
    bound = max(bounds) if widest else min(bounds)
    return min(wanted, bound) if up else max(wanted, bound)


def _policy_bound(policy: Obj, history: History, current: int, *, up: bool, now: float) -> int:
    recent = [change for when, change in history.changes if now - when <= policy["periodSeconds"]]
    at_start = current - sum(recent)
    if policy["type"] == "Pods":
        return at_start + int(policy["value"]) if up else at_start - int(policy["value"])
    share = float(policy["value"]) / 100
    return math.ceil(at_start * (1 + share)) if up else math.floor(at_start * (1 - share))


def clamp(autoscaler: Obj, wanted: int) -> tuple[int, str]:
    """Within minReplicas and maxReplicas; with the reason if one of them limits."""
    least, most = autoscaler["spec"].get("minReplicas", 1), autoscaler["spec"]["maxReplicas"]
    if wanted < least:
        return int(least), "TooFewReplicas"
    if wanted > most:
        return int(most), "TooManyReplicas"
    return wanted, "DesiredWithinRange"
