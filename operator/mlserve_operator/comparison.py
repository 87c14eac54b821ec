"""Whether a live object already says what is wanted, so that nothing is written that changes nothing.

The API server fills in defaults, drops empty values and writes quantities its own way; a comparison that knows this
saves a write for every child in every reconcile. Fields that are not wanted for are nobody's business here.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_SUFFIXES: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]i?|)")
_QUANTITY_PARENTS: Final = frozenset({"requests", "limits"})
_ATOMIC_FIELDS: Final = frozenset({"selector", "matchLabels", "nodeSelector"})
"""Maps that mean something else with a foreign entry more; Kubernetes applies them as a whole, too."""
_QUANTITY_FIELDS: Final = frozenset({"averageValue", "value"})


def says(live: Any, wanted: Any, field: str = "") -> bool:
    """Whether `live` has every field of `wanted` with the same value.

    >>> says({"replicas": 2, "paused": False}, {"replicas": 2, "minReadySeconds": 0})
    True
    >>> says({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "0.5"}})
    True
    >>> says({"ports": [{"port": 80}]}, {"ports": [{"port": 80}, {"port": 81}]})
    False
    """
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return live is None and not wanted
        if field in _ATOMIC_FIELDS and live.keys() - wanted.keys():
            return False
        inner = "value" if field in _QUANTITY_PARENTS else ""
        return all(says(live.get(key), value, inner or key) for key, value in wanted.items())
    if isinstance(wanted, list):
        if live is None:
            return not wanted
        return len(live) == len(wanted) and all(says(*pair, field) for pair in zip(live, wanted, strict=True))
    if live is None:
        return wanted in (None, "", 0, False)
    return bool(live == wanted) or (field in _QUANTITY_FIELDS and _same_quantity(live, wanted))


def merge_patch(before: Any, after: dict[str, Any]) -> dict[str, Any]:
    """The JSON merge patch that turns one object into another; empty if they are equal.

    >>> merge_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1}})
    {'a': None, 'b': {'d': None}}
    """
    before = before if isinstance(before, dict) else {}
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            if inner := merge_patch(before[key], value):
                patch[key] = inner
        elif key not in before or before[key] != value:
            patch[key] = value
    return patch


def _same_quantity(one: object, other: object) -> bool:
    matches = [_QUANTITY.fullmatch(str(value)) for value in (one, other)]
    if None in matches:
        return False
    values = [Decimal(match[1]) * _SUFFIXES[match[2]] for match in matches if match]
    return values[0] == values[1]
