"""What the comparison of a rollout has counted so far; part of the checkpoint, so that a restart forgets nothing.

Last-seen counters and evidence are one object on purpose: written together, a look is either in both or in neither,
and nothing can be counted twice.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

MAX_SEEN: Final = 256
"""Processes whose counters are remembered; those of pods long gone are dropped first."""


class Verdict(StrEnum):
    """Outcome of a check or of a look. No data is never success."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    """Measured, and bad."""
    INCONCLUSIVE = "Inconclusive"
    """Measured, and undecided."""
    ERROR = "Error"
    """Could not be measured."""


class Remembered(BaseModel):
    """Base: immutable, camelCase JSON, tolerant of fields of another version."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Counters(Remembered):
    """Cumulative counters of one process, reduced to what is compared."""

    asked: int = 0
    """All requests: the canary's share is measured on these."""
    requests: int = 0
    """Judged requests: without those that were the client's fault or refused for load."""
    errors: int = 0
    outputs: int = 0
    slow: int = 0
    timed: int = 0
    labelled: int = 0
    wrong: int = 0
    rewards: int = 0
    reward_sum: int = 0
    reward_squares: int = 0
    rows: int = 0
    """All rows that were answered; of those on the bins below they may be more, since a busy pod counts a sample."""
    profile: str = ""
    """Digest of the profile on whose bins the following are counted."""
    predictions: tuple[int, ...] = ()
    confidence: tuple[int, ...] = ()
    features: dict[str, tuple[int, ...]] = Field(default_factory=dict)


class CheckEvidence(Remembered):
    """One kind of bad event, arm against arm."""

    canary: int = 0
    canary_bad: int = 0
    stable: int = 0
    stable_bad: int = 0
    looks: int = 0
    worse: tuple[float, ...] = ()
    """Log wealth of the bets on "the canary is worse"."""
    good: tuple[float, ...] = ()
    """Log wealth of the bets on "not worse than tolerated", one per weight of the plan; none before there were any."""
    faded_bad: float = 0.0
    faded_units: float = 0.0


class BinsEvidence(Remembered):
    """A distribution, arm against arm."""

    looks: int = 0
    wealth: tuple[tuple[float, ...], ...] = ()
    """Log wealth per bin and bet."""
    canary: tuple[int, ...] = ()
    expected: tuple[float, ...] = ()
    """What the canary's counts would be if it were like stable, look by look."""

    @property
    def total_variation(self) -> float:
        """Distance of the canary's shares from stable's on the same looks."""
        total = sum(self.canary)
        if total == 0:
            return 0.0
        return sum(abs(a - b) for a, b in zip(self.canary, self.expected, strict=True)) / (2 * total)


class RewardEvidence(Remembered):
    """Sums for the confidence sequence of the difference of mean rewards."""

    weighted: float = 0.0
    variance: float = 0.0
    weight: float = 0.0
    scale: float = 0.0


class Strength(Remembered):
    """How far the evidence for one claim has come."""

    log_e: float
    """Natural logarithm of the e-value."""
    threshold: float
    """Where the claim is taken for proved."""

    def __str__(self) -> str:
        """As status and Events tell it."""
        return f"ln e = {self.log_e:.1f} of {self.threshold:.1f}"


def strength(log_e: float, alpha: float) -> Strength:
    """Evidence for a claim that may be taken for proved wrongly with the chance `alpha`."""
    return Strength(log_e=log_e, threshold=-math.log(alpha))


class CheckReport(Remembered):
    """One check, in words for status and in numbers for metrics."""

    name: str
    verdict: Verdict
    evidence: str = ""
    message: str = ""
    worse: Strength | None = None
    """For "the canary is worse" (or different), where the check is a bet."""
    good: Strength | None = None
    """For "it is good enough for the next weight"."""


class Evidence(Remembered):
    """Counts and e-values of the running comparison."""

    weight: int = 0
    """Canary weight at which the last-seen counters were taken; a look never straddles a change of it."""
    mirror_percent: int = 0
    seen_at: float = 0.0
    """When the last-seen counters were taken: the beginning of the look under way."""
    seen: dict[str, Counters] = Field(default_factory=dict)
    """Last-seen counters per `pod uid/boot id`."""
    unasked: tuple[str, ...] = ()
    """Pods that could not be asked when counting began: their first answer is a beginning, not a look."""
    partial: bool = False
    """Whether some pod did not answer in the last look: its requests come with the next one."""
    failures_seen: dict[str, int] = Field(default_factory=dict)
    """Last-seen failures per `router pod uid/boot id/revision`."""
    slow_from: int | None = None
    """First latency bucket that counts as slow; frozen, so that it cannot follow a slow canary."""
    looks: int = 0
    errors: int = 0
    """Consecutive looks that could not be measured."""
    requests_canary: int = 0
    requests_stable: int = 0
    plan: tuple[int, ...] = ()
    """Weights that the bets on "not worse than tolerated" are about."""
    checks: dict[str, CheckEvidence] = Field(default_factory=dict)
    predictions: BinsEvidence = Field(default_factory=BinsEvidence)
    confidence: BinsEvidence = Field(default_factory=BinsEvidence)
    features: dict[str, BinsEvidence] = Field(default_factory=dict)
    share: CheckEvidence = Field(default_factory=CheckEvidence)
    reward: RewardEvidence = Field(default_factory=RewardEvidence)
    query_failures: dict[str, int] = Field(default_factory=dict)
    """Consecutive failures per Prometheus check."""
    pods: dict[str, dict[str, tuple[int, int]]] = Field(default_factory=dict)
    """Canary pods: uid -> check -> units and bad events."""
    restarted: tuple[str, ...] = ()
    """Pods that were restarted because they alone were bad."""
    alerted: tuple[str, ...] = ()
    """Checks whose failure was told of and has no other consequence."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    message: str = ""
    hold: str = ""
    """Why a good canary does not rise all the same."""
    reports: tuple[CheckReport, ...] = ()

    def closed(self) -> Evidence:
        """What is worth keeping once the rollout is over: counts and words, no counters, no bets."""
        checks = {name: check.model_copy(update={"worse": (), "good": ()}) for name, check in self.checks.items()}
        return Evidence(
            looks=self.looks,
            requests_canary=self.requests_canary,
            requests_stable=self.requests_stable,
            checks=checks,
            verdict=self.verdict,
            message=self.message,
            reports=self.reports,
        )
