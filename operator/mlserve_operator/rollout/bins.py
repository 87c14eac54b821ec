"""Distributions arm against arm: predictions, confidence, inputs; and rewards.

Every bin is a kind of event with a two-sided bet of its own, and the mean over the bins is again an e-value. The
distance of the distributions is taken look by look (the canary's counts against what stable's shares in the same look
would have given), so that a population that moves while the weights change does not pass for a difference.

Rows of one request are not independent, so with m rows a request the bets are tempered by 1/m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlserve_core.statistics import eprocess
from mlserve_core.statistics.confidence_sequence import RewardDifference, Rewards
from mlserve_core.statistics.decision import COLLAPSE
from mlserve_operator.rollout.evidence import BinsEvidence, CheckReport, Evidence, RewardEvidence, Verdict, strength

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlserve_core.api.v1alpha1 import Analysis
    from mlserve_operator.rollout.analysis import Arm, Look

INPUT_EFFECT: Final = 0.2
"""Total variation of a feature's coarse bins from which the arms do not see the same inputs."""


def add_look(evidence: Evidence, look: Look, analysis: Analysis) -> dict[str, Any]:
    """Fields of `Evidence` that a look changes."""
    canary, stable = look.canary.counters, look.stable.counters
    temper = min(_temper(look.canary), _temper(look.stable))
    changed: dict[str, Any] = {}
    if analysis.reward.enabled:
        changed["reward"] = _add_rewards(evidence.reward, look)
    if canary.profile != stable.profile:
        return changed  # counts on different bins cannot be compared
    if analysis.predictions.enabled:
        changed["predictions"] = _add(evidence.predictions, canary.predictions, stable.predictions, temper)
        changed["confidence"] = _add(evidence.confidence, canary.confidence, stable.confidence, temper)
    if analysis.inputs.enabled:
        changed["features"] = dict(evidence.features)
        for name, counts in canary.features.items():
            before = evidence.features.get(name, BinsEvidence())
            changed["features"][name] = _add(before, counts, stable.features.get(name, ()), temper)
    return changed


def _temper(arm: Arm) -> float:
    rows = arm.counters.rows
    return min(1.0, arm.counters.requests / rows) if rows else 1.0


def _add(before: BinsEvidence, canary: tuple[int, ...], stable: tuple[int, ...], temper: float) -> BinsEvidence:
    n_c, n_s = sum(canary), sum(stable)
    if n_c == 0 or n_s == 0 or len(canary) != len(stable):
        return before
    if before.looks and len(before.canary) != len(canary):
        before = BinsEvidence()  # counted on another profile
    growth = eprocess.log_growth(n_c, canary, n_s, stable, odds=eprocess.DIFFERENT, temper=temper)
    wealth = eprocess.accumulate(before.wealth, before.looks, growth)
    counted, expected = before.canary or (0,) * len(canary), before.expected or (0.0,) * len(canary)
    return BinsEvidence(
        looks=before.looks + 1,
        wealth=tuple(tuple(round(value, 3) for value in row) for row in wealth.tolist()),
        canary=tuple(a + b for a, b in zip(counted, canary, strict=True)),
        expected=tuple(round(a + n_c * b / n_s, 3) for a, b in zip(expected, stable, strict=True)),
    )


def _add_rewards(before: RewardEvidence, look: Look) -> RewardEvidence:
    difference = RewardDifference(**before.model_dump()).add(_rewards(look.canary), _rewards(look.stable))
    return RewardEvidence(
        weighted=difference.weighted,
        variance=difference.variance,
        weight=difference.weight,
        scale=difference.scale,
    )


def _rewards(arm: Arm) -> Rewards:
    counters = arm.counters
    return Rewards(counters.rewards, counters.reward_sum / 1000, counters.reward_squares / 1000)


# --- verdicts -----------------------------------------------------------------------------------------------------


def reports(
    evidence: Evidence, analysis: Analysis, alpha: Mapping[str, float], alpha_unfair: float
) -> list[CheckReport]:
    """One report per distribution that was seen.

    Args:
        evidence: so far.
        analysis: the settings.
        alpha: level of each check.
        alpha_unfair: level of the check that both arms see the same inputs.
    """
    found = []
    floor = analysis.prediction_effect_percent / 100
    if analysis.predictions.enabled and evidence.predictions.looks:
        found.append(_report("predictions", [evidence.predictions], alpha["predictions"], floor))
    if analysis.predictions.enabled and evidence.confidence.looks:
        found.append(_report("confidence", [evidence.confidence], alpha["confidence"], COLLAPSE))
    seen = [bins for bins in evidence.features.values() if bins.looks]
    if analysis.inputs.enabled and seen:
        found.append(_report("inputs", seen, alpha_unfair, INPUT_EFFECT))
    if analysis.reward.enabled and evidence.reward.weight:
        found.append(_reward_report(evidence, alpha["reward"]))
    return found


def _report(name: str, distributions: list[BinsEvidence], alpha: float, floor: float) -> CheckReport:
    """Failed: the difference is significant and large enough. Successful: it is too small to count."""
    log_e = eprocess.mean_of_e_values(
        [eprocess.mean_of_e_values(eprocess.log_e_value(bins.wealth, bins.looks)) for bins in distributions]
    )
    effect = max(bins.total_variation for bins in distributions)
    worse = strength(log_e, alpha)
    different = worse.log_e >= worse.threshold
    verdict = Verdict.FAILED if different and effect >= floor else Verdict.INCONCLUSIVE
    if (not different and effect < floor) or (different and effect < floor):
        verdict = Verdict.SUCCESSFUL
    return CheckReport(
        name=name,
        verdict=verdict,
        evidence=str(worse),
        message=f"total variation {effect:.2f}, of which {floor:.2f} counts, in {sum(distributions[0].canary)} rows",
        worse=worse,
    )


def reward_difference(evidence: Evidence, alpha: float) -> tuple[float, float]:
    """Estimate of the canary's mean reward less stable's, and the radius of its confidence sequence."""
    difference = RewardDifference(**evidence.reward.model_dump())
    return difference.difference, difference.radius(alpha)


def _reward_report(evidence: Evidence, alpha: float) -> CheckReport:
    difference, radius = reward_difference(evidence, 2 * alpha)  # one of its two sides is asked about
    verdict = Verdict.INCONCLUSIVE
    if difference + radius < 0:
        verdict = Verdict.FAILED
    elif difference - radius > 0:
        verdict = Verdict.SUCCESSFUL
    return CheckReport(
        name="reward",
        verdict=verdict,
        evidence=f"{difference:+.4f} ± {radius:.4f}",
        message=f"mean reward of the canary less stable's: {difference:+.4f} ± {radius:.4f}",
    )
