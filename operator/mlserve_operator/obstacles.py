"""What keeps a decision from being carried out, in the words of a condition: reason and message."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mlserve_core.api.v1alpha1 import Reason
from mlserve_operator import report
from mlserve_operator.execute import NotOwnedError
from mlserve_operator.kube import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]
Obstacle = tuple[str, str]


class ObstacleError(Exception):
    """Something that the user or an administrator has to move is in the way; tried again with back-off."""


class UnwritableError(Exception):
    """What a decision is to be remembered in cannot be written: nothing may be acted upon."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle[1])
        self.obstacle = obstacle


@contextlib.contextmanager
def or_unwritable(body: Object) -> Iterator[None]:
    """Name what is in the way of writing an object: its name is taken, or the API server will not take it.

    Raises:
        UnwritableError: in place of an error that would come again.
    """
    try:
        yield
    except NotOwnedError as error:
        raise UnwritableError((Reason.OBJECT_CONFLICT, str(error))) from error
    except ApiError as error:
        if not error.is_final:
            raise
        raise UnwritableError(report.refusal(body, error)) from error
