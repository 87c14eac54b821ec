"""Has the population moved away from the reference profile? A verdict per window, from merged counts.

A window is drift when some feature differs *significantly* (at a level shared by all features, so that clean traffic
alarms once in `false_alarm_every` windows) and by an *effect* that matters; see `windows` for the confirmation over
several windows. Too little data is never "no drift".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mlserve_core.statistics import distances
from mlserve_core.statistics.profile import NumericFeature, ReferenceProfile
from mlserve_core.statistics.two_sample import benjamini_hochberg, homogeneity_test, ks_factor, ks_p_value
from mlserve_core.wire import FeatureCounts, ProfileCounts

CLASSIC_ALPHA: Final = 0.05
PREDICTION: Final = "prediction"
CONFIDENCE: Final = "confidence"
ACCURACY: Final = "accuracy"
"""Name of the labels' finding among a window's features; `spec.drift.features` can switch it off or ask for more."""
MEAN_KOLMOGOROV: Final = math.sqrt(math.pi / 2) * math.log(2)
"""Mean of D/√(1/n + 1/m) under no drift: the noise of a distribution for which none was measured."""


class DriftVerdict(StrEnum):
    """Outcome of a window. Too little data is never "no drift"."""

    NO_DRIFT = "NoDrift"
    DRIFT = "Drift"
    INSUFFICIENT_DATA = "InsufficientData"


class Severity(StrEnum):
    """How large the effect is: 1, 2 and 4 times the effect that counts."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


SEVERITIES: Final = tuple(Severity)
SEVERITY_RATIOS: Final = {Severity.LOW: 1, Severity.MEDIUM: 2, Severity.HIGH: 4}
"""Times the effect that counts from which a severity begins."""


class Result(BaseModel):
    """Base: camelCase JSON, immutable."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class FeatureDrift(Result):
    """One feature (or the predictions) in one window."""

    name: str
    effect: float = 0.0
    """Kolmogorov's D of numbers, total variation of categories (chance taken off), in 0..1."""
    threshold: float = 0.0
    """The effect that counts."""
    p_value: float | None = None
    q_value: float | None = None
    """Benjamini-Hochberg: for ranking."""
    psi: float = 0.0
    jensen_shannon: float = 0.0
    wasserstein: float | None = None
    """In standard deviations of the reference; numbers only."""
    missing: float = 0.0
    """Share of rows without a usable value."""
    out_of_range: float = 0.0
    """Share of rows outside of the reference's range, or of unseen categories."""
    severity: Severity = Severity.NONE
    drifted: bool = False


class DriftResult(Result):
    """One closed window against the reference."""

    verdict: DriftVerdict
    severity: Severity = Severity.NONE
    window_start: float = 0.0
    window_end: float = 0.0
    rows: int = 0
    rows_needed: int | None = None
    features: tuple[FeatureDrift, ...] = Field(default_factory=tuple)
    """Strongest first."""
    labelled: int = 0
    accuracy: float | None = None
    """Of the labelled predictions of this window."""
    reference_accuracy: float | None = None
    estimated_accuracy: float | None = None
    """Without labels, from the calibration table; for alerts only."""
    performance_drifted: bool = False
    """Labels say that fewer predictions are right than in the reference; told among the features as `accuracy`."""
    message: str = ""

    @property
    def moved(self) -> bool | None:
        """Whether inputs or predictions are away from the reference; None where too few rows were seen.

        What labels say is left out: where two versions run side by side, labels compare them with each other, and
        that is better evidence than a reference of another time.
        """
        if self.verdict is not DriftVerdict.DRIFT:
            return {DriftVerdict.NO_DRIFT: False}.get(self.verdict)
        if not self.performance_drifted or any(item.drifted and item.name != ACCURACY for item in self.features):
            return True
        return False if self.rows_needed is not None and self.rows >= self.rows_needed else None


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift."""

    effect: float = 0.10
    false_alarm_every: float = 10_000
    min_rows: int = 500
    classic: bool = False
    """The textbook detector: a p-value below 0.05 in any feature, severity by p-value, no effect asked for."""
    effects: Mapping[str, float] = field(default_factory=dict)
    """Effects of single features."""
    disabled: frozenset[str] = frozenset()

    def alpha(self, profile: ReferenceProfile) -> float:
        """Level of one feature: all of them together alarm once in `false_alarm_every` windows (Bonferroni)."""
        return 1 / (self.false_alarm_every * max(tests(profile, self), 1))


def tests(profile: ReferenceProfile, settings: DriftSettings) -> int:
    """How many distributions are tested in a window."""
    answers = {PREDICTION: profile.predictions.counts, CONFIDENCE: profile.predictions.confidence}
    names = [*profile.feature_names, *(name for name, counts in answers.items() if any(counts))]
    return sum(name not in settings.disabled for name in names)


def required_rows(effect: float, alpha: float, reference_rows: int) -> int | None:
    """Rows from which an effect is significant: 1 / (δ²/c² − 1/m), c = √(½ ln(2/α)).

    `None` when no number of rows is enough because the reference itself is too small.

    >>> required_rows(0.1, 1e-4 / 30, 100_000), required_rows(0.1, 1e-4 / 30, 500)
    (670, None)
    """
    precision = effect**2 / ks_factor(alpha) ** 2 - 1 / reference_rows
    return math.ceil(1 / precision) if precision > 0 else None


def rows_needed(profile: ReferenceProfile, settings: DriftSettings) -> int | None:
    """Rows a window needs before it is judged; `None` when the reference is too small to judge by."""
    if settings.classic:
        return settings.min_rows
    needed = required_rows(_least_effect(profile, settings), settings.alpha(profile), profile.rows)
    return None if needed is None else max(needed, settings.min_rows)


def _least_effect(profile: ReferenceProfile, settings: DriftSettings) -> float:
    """Smallest effect that must be found in some distribution that is tested."""
    names = {*profile.feature_names, PREDICTION, CONFIDENCE} - settings.disabled
    return min([settings.effect, *(effect for name, effect in settings.effects.items() if name in names)])


def reference_rows_needed(profile: ReferenceProfile, settings: DriftSettings) -> int:
    """Rows a reference needs so that a window of as many rows can be judged: 2c²/δ²."""
    return math.ceil(2 * ks_factor(settings.alpha(profile)) ** 2 / _least_effect(profile, settings) ** 2)


def shortage(profile: ReferenceProfile, settings: DriftSettings) -> str:
    """Why a reference is too small, and what would do; nothing when it is large enough.

    Said when a profile is made, so that nobody learns it from windows that never decide.
    """
    wanted, needed = reference_rows_needed(profile, settings), rows_needed(profile, settings)
    if profile.rows >= wanted:
        return ""
    what = f"drift of {100 * settings.effect:.3g} % in any of {tests(profile, settings)} distributions"
    remedy = f"give {wanted} rows, or ask for a larger effect (spec.drift.effectPercent)"
    if needed is None:
        least = ks_factor(settings.alpha(profile)) / math.sqrt(profile.rows)
        return (
            f"{profile.rows} rows are too few to decide by: no window could show {what}, "
            f"only of more than {100 * least:.3g} %; {remedy}"
        )
    return f"with {profile.rows} rows only windows of {needed} rows or more can show {what}; {remedy}"


# --- one window ---------------------------------------------------------------------------------------------------


def compare(profile: ReferenceProfile, counts: ProfileCounts, settings: DriftSettings) -> list[FeatureDrift]:
    """Every distribution of a window against the reference, strongest first.

    Args:
        profile: the reference.
        counts: of the window, counted on this very profile and merged over pods.
        settings: what counts as drift.

    Raises:
        ValueError: when the counts belong to another profile.
    """
    if counts.profile_digest != profile.digest():
        raise ValueError("the counts were taken on another profile than the one they are compared with")
    found = [
        _feature(feature, counts.features.get(feature.name, FeatureCounts()), settings, profile)
        for feature in profile.features
        if feature.name not in settings.disabled
    ]
    answers = profile.predictions
    if PREDICTION not in settings.disabled and any(answers.counts) and any(counts.predictions):
        ordered, noise = bool(answers.edges), answers.noise or None  # 0: profiles of earlier releases
        found.append(
            _judge(PREDICTION, counts.predictions, answers.counts, settings, profile, ordered=ordered, noise=noise)
        )
    if CONFIDENCE not in settings.disabled and any(answers.confidence) and any(counts.confidence):
        found.append(_judge(CONFIDENCE, counts.confidence, answers.confidence, settings, profile, ordered=True))
    adjusted = benjamini_hochberg([item.p_value if item.p_value is not None else 1.0 for item in found])
    ranked = [item.model_copy(update={"q_value": q}) for item, q in zip(found, adjusted, strict=True)]
    return sorted(ranked, key=lambda item: (-item.drifted, -item.effect / item.threshold))


def _feature(
    feature: object, counts: FeatureCounts, settings: DriftSettings, profile: ReferenceProfile
) -> FeatureDrift:
    """Unusable values take part as one more bin: a burst of missing values is drift too."""
    if isinstance(feature, NumericFeature):
        current = [*counts.counts, counts.missing + counts.non_finite + counts.unseen]
        reference = [*feature.counts, feature.missing + feature.non_finite]
        item = _judge(feature.name, current, reference, settings, profile, ordered=True, noise=feature.noise)
        outside = (counts.counts[0] + counts.counts[-1]) if len(counts.counts) > 1 else 0
        moved = distances.wasserstein(counts.counts, feature.counts, feature.edges, feature.std)
        unusable = current[-1]
    else:
        current = [*counts.counts, counts.missing, counts.unseen]
        reference = [*feature.counts, feature.missing, 0]  # type: ignore[attr-defined]
        name, noise = feature.name, feature.noise  # type: ignore[attr-defined]
        item = _judge(name, current, reference, settings, profile, ordered=False, noise=noise)
        outside, moved, unusable = counts.unseen, None, counts.missing
    total = max(sum(current), 1)
    return item.model_copy(update={"out_of_range": outside / total, "wasserstein": moved, "missing": unusable / total})


def _judge(
    name: str, current: list[int], reference: list[int], settings: DriftSettings, profile: ReferenceProfile,
    *, ordered: bool, noise: float | None = None,
) -> FeatureDrift:  # fmt: skip
    """One distribution; `noise` is Kolmogorov's distance between halves of the reference, if that was measured."""
    n, m = sum(current), sum(reference)
    threshold = settings.effects.get(name, settings.effect)
    if n == 0 or m == 0 or len(current) != len(reference):
        return FeatureDrift(name=name, threshold=threshold)
    if ordered:
        effect = distances.kolmogorov(current, reference)
        p_value = ks_p_value(effect, n, m)
    else:
        raw, chance = distances.total_variation(current, reference), expected_total_variation(reference, n)
        effect = math.sqrt(max(raw**2 - chance**2, 0.0))
        p_value = homogeneity_test(current, reference)
    # Noise was measured between halves of the reference; it shrinks and grows with both sizes like 1/√.
    scaled = MEAN_KOLMOGOROV if noise is None else noise * math.sqrt(m) / 2
    floor = scaled * math.sqrt(1 / n + 1 / m) if ordered else 0.0
    if settings.classic:
        severity = _classic_severity(p_value)
        drifted = p_value < CLASSIC_ALPHA
    else:
        drifted = p_value < settings.alpha(profile) and effect >= threshold
        severity = severity_of((effect - floor) / threshold) if drifted else Severity.NONE
        severity = Severity.LOW if drifted and severity is Severity.NONE else severity
    return FeatureDrift(
        name=name,
        effect=effect,
        threshold=threshold,
        p_value=p_value,
        psi=distances.population_stability_index(current, reference),
        jensen_shannon=distances.jensen_shannon(current, reference),
        severity=severity,
        drifted=drifted,
    )


def expected_total_variation(reference: list[int], n: int) -> float:
    """Mean total variation of n rows from the reference by chance: ½ Σ √(2 p(1 − p)(1/n + 1/m)/π)."""
    m = sum(reference)
    p = distances.shares(reference)
    return float(np.sqrt(2 * p * (1 - p) * (1 / n + 1 / m) / math.pi).sum() / 2)


def severity_of(ratio: float) -> Severity:
    """Severity of an effect, in units of the effect that counts.

    >>> [severity_of(ratio).value for ratio in (0.9, 1, 2, 4)]
    ['none', 'low', 'medium', 'high']
    """
    return SEVERITIES[sum(ratio >= limit for limit in SEVERITY_RATIOS.values())]


def _classic_severity(p_value: float) -> Severity:
    return SEVERITIES[sum(p_value < limit for limit in (CLASSIC_ALPHA, 0.01, 0.001))]
