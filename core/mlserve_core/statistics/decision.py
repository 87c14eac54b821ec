"""What do the findings mean together? The decision table of a rollout.

One finding has several explanations: a canary that predicts differently may be broken, or may have been sent other
inputs, or the world may have changed for both. The rows are in order of precedence, and the first that applies
decides; an input difference, for example, is judged before any difference of predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What a row leads to by default."""

    ROLL_BACK = "RollBack"
    PAUSE = "Pause"
    ON_PREDICTION_DRIFT = "OnPredictionDrift"
    ON_DRIFT = "OnDrift"
    HOLD = "Hold"
    PROCEED = "Proceed"


@dataclass(frozen=True)
class Findings:
    """What was found, arm against arm and each arm against its own reference."""

    harm: bool = False
    """Arms differ on errors or on outputs that are not finite."""
    unfair: bool = False
    """Arms differ on inputs, or the canary's share is not what was configured."""
    regression: bool = False
    """Arms differ on latency, labels, reward or a query."""
    collapse: bool = False
    """Predictions differ by a total variation of at least COLLAPSE."""
    predictions: bool = False
    """Predictions differ by at least the effect that counts."""
    canary_drift: bool | None = None
    """Against the canary's own reference; None: not known (no profile, or too little data)."""
    stable_drift: bool | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    applies: Callable[[Findings], bool]
    meaning: str
    action: Action


COLLAPSE: Final = 0.4
"""Total variation from which predictions are not a new behaviour but a broken artifact or preprocessing."""

TABLE: Final = (
    Row("harm", lambda f: f.harm, "the canary hurts users now, whatever it was sent", Action.ROLL_BACK),
    Row("unfair", lambda f: f.unfair, "routing or sampling fault: the comparison is not valid", Action.PAUSE),
    Row("regression", lambda f: f.regression, "the canary is worse", Action.ROLL_BACK),
    Row("collapse", lambda f: f.collapse, "broken artifact or preprocessing", Action.ROLL_BACK),
    Row(
        "predictions",
        # Far from both references two good models may well disagree: that is the population's row.
        lambda f: f.predictions and not (f.canary_drift and f.stable_drift),
        "new behaviour, perhaps intended",
        Action.ON_PREDICTION_DRIFT,
    ),
    Row(
        "population",
        lambda f: f.canary_drift is True and f.stable_drift is True,
        "the population changed for both; a rollback cannot help",
        Action.ON_DRIFT,
    ),
    Row(
        "retrain",
        lambda f: f.stable_drift is True and f.canary_drift is False,
        "the retrain that answers the drift",
        Action.PROCEED,
    ),
    Row(
        "mismatch",
        lambda f: f.canary_drift is True and f.stable_drift is False,
        "the canary's reference does not describe this traffic",
        Action.HOLD,
    ),
    Row(
        "unknown",
        lambda f: f.canary_drift is True or f.stable_drift is True,
        "drift, and too little data to say of whom",
        Action.HOLD,
    ),
    Row("clean", lambda _: True, "nothing speaks against the canary", Action.PROCEED),
)


def decide(findings: Findings) -> Row:
    """The first row that applies; the last one always does.

    >>> decide(Findings(unfair=True, predictions=True)).name
    'unfair'
    """
    return next(row for row in TABLE if row.applies(findings))
