"""What a router has to know of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlserve_operator.rollout.state import Route


@dataclass(frozen=True)
class Entry:
    """One ModelDeployment as its router sees it.

    Attributes:
        name: the ModelDeployment.
        namespace: its namespace.
        port: its listener on every router pod.
        route: how requests are split.
        timeout_seconds: longest time of a request.
        sticky_header: requests with equal values of it stay with one revision; empty: none.
    """

    name: str
    namespace: str
    port: int
    route: Route
    timeout_seconds: int = 30
    sticky_header: str = ""
