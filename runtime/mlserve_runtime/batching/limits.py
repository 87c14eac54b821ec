"""Adapting the size of a pass to a latency target: additive increase, multiplicative decrease.

Bigger batches raise throughput until a pass takes longer than users are promised. Growing by one row while passes
stay under the target and shrinking by a tenth when one does not finds that size on every machine, and follows when a
neighbour steals the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LatencyTarget:
    """The controller; `rows` is the size in force, never above `ceiling`.

    >>> target = LatencyTarget(seconds=0.01, ceiling=64, rows=32)
    >>> target.adjust(32, 0.005), target.adjust(33, 0.020), target.adjust(4, 0.005)
    (33, 29, 29)
    """

    seconds: float
    ceiling: int
    rows: int = 8

    def adjust(self, rows: int, seconds: float) -> int:
        """Learn from a pass of `rows` that took `seconds`; only a full pass proves that there is room for more."""
        if seconds > self.seconds:
            self.rows = max(1, int(min(self.rows, rows) * 0.9))
        elif rows >= self.rows:
            self.rows = min(self.ceiling, self.rows + 1)
        return self.rows
