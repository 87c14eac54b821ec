"""The rules allow what the operator does: a right that is missing shows only in somebody's cluster."""

from __future__ import annotations

import pytest

from mlserve_operator import kube
from mlserve_operator.execute import DELETED_KINDS
from mlserve_operator.rbac import WATCHED
from mlserve_operator.routing import ROUTER_KINDS


def verbs(kind: kube.Kind) -> set[str]:
    """What the operator may do with objects of a kind."""
    group = kind.group.partition("/")[0]
    return {verb for rule in WATCHED if rule.group == group and kind.plural in rule.resources for verb in rule.verbs}


def names(kinds: object) -> list[str]:
    return [kind.kind for kind in kinds]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", kube.CHILD_KINDS, ids=names(kube.CHILD_KINDS))
def test_what_is_made_may_be_watched_looked_up_and_applied(kind: kube.Kind) -> None:
    assert {"get", "list", "watch", "create", "patch"} <= verbs(kind)


DELETED = tuple(dict.fromkeys((*DELETED_KINDS, *ROUTER_KINDS)))


@pytest.mark.parametrize("kind", DELETED, ids=names(DELETED))
def test_what_is_no_longer_wanted_may_be_deleted(kind: kube.Kind) -> None:
    assert "delete" in verbs(kind)
