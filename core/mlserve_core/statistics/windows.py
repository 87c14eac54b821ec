"""From windows to alarms: how long a window lasts, and when a finding is confirmed or over.

A window has a fixed duration and is extended until it has enough rows, or closed as InsufficientData at its limit
(unless what it has shows drift: a small sample cannot show that there is none, but it can show a large one).
(Closing it at a number of rows would shrink windows under load, and "once in 10,000 windows" to hours.) A feature
drifts when 2 of its last 3 windows found it, and has recovered after 3 windows under half the effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import Field

from mlserve_core.statistics import panes
from mlserve_core.statistics.drift import (
    ACCURACY,
    DriftResult,
    DriftSettings,
    DriftVerdict,
    FeatureDrift,
    Result,
    Severity,
    compare,
    rows_needed,
)
from mlserve_core.statistics.page_hinkley import PageHinkley
from mlserve_core.statistics.performance import Labels, estimated_accuracy, judge
from mlserve_core.statistics.profile import ReferenceProfile
from mlserve_core.wire import ProfileCounts

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_EXTENSION: Final = 12
"""Durations after which a window is closed whatever it has."""
CONFIRM: Final = 2
MEMORY: Final = 3
NAMED: Final = 5
"""Features that a message names."""


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
    enough = needed is not None and rows >= needed
    if enough or now - start >= MAX_EXTENSION * seconds:
        return _close(window, profile, settings, now, needed)
    return window, None


def _close(
    window: Window, profile: ReferenceProfile, settings: DriftSettings, now: float, needed: int | None
) -> tuple[Window, DriftResult]:
    """Judge what the window has, and begin the next. Labels are judged in any case: their number is their own."""
    rows = window.counts.rows if window.counts is not None else 0
    judged = needed is not None and rows >= needed
    found = compare(profile, window.counts, settings) if window.counts and rows >= settings.min_rows else []
    # With too few rows, what is not found may be there all the same: it neither confirms nor calms.
    telling = [item for item in found if judged or item.drifted]
    news = {item.name: _remember(window.histories.get(item.name, History()), item, settings) for item in telling}
    features = [
        item.model_copy(update={"drifted": news[item.name].drifting}) if item.name in news else item for item in found
    ]
    labels = Labels(window.right, window.labelled)
    told, walk = judge(profile, window.counts, labels, PageHinkley(window.walk, window.walk_lowest), settings)
    result = summarise(profile, window.counts, features, told, labels, needed)
    fresh = Window(
        start=now, histories=window.histories | news, walk=walk.walk, walk_lowest=walk.lowest, closed=window.closed + 1
    )
    return fresh, result.model_copy(update={"window_start": window.start, "window_end": now})


def _remember(history: History, item: FeatureDrift, settings: DriftSettings) -> History:
    if settings.classic:
        return History(drifting=item.drifted)
    found = (*history.found, item.drifted)[-MEMORY:]
    calm = history.calm + 1 if item.effect < item.threshold / 2 else 0
    drifting = sum(found) >= CONFIRM or (history.drifting and calm < MEMORY)
    return History(found=found, calm=calm, drifting=drifting)


def summarise(
    profile: ReferenceProfile, counts: ProfileCounts | None, features: Sequence[FeatureDrift],
    told: Sequence[FeatureDrift], labels: Labels, needed: int | None,
) -> DriftResult:  # fmt: skip
    """The verdict of a window: too few rows cannot show that there is no drift, but they can show a large one.

    Args:
        profile: the reference.
        counts: of the window.
        features: what was found of its distributions.
        told: what labels tell.
        labels: that arrived in the window.
        needed: rows from which distributions are judged.
    """
    rows = counts.rows if counts is not None else 0
    found = sorted([*features, *told], key=lambda item: (-item.drifted, -item.effect / item.threshold))
    drifted = [item for item in found if item.drifted]
    judged = needed is not None and rows >= needed
    severity = max((item.severity for item in drifted), key=list(Severity).index, default=Severity.NONE)
    reference = profile.predictions.accuracy
    message = f"no drift in {rows} rows" if judged else _too_few(rows, needed)
    if drifted:
        more = f" and {len(drifted) - NAMED} more" if len(drifted) > NAMED else ""
        message = f"drift of {', '.join(item.name for item in drifted[:NAMED])}{more}"
    worse = any(item.name == ACCURACY for item in told if item.drifted)
    if worse and reference is not None:
        message += f" ({labels.right / labels.total:.1%} of {labels.total} labels, {reference:.1%} in the reference)"
    calm = DriftVerdict.NO_DRIFT if judged else DriftVerdict.INSUFFICIENT_DATA
    return DriftResult(
        verdict=DriftVerdict.DRIFT if drifted else calm,
        severity=severity,
        rows=rows,
        rows_needed=needed,
        features=tuple(found),
        labelled=labels.total,
        accuracy=labels.right / labels.total if labels.total else None,
        reference_accuracy=reference,
        estimated_accuracy=estimated_accuracy(profile, counts) if counts is not None else None,
        performance_drifted=worse,
        message=message,
    )


def _too_few(rows: int, needed: int | None) -> str:
    return f"{rows} rows, {needed} are needed" if needed else "the reference has too few rows to judge by"


def check_once(
    profile: ReferenceProfile, counts: ProfileCounts, settings: DriftSettings, labels: Labels | None = None
) -> DriftResult:
    """All rows as one window, without confirmation by another: for data at rest."""
    needed, labels = rows_needed(profile, settings), labels or Labels()
    found = compare(profile, counts, settings) if counts.rows else []
    if counts.rows < settings.min_rows:
        found = [item.model_copy(update={"drifted": False, "severity": Severity.NONE}) for item in found]
    told, _ = judge(profile, counts, labels, PageHinkley(), settings)
    return summarise(profile, counts, found, told, labels, needed)
