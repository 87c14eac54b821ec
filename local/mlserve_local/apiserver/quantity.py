"""Resource quantities: ``500m``, ``1Gi``, ``1e3``. Exact, since requests are compared with limits."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_FORM: Final = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E))?$")
_SCALE: Final[dict[str, Decimal]] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    **{unit: Decimal(1024**power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}
PATTERN: Final = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


def parse(text: str | float) -> Decimal:
    """The exact value; raises ValueError with the rule for anything that is not a quantity."""
    match = _FORM.match(str(text))
    if not match:
        raise ValueError(f"quantities must match the regular expression '{PATTERN}'")
    number, exponent, suffix = match.groups()
    value = Decimal(number)
    if exponent:
        return value * Decimal("1" + exponent.lower())
    return value * _SCALE[suffix] if suffix else value


def is_quantity(text: str | float) -> bool:
    """Whether ``parse`` would accept the text."""
    try:
        parse(text)
    except ValueError:
        return False
    return True
