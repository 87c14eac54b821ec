"""How much of the processor's time evidence may take.

What a row costs to count depends on its features: a microsecond for a small table, hundreds for the projections of
a picture. A limit in rows would be too low for one and too high for the other, so the limit is on time. Whoever
spends it asks before each piece of work whether earlier pieces are paid for; no piece is looked at for that, and so
what is left out under load is left out whatever it says: the rest is a fair sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

SHARE: Final = 0.005
"""Of one CPU. Tables are counted whole up to several thousand rows a second, images of 28 x 28 to over a thousand."""
BURST_SECONDS: Final = 0.02
"""Time that may be spent at once after a quiet while."""


class Budget:
    """A share of the time, by the generic cell rate algorithm (ITU-T I.371): no counter has to be filled up.

    Args:
        share: Seconds of the processor that may be spent for each second that passes.
        burst: Seconds of the processor that may be spent ahead.
        clock: What passes, in seconds.
        spent: Seconds of the processor that this thread has taken: what others take meanwhile is not ours.
    """

    def __init__(
        self,
        share: float = SHARE,
        burst: float = BURST_SECONDS,
        *,
        clock: Callable[[], float] = time.perf_counter,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._ahead = burst / share
        self._clock = clock
        self._spent = spent
        self._paid_at = -float("inf")
        """When all that was spent so far is paid for."""

    def allows(self) -> bool:
        """Whether more may be spent now."""
        return self._paid_at <= self._clock() + self._ahead

    @contextmanager
    def charged(self) -> Iterator[None]:
        """Spend what the body takes."""
        before = self._spent()
        try:
            yield
        finally:
            self._paid_at = max(self._paid_at, self._clock()) + (self._spent() - before) / self._share
