"""Protocol extensions of other servers that change where or in which form tensors travel.

Most parameters may be ignored; these may not: a client that named a shared memory region reads its answer there, and
one that asked for a classification reads strings. Both protocols refuse them by the same words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mlserve_runtime.errors import InvalidInputError

_UNSERVED: Final = frozenset({"classification", "shared_memory_region"})


def refuse_unserved(tensor: str, parameters: Iterable[str]) -> None:
    """Raises InvalidInputError if one of a tensor's parameters asks for what is not done here."""
    for name in parameters:
        if name in _UNSERVED:
            raise InvalidInputError(
                f"{tensor}: parameter {name!r} belongs to an extension that is not served here; "
                "the server's metadata lists those that are"
            )
