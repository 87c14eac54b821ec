"""What a kind does beyond the common path: defaults, fields the server owns, rules between fields.

The common path (rest.py) calls the hooks in a fixed order: ``default`` while decoding, ``admit`` (may look at other
objects), ``prepare_create`` / ``prepare_update``, then ``validate`` / ``validate_update``. A kind without a row has
none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlserve_local.apiserver.errors import FieldError, Obj

if TYPE_CHECKING:
    from mlserve_local.apiserver.cluster import Cluster
    from mlserve_local.apiserver.request import User


def _nothing(obj: Obj) -> None:
    """The hook of kinds that need none."""


def _no_change(new: Obj, old: Obj) -> None:
    """The update hook of kinds that need none."""


def _no_errors(obj: Obj) -> list[FieldError]:
    return []


def _no_update_errors(new: Obj, old: Obj) -> list[FieldError]:
    return []


def _admit_all(cluster: Cluster, obj: Obj, old: Obj | None, user: User) -> None:
    """The admission hook of kinds that need none."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """The hooks of one kind. ``skeleton`` is what an empty object of the kind already contains in Go."""

    default: Callable[[Obj], None] = _nothing
    admit: Callable[[Cluster, Obj, Obj | None, User], None] = _admit_all
    prepare_create: Callable[[Obj], None] = _nothing
    prepare_update: Callable[[Obj, Obj], None] = _no_change
    validate: Callable[[Obj], list[FieldError]] = _no_errors
    validate_update: Callable[[Obj, Obj], list[FieldError]] = _no_update_errors
    skeleton: Any = None
    create_on_update: bool = False
    warn: Callable[[Obj], list[str]] = lambda obj: []


PLAIN = Strategy()
