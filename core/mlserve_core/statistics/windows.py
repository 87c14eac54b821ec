"""From windows to alarms: how long a window lasts, and when a finding is confirmed or over.

A window has a fixed duration and is extended until it has enough rows, or closed as InsufficientData at its limit.
(Closing it at a number of rows would shrink windows under load, and "once in 10,000 windows" to hours.) A feature
drifts when 2 of its last 3 windows found it, and has recovered after 3 windows under half the effect.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from mlserve_core.statistics import panes
from mlserve_core.statistics.drift import (
    DriftResult,
    DriftSettings,
    DriftVerdict,
    FeatureDrift,
    Result,
    Severity,
    compare,
    estimated_accuracy,
    performance,
    rows_needed,
)
from mlserve_core.statistics.page_hinkley import PageHinkley, threshold
from mlserve_core.statistics.profile import ReferenceProfile
from mlserve_core.wire import ProfileCounts

MAX_EXTENSION: Final = 12
"""Durations after which a window is closed whatever it has."""
CONFIRM: Final = 2
MEMORY: Final = 3
PERFORMANCE_DROP: Final = 0.05
"""Relative drop of accuracy that counts."""


class History(Result):
    """What is remembered of one feature: its last findings, and for how many windows it was calm."""

    found: tuple[bool, ...] = ()
    calm: int = 0
    drifting: bool = False


class Window(Result):
    """The window under way and what earlier ones found."""

    start: float | None = None
    counts: ProfileCounts | None = None
    right: int = 0
    labelled: int = 0
    histories: dict[str, History] = Field(default_factory=dict)
    walk: float = 0.0
    walk_lowest: float = 0.0
    closed: int = 0


def advance(
    window: Window, profile: ReferenceProfile, settings: DriftSettings, *, now: float, seconds: float,
    pane: ProfileCounts | None, right: int = 0, labelled: int = 0,
) -> tuple[Window, DriftResult | None]:  # fmt: skip
    """Add a pane of counts; close the window if its time has come.

    Args:
        window: the window so far.
        profile: the reference.
        settings: what counts as drift.
        now: seconds since the epoch. A clock that went back starts the window anew.
        seconds: the duration of a window.
        pane: what was counted since the last call; `None` for nothing.
        right: right predictions among the labels that arrived.
        labelled: labels that arrived.

    Returns:
        The new window, and the result when one was closed.
    """
    start = now if window.start is None or now < window.start else window.start
    window = window.model_copy(
        update={
            "start": start,
            "counts": panes.add(window.counts, pane),
            "right": window.right + right,
            "labelled": window.labelled + labelled,
        }
    )
    rows, needed = window.counts.rows if window.counts else 0, rows_needed(profile, settings)
    if now - start < seconds:
        return window, None
    if needed is not None and window.counts is not None and rows >= needed:
        return _close(window, profile, settings, now, needed)
    if now - start < MAX_EXTENSION * seconds:
        return window, None
    message = f"{rows} rows, {needed} are needed" if needed else "the reference has too few rows to judge by"
    result = DriftResult(
        verdict=DriftVerdict.INSUFFICIENT_DATA,
        window_start=start,
        window_end=now,
        rows=rows,
        rows_needed=needed,
        message=message,
    )
    return _next(window, now), result


def _next(window: Window, now: float, **changed: object) -> Window:
    fresh = {"start": now, "counts": None, "right": 0, "labelled": 0, "closed": window.closed + 1}
    return window.model_copy(update=fresh | changed)


def _close(
    window: Window, profile: ReferenceProfile, settings: DriftSettings, now: float, needed: int
) -> tuple[Window, DriftResult]:
    assert window.counts is not None  # noqa: S101 - checked by the caller
    found = compare(profile, window.counts, settings)
    histories = {item.name: _remember(window.histories.get(item.name, History()), item, settings) for item in found}
    features = tuple(item.model_copy(update={"drifted": histories[item.name].drifting}) for item in found)
    walk = PageHinkley(window.walk, window.walk_lowest)
    reference = profile.predictions.accuracy
    worse, alpha = False, 1 / settings.false_alarm_every
    if reference is not None and window.labelled:
        worse, _ = performance(window.right, window.labelled, reference, drop=PERFORMANCE_DROP, alpha=alpha)
        wrong, tolerance = window.labelled - window.right, PERFORMANCE_DROP * reference / 2
        walk = walk.add(wrong, window.labelled, expected=1 - reference, tolerance=tolerance)
        worse = worse or walk.rise > threshold(1 - reference, tolerance, alpha)
    result = summarise(features, window.counts.rows, needed).model_copy(
        update={
            "window_start": window.start,
            "window_end": now,
            "labelled": window.labelled,
            "accuracy": window.right / window.labelled if window.labelled else None,
            "reference_accuracy": reference,
            "estimated_accuracy": estimated_accuracy(profile, window.counts),
            "performance_drifted": worse,
        }
    )
    return _next(window, now, histories=histories, walk=walk.walk, walk_lowest=walk.lowest), result


def _remember(history: History, item: FeatureDrift, settings: DriftSettings) -> History:
    if settings.classic:
        return History(drifting=item.drifted)
    found = (*history.found, item.drifted)[-MEMORY:]
    calm = history.calm + 1 if item.effect < item.threshold / 2 else 0
    drifting = sum(found) >= CONFIRM or (history.drifting and calm < MEMORY)
    return History(found=found, calm=calm, drifting=drifting)


def summarise(features: tuple[FeatureDrift, ...], rows: int, needed: int | None) -> DriftResult:
    """The verdict of a window from its features."""
    drifted = [item for item in features if item.drifted]
    order = list(Severity)
    severity = max((item.severity for item in drifted), key=order.index, default=Severity.NONE)
    names = ", ".join(item.name for item in drifted[:5])
    return DriftResult(
        verdict=DriftVerdict.DRIFT if drifted else DriftVerdict.NO_DRIFT,
        severity=severity,
        rows=rows,
        rows_needed=needed,
        features=features,
        message=f"drift of {names}" if drifted else f"no drift in {rows} rows",
    )


def check_once(profile: ReferenceProfile, counts: ProfileCounts, settings: DriftSettings) -> DriftResult:
    """All rows as one window, without confirmation by another: for data at rest."""
    needed = rows_needed(profile, settings)
    if needed is None or counts.rows < needed:
        reason = f"{counts.rows} rows, {needed} are needed" if needed else "the reference has too few rows to judge by"
        features = tuple(compare(profile, counts, settings)) if counts.rows else ()
        return DriftResult(
            verdict=DriftVerdict.INSUFFICIENT_DATA,
            rows=counts.rows,
            rows_needed=needed,
            features=features,
            message=reason,
        )
    result = summarise(tuple(compare(profile, counts, settings)), counts.rows, needed)
    return result.model_copy(
        update={
            "reference_accuracy": profile.predictions.accuracy,
            "estimated_accuracy": estimated_accuracy(profile, counts),
        }
    )
