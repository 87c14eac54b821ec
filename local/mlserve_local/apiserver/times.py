"""Kubernetes has two clocks on the wire: ``Time`` in whole seconds and ``MicroTime`` with six digits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$")


def now() -> str:
    """The current second as RFC 3339, for example ``2026-01-02T03:04:05Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def after(seconds: float) -> str:
    """The second that lies ``seconds`` ahead."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    """Read RFC 3339 of either precision; raises ValueError otherwise."""
    value = datetime.fromisoformat(text)
    if value.tzinfo is None or "T" not in text:
        raise ValueError(f'parsing time "{text}": an RFC 3339 time such as 2026-01-02T03:04:05Z would work')
    return value


def is_time(text: str) -> bool:
    """Whether ``parse`` would accept the text."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def is_micro_time(text: str) -> bool:
    """MicroTime is decoded strictly: the fraction has exactly six digits."""
    return bool(_MICRO.match(text)) and is_time(text)


def age(timestamp: str | None) -> str:
    """``5s``, ``3m20s``, ``4h``, ``12d``: the form of the AGE column."""
    if not timestamp:
        return "<unknown>"
    seconds = int((datetime.now(UTC) - parse(timestamp)).total_seconds())
    if seconds < -2:
        return "<invalid>"
    return human_duration(max(seconds, 0))


def human_duration(seconds: int) -> str:
    """Two units at most, as kubectl prints ages."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    return f"{years}y{rest}d" if years < 8 and rest else f"{years}y"
