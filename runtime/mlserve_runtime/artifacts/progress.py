"""Progress as plain lines: what `kubectl logs -c fetch` shows while a large model is on its way."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_INTERVAL_SECONDS = 2.0


class Progress:
    """Counts bytes and prints a line at most every two seconds. Safe to share between threads."""

    def __init__(
        self,
        total: int = 0,
        *,
        write: Callable[[str], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        """Bytes expected; 0 where nobody knows."""
        self.done = 0
        self._write = write or _to_stderr
        self._clock = clock
        self._started = self._printed = clock()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._write(text)

    def advance(self, count: int) -> None:
        """Count bytes that arrived."""
        with self._lock:
            self.done += count
            now = self._clock()
            if now - self._printed < _INTERVAL_SECONDS:
                return
            self._printed = now
        self._write(self.line(now))

    def line(self, now: float) -> str:
        """Where things stand: `fetched 12.0 MB of 40.0 MB (30 %), 6.0 MB/s`."""
        speed = self.done / max(now - self._started, 1e-9)
        whole = f" of {megabytes(self.total)} ({100 * self.done // self.total} %)" if self.total else ""
        return f"fetched {megabytes(self.done)}{whole}, {megabytes(int(speed))}/s"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  what `kubectl logs` shows


def megabytes(count: int) -> str:
    """Bytes for people.

    >>> megabytes(999), megabytes(15_264), megabytes(3_400_000_000)
    ('999 B', '15.3 kB', '3.4 GB')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
