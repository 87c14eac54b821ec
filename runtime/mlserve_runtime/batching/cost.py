"""What a forward pass costs: seconds = fixed + per_row * rows, fitted while it serves.

From it follow how long the queue takes to drain (Retry-After, hopeless deadlines) and whether waiting for one more
row pays. Fitted by least squares with exponential forgetting, so that a model that slows down is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_FORGET: Final = 0.99
"""Weight kept by the past at every observation: about the last hundred batches count."""
_ARRIVALS: Final = 0.05
"""Weight of the newest gap in the smoothed time between arrivals."""


@dataclass(slots=True)
class CostModel:
    """Running fit of (rows, seconds); all zero until the first observation, which predicts nothing and refuses nothing.

    >>> model = CostModel()
    >>> for rows in (1, 8, 32): model.observe(rows, 0.001 + 0.0001 * rows)
    >>> round(model.fixed, 6), round(model.per_row, 6)
    (0.001, 0.0001)
    >>> round(model.drain_seconds(rows=40, max_rows=32), 6)
    0.006
    """

    weight: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    rows_squared: float = 0.0
    rows_seconds: float = 0.0
    per_row: float = 0.0
    """Seconds each further row adds; 0 while all passes had one size."""
    fixed: float = 0.0
    """Seconds of a pass that do not depend on its rows."""
    gap: float = 0.0
    """Smoothed seconds between arrivals; 0 while unknown."""
    last_arrival: float = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one pass."""
        self.weight = self.weight * _FORGET + 1
        self.rows = self.rows * _FORGET + rows
        self.seconds = self.seconds * _FORGET + seconds
        self.rows_squared = self.rows_squared * _FORGET + rows * rows
        self.rows_seconds = self.rows_seconds * _FORGET + rows * seconds
        spread = self.weight * self.rows_squared - self.rows * self.rows
        if spread > 1e-9 * self.rows_squared * self.weight:
            self.per_row = max(0.0, (self.weight * self.rows_seconds - self.rows * self.seconds) / spread)
        else:
            self.per_row = 0.0
        self.fixed = max(0.0, (self.seconds - self.per_row * self.rows) / self.weight)

    def arrived(self, now: float) -> None:
        """Learn from one arrival."""
        if self.last_arrival:
            gap = now - self.last_arrival
            self.gap = gap if not self.gap else self.gap + _ARRIVALS * (gap - self.gap)
        self.last_arrival = now

    def pass_seconds(self, rows: int) -> float:
        """Expected seconds of one pass."""
        return self.fixed + self.per_row * rows

    def drain_seconds(self, rows: int, max_rows: int) -> float:
        """Expected seconds until `rows` have run in passes of at most `max_rows`."""
        return -(-rows // max_rows) * self.fixed + self.per_row * rows

    def waiting_pays(self, rows: int) -> bool:
        """Whether the next row is expected soon enough to be worth delaying the `rows` that wait.

        Company saves the next arrival a pass of its own (`fixed`) and delays everyone who waits by the gap.
        """
        return self.gap > 0 and rows * self.gap < self.fixed
