"""A container that keeps crashing must not eat the machine: each restart waits longer, as with a kubelet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CrashBackoff:
    """The first restart is immediate; later ones come `base`, 2 `base`, ... up to `cap` seconds after the end."""

    base: float = 10.0
    cap: float = 300.0
    _delay: float = 0.0
    _last_end: float | None = None

    def after(self, started: float, ended: float) -> float:
        """Seconds to wait from `ended` on. A run of twice the cap counts as a recovery.

        >>> backoff = CrashBackoff()
        >>> [backoff.after(0, 1), backoff.after(1, 2), backoff.after(12, 13), backoff.after(33, 10_000)]
        [0.0, 10.0, 20.0, 0.0]
        """
        if self._last_end is None or ended - started > 2 * self.cap:
            self._delay = 0.0
        else:
            self._delay = min(self.cap, max(self.base, 2 * self._delay))
        self._last_end = ended
        return self._delay


def describe(seconds: float) -> str:
    """Go's spelling of a duration, as in `back-off 1m20s restarting failed container`.

    >>> describe(10), describe(80), describe(300), describe(0.5)
    ('10s', '1m20s', '5m0s', '500ms')
    """
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
