"""Has the population moved away from the reference profile? Verdicts per window, from merged counts."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


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


class FeatureDrift(BaseModel):
    """One feature (or the predictions) in one window."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: str
    effect: float = 0.0
    p_value: float | None = None
    severity: Severity = Severity.NONE
    drifted: bool = False


class DriftResult(BaseModel):
    """One closed window against the reference."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    verdict: DriftVerdict
    severity: Severity = Severity.NONE
    window_start: float = 0.0
    window_end: float = 0.0
    rows: int = 0
    features: tuple[FeatureDrift, ...] = Field(default_factory=tuple)
    performance_drifted: bool = False
    """Labels say that fewer predictions are right than in the reference."""
    message: str = ""
