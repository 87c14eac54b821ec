"""What the analysis of a rollout has counted so far; part of the checkpoint, so that a restart forgets nothing."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Verdict(StrEnum):
    """Outcome of a check or of a look. No data is never success."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    """Measured, and bad."""
    INCONCLUSIVE = "Inconclusive"
    """Measured, and undecided."""
    ERROR = "Error"
    """Could not be measured."""


class CheckReport(BaseModel):
    """One check, in words for status."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: str
    verdict: Verdict
    evidence: str = ""
    message: str = ""


class Evidence(BaseModel):
    """Counts and e-values of the running comparison."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    looks: int = 0
    verdict: Verdict = Verdict.INCONCLUSIVE
    requests_canary: int = 0
    requests_stable: int = 0
    reports: tuple[CheckReport, ...] = Field(default_factory=tuple)
