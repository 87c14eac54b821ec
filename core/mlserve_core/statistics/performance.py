"""Are fewer predictions right than on the reference?

Inputs can stay as they are while what they mean changes, and then only labels tell. Labels come late, so a window
judges those that arrived in it, whatever the age of their predictions. Two questions are asked of them: is the window's
accuracy lower, significantly and by an effect that matters; and has the error rate of the whole stream risen at some
point (Page-Hinkley), which finds over many windows what is too small to see in one. The reference's own accuracy is
known from so many rows only, and both tests reckon with that.

Without labels the accuracy is estimated from how sure the model is. That is shown, and never a reason for anything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from mlserve_core.statistics.drift import ACCURACY, FeatureDrift, Severity, severity_of
from mlserve_core.statistics.page_hinkley import PageHinkley, threshold
from mlserve_core.statistics.profile import UNIT_BINS
from mlserve_core.statistics.two_sample import excess_p_value

if TYPE_CHECKING:
    from mlserve_core.statistics.drift import DriftSettings
    from mlserve_core.statistics.profile import PredictionProfile, ReferenceProfile
    from mlserve_core.wire import ProfileCounts

ESTIMATED_ACCURACY: Final = "estimated_accuracy"
ACCURACY_DROP: Final = 0.05
"""Relative drop of accuracy that counts, unless the settings name another."""


class Labels(NamedTuple):
    """How many labels came, and how many of the predictions they are about were right."""

    right: int = 0
    total: int = 0


def judge(
    profile: ReferenceProfile, counts: ProfileCounts | None, labels: Labels, walk: PageHinkley, settings: DriftSettings
) -> tuple[list[FeatureDrift], PageHinkley]:
    """What labels say of a window, and what may be guessed without them.

    Args:
        profile: the reference; without a calibration table nothing is found.
        counts: of the window, for the estimate.
        labels: that arrived in the window.
        walk: of the stream of labels so far.
        settings: what counts as drift. Half of the level goes to the window, half to the stream.

    Returns:
        Findings called ACCURACY and ESTIMATED_ACCURACY, effects being relative drops; and the walk with these labels.
    """
    answers, drop = profile.predictions, settings.effects.get(ACCURACY, ACCURACY_DROP)
    reference, alpha = answers.accuracy, 1 / (2 * settings.false_alarm_every)
    if not reference or ACCURACY in settings.disabled:
        return [], walk
    found = []
    if labels.total:
        wrong = labels.total - labels.right
        known, tolerance = 1 - reference, drop * reference / 2
        expected = known + _uncertainty(answers, alpha)
        limit = threshold(expected, tolerance, alpha)
        walk = walk.add(wrong, labels.total, expected=expected, tolerance=tolerance, limit=limit)
        relative = 1 - labels.right / labels.total / reference
        p_value = excess_p_value(wrong, labels.total, *_errors(answers))
        drifted = (relative >= drop and p_value < alpha) or walk.rise > limit
        severity = severity_of(max(relative / drop, 1.0)) if drifted else Severity.NONE
        found.append(_finding(ACCURACY, relative, drop, severity, p_value=p_value, drifted=drifted))
    estimate = estimated_accuracy(profile, counts) if counts is not None else None
    if estimate is not None:
        lost = 1 - estimate / reference
        found.append(_finding(ESTIMATED_ACCURACY, lost, drop, severity_of(lost / drop)))
    return found, walk


def _finding(
    name: str, relative: float, drop: float, severity: Severity, *, p_value: float | None = None, drifted: bool = False
) -> FeatureDrift:
    """Effects are not negative: more right predictions than in the reference are no drift."""
    effect = max(relative, 0.0)
    return FeatureDrift(name=name, effect=effect, threshold=drop, p_value=p_value, severity=severity, drifted=drifted)


def _errors(answers: PredictionProfile) -> tuple[int, int]:
    rows = sum(answers.confidence)
    return rows - sum(answers.correct), rows


def _uncertainty(answers: PredictionProfile, alpha: float) -> float:
    """By how much the reference's error rate may be too low: √(2 v L/m) + L/(3m), L = ln(1/α) (Bernstein 1924)."""
    wrong, rows = _errors(answers)
    rate, level = wrong / rows, math.log(1 / alpha)
    return math.sqrt(2 * rate * (1 - rate) * level / rows) + level / (3 * rows)


def estimated_accuracy(profile: ReferenceProfile, counts: ProfileCounts) -> float | None:
    """Accuracy without labels: the reference's accuracy per bin of confidence, weighted by the live confidence.

    (Guillory et al., "Predicting with confidence on unseen distributions", 2021.) It is right only as far as the
    model's calibration carries over, so it never decides anything.
    """
    answers = profile.predictions
    seen = sum(counts.confidence)
    if not answers.correct or not answers.confidence or seen == 0:
        return None
    overall = answers.accuracy or 0.0
    table = [answers.correct[i] / answers.confidence[i] if answers.confidence[i] else overall for i in range(UNIT_BINS)]
    return sum(n * accuracy for n, accuracy in zip(counts.confidence, table, strict=True)) / seen
