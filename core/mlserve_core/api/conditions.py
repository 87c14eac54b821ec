"""Conditions as Kubernetes and its tools read them (metav1.Condition, kstatus).

`lastTransitionTime` moves only when `status` flips; otherwise a condition that was merely looked at again would
look changed, and every look would be a write. `Reconciling` and `Stalled` are abnormal-true: kstatus takes their
presence for a statement, so they are removed instead of set to False.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlserve_core.api.v1alpha1 import Condition, ConditionType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ABNORMAL_TRUE = frozenset({ConditionType.RECONCILING, ConditionType.STALLED})


@dataclass(frozen=True)
class Claim:
    """What is true now of one condition type, without the history that `lastTransitionTime` needs.

    Attributes:
        type: the condition's type.
        status: True, False, or None for Unknown.
        reason: CamelCase word for programs.
        message: what happened and what to do, for people.
    """

    type: ConditionType
    status: bool | None
    reason: str
    message: str = ""


def merge_conditions(
    existing: Sequence[Condition], claims: Iterable[Claim], *, generation: int, now: str
) -> list[Condition]:
    """Conditions after the claims, in the order of ConditionType.

    A type that nobody claims is dropped, and so is an abnormal-true one that is not true.

    Args:
        existing: conditions of the stored status.
        claims: one claim a type.
        generation: generation of the spec the claims were computed from.
        now: RFC 3339 time, taken where a status flips.
    """
    before = {condition.type: condition for condition in existing}
    after = {}
    for claim in claims:
        if claim.type in ABNORMAL_TRUE and claim.status is not True:
            continue
        status = "Unknown" if claim.status is None else str(claim.status)
        old = before.get(claim.type)
        after[claim.type] = Condition(
            type=claim.type,
            status=status,
            observed_generation=generation,
            last_transition_time=old.last_transition_time if old and old.status == status else now,
            reason=claim.reason,
            message=claim.message,
        )
    return [after[kind] for kind in ConditionType if kind in after]
