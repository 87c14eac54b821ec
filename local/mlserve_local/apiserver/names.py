"""Names the server makes up."""

from __future__ import annotations

import random
from typing import Final

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"


def random_suffix() -> str:
    """Five characters without vowels or look-alikes, as generateName appends them."""
    return "".join(random.choices(_ALPHABET, k=5))  # noqa: S311 - a name, not a secret
