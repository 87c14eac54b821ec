"""What clients reported about predictions: counted once each, by revision and lane.

The first report of a prediction wins. Memory of reported ids is bounded in time and number; the router sends an id
always to the same pod, so that a repeated report meets the pod that remembers it. Several processes of a pod share
the memory.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mlserve_core.wire import FeedbackCounts
from mlserve_runtime.calls import LaneName
from mlserve_runtime.errors import InvalidInputError, NotFoundError
from mlserve_runtime.feedback.tokens import Prediction, Signer, TokenError
from mlserve_runtime.seen import SharedSeen

LIFETIME_SECONDS: Final = 7 * 86400.0
_MAX_REMEMBERED: Final = 200_000
_MAX_REWARD: Final = 1e6


@dataclass(slots=True)
class Counts:
    """Feedback on one revision in one lane."""

    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    rewards: int = 0
    reward_sum_milli: int = 0
    reward_sum_square_milli: int = 0

    def on_wire(self) -> FeedbackCounts:
        """For the snapshot."""
        return FeedbackCounts(
            confusion={label: dict(row) for label, row in self.confusion.items()},
            rewards=self.rewards,
            reward_sum_milli=self.reward_sum_milli,
            reward_sum_square_milli=self.reward_sum_square_milli,
        )


class Ledger:
    """All feedback this process has taken."""

    def __init__(self, signer: Signer, remembered: int = _MAX_REMEMBERED, shared: SharedSeen | None = None) -> None:
        self._signer = signer
        self._shared = shared
        self._limit = remembered
        self._reported: OrderedDict[bytes, float] = OrderedDict()
        self._counts: dict[tuple[str, LaneName], Counts] = {}

    def report(
        self, token: str, *, label: Any, reward: float | None, classes: Sequence[str], now: float
    ) -> tuple[Prediction, bool]:
        """Count one report.

        Args:
            token: The prediction id.
            label: The true class, by name or index; None with a reward.
            reward: A number; None with a label.
            classes: Names of the model's classes; empty for a regression.
            now: Seconds since 1970.

        Returns:
            What the id stands for, and whether it was counted (False: it had been reported before).

        Raises:
            NotFoundError: The id is unknown here, or no key is set up.
            InvalidInputError: Label or reward make no sense for this model.
        """
        if not self._signer.active:
            raise NotFoundError("feedback is not set up: the server has no key for prediction ids")
        try:
            prediction = self._signer.verify(token, now=now, lifetime=LIFETIME_SECONDS)
        except TokenError as error:
            raise NotFoundError(str(error)) from error
        if (label is None) == (reward is None):
            raise InvalidInputError("send either label or reward")
        name = "" if label is None else class_name(label, classes)
        if reward is not None and (not math.isfinite(reward) or abs(reward) > _MAX_REWARD):
            raise InvalidInputError(f"reward must be a number between -{_MAX_REWARD:.0f} and {_MAX_REWARD:.0f}")
        if not self._first(prediction, now):
            return prediction, False
        if prediction.lane is not None:
            self._count(prediction, prediction.lane, name, reward, classes)
        return prediction, True

    def counts(self, revision: str, lane: LaneName) -> FeedbackCounts:
        """Feedback on a revision."""
        counts = self._counts.get((revision, lane))
        return counts.on_wire() if counts else FeedbackCounts()

    def revisions(self) -> list[str]:
        """All revisions whose predictions were reported on here."""
        return sorted({revision for revision, _ in self._counts})

    def _count(
        self, prediction: Prediction, lane: LaneName, label: str, reward: float | None, classes: Sequence[str]
    ) -> None:
        counts = self._counts.setdefault((prediction.revision, lane), Counts())
        if reward is None:
            index = prediction.class_index
            predicted = classes[index] if 0 <= index < len(classes) else str(index)
            row = counts.confusion.setdefault(label, {})
            row[predicted] = row.get(predicted, 0) + 1
            return
        milli = round(reward * 1000)
        counts.rewards += 1
        counts.reward_sum_milli += milli
        counts.reward_sum_square_milli += round(reward * reward * 1000)

    def _first(self, prediction: Prediction, now: float) -> bool:
        key = prediction.nonce + prediction.issued.to_bytes(4, "big")
        if self._shared is not None:
            return self._shared.first(key)
        if key in self._reported:
            return False
        self._reported[key] = now
        while self._reported:
            oldest = next(iter(self._reported))
            if len(self._reported) <= self._limit and now - self._reported[oldest] <= LIFETIME_SECONDS:
                break
            del self._reported[oldest]
        return True


def class_name(label: Any, classes: Sequence[str]) -> str:
    """The class a label means: its name, or its index. Raises InvalidInputError listing the classes."""
    if not classes:
        raise InvalidInputError("this model has no classes; send a reward instead of a label")
    if isinstance(label, str) and label in classes:
        return label
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return classes[label]
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    raise InvalidInputError(f"label {label!r} is none of {shown}, nor an index of them")
