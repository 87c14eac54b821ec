"""Accumulate: one more look into the evidence.

Every kind of bad event carries two sets of bets: "the canary is worse" and "it is not worse than tolerated", the
latter for each weight of the plan. Log wealths are rounded to four decimals, so that a checkpoint stays small and a
restart computes with the very numbers that were written.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from mlserve_core.statistics import eprocess, noninferiority
from mlserve_operator.rollout import bins
from mlserve_operator.rollout.analysis import BINARY, Look
from mlserve_operator.rollout.evidence import CheckEvidence, Evidence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlserve_core.api.v1alpha1 import Analysis
    from mlserve_operator.rollout.state import Observation

SHARE_MARGIN: Final = 0.5
"""Odds by which a share may be off: pods are not read at the same instant."""


TEMPER: Final = {"latency": 1 / 4}
"""Slow answers are not independent: a process that stalls delays everything in flight. They are taken to come in
groups of four (see `eprocess.log_growth`), so one stall of one pod is no verdict on a version."""

SLOW_IS_NOT_WRONG: Final = 3.0
"""A slow answer weighs a third of a wrong one: stable itself is slower than its own p95 in 5 of 100 requests."""


def tolerance(analysis: Analysis, weight: int, check: str = "") -> tuple[float, float]:
    """Slope and offset of what is tolerated at a weight: reject p_c ≥ (1 + slope)·p_s + offset.

    At 100 % it is (1 + marginPercent)·(p_s + marginPerMille). What counts is the harm to users as a whole, so at a
    weight w the canary may be 100/w times as much worse: a first small step needs little evidence, the last all of it.
    """
    scale, relative = 100 / weight, analysis.margin_percent / 100
    scale *= SLOW_IS_NOT_WRONG if check == "latency" else 1.0
    return relative * scale, (1 + relative) * analysis.margin_per_mille / 1000 * scale


def add_look(evidence: Evidence, look: Look, observation: Observation, weights: tuple[int, ...]) -> Evidence:
    """Evidence with one more look.

    Args:
        evidence: so far.
        look: counts of the new look.
        observation: for the settings and the results of queries.
        weights: every weight of the plan, 100 last.
    """
    analysis = observation.spec.rollout.analysis
    checks = dict(evidence.checks)
    if evidence.plan != weights:  # it was edited, and a bet on one weight says nothing of another
        checks = {name: check.model_copy(update={"good": ()}) for name, check in checks.items()}
    for name in BINARY:
        if getattr(analysis, name).enabled:
            counts = (*look.canary.units(name), *look.stable.units(name))
            checks[name] = _add_counts(name, checks.get(name, CheckEvidence()), counts, analysis, weights)
    n_c, n_s = look.canary.units("errors")[0], look.stable.units("errors")[0]
    updates: dict[str, object] = {
        "looks": evidence.looks + 1,
        "plan": weights,
        "requests_canary": evidence.requests_canary + n_c,
        "requests_stable": evidence.requests_stable + n_s,
        "checks": checks,
        "pods": _add_pods(evidence, look),
        "query_failures": _add_queries(evidence, observation),
        **bins.add_look(evidence, look, analysis),
    }
    if look.complete and not look.mirrored and analysis.share.enabled:
        c, s = (arm.counters.asked + arm.failures for arm in (look.canary, look.stable))
        updates["share"] = _add_share(evidence.share, c, s, evidence.weight)
    return evidence.model_copy(update=updates)


def _add_counts(
    name: str, check: CheckEvidence, counts: tuple[int, int, int, int], analysis: Analysis, weights: tuple[int, ...]
) -> CheckEvidence:
    n_c, x_c, n_s, x_s = counts
    totals = {
        "canary": check.canary + n_c,
        "canary_bad": check.canary_bad + x_c,
        "stable": check.stable + n_s,
        "stable_bad": check.stable_bad + x_s,
    }
    if n_c == 0 or n_s == 0:
        return check.model_copy(update=totals)
    margin, temper = analysis.margin_percent / 100, TEMPER.get(name, 1.0)
    growth = eprocess.log_growth(n_c, x_c, n_s, x_s, margin=margin, temper=temper)
    relative, absolute = zip(*(tolerance(analysis, weight, name) for weight in weights), strict=True)
    rate = noninferiority.guess_rate(check.faded_bad, check.faded_units)
    better = noninferiority.log_growth(n_c, x_c, n_s, x_s, rate=rate, relative=relative, absolute=absolute)
    looks = check.looks if check.good else 0
    return check.model_copy(
        update={
            **totals,
            "looks": check.looks + 1,
            "worse": _rounded(eprocess.accumulate(check.worse, check.looks, growth)),
            "good": _rounded(eprocess.accumulate(check.good, looks, np.array(better))),
            "faded_bad": round(noninferiority.fade(check.faded_bad, x_c + x_s), 4),
            "faded_units": round(noninferiority.fade(check.faded_units, n_c + n_s), 4),
        }
    )


def _add_share(share: CheckEvidence, n_c: int, n_s: int, weight: int) -> CheckEvidence:
    growth = eprocess.log_growth(weight, n_c, 100 - weight, n_s, odds=eprocess.DIFFERENT, margin=SHARE_MARGIN)
    return share.model_copy(
        update={
            "canary": share.canary + n_c,
            "stable": share.stable + n_s,
            "looks": share.looks + 1,
            "worse": _rounded(eprocess.accumulate(share.worse, share.looks, growth)),
        }
    )


def _add_pods(evidence: Evidence, look: Look) -> dict[str, dict[str, tuple[int, int]]]:
    pods = dict(evidence.pods)
    for uid, arm in look.pods.items():
        before = pods.get(uid, {})
        new = {name: arm.units(name) for name in BINARY}
        pods[uid] = {
            name: (before.get(name, (0, 0))[0] + n, before.get(name, (0, 0))[1] + x) for name, (n, x) in new.items()
        }
    return pods


def _add_queries(evidence: Evidence, observation: Observation) -> dict[str, int]:
    failures = {}
    results = {item.name: item for item in observation.queries}
    for query in observation.spec.rollout.analysis.prometheus:
        result = results.get(query.name)
        value = result.value if result else None
        if value is None or math.isnan(value):
            failures[query.name] = evidence.query_failures.get(query.name, 0)
            continue
        bad = (query.max is not None and value > float(query.max)) or (
            query.min is not None and value < float(query.min)
        )
        failures[query.name] = evidence.query_failures.get(query.name, 0) + 1 if bad else 0
    return failures


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
