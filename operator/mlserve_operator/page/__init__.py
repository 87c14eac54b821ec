"""The operator's own page: every ModelDeployment, its rollout, evidence and drift, for a person with a browser.

Read-only and rendered here, so it works with `kubectl port-forward` alone: no build step, no script, nothing loaded
from elsewhere. Pure: resources and history rows go in, HTML comes out; whoever serves it adds HEADERS.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from mlserve_operator.page.views import Decision, DriftWindow, ModelView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

HEADERS: Final[dict[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""What every answer carries: names and messages come from users, so the browser is told to run and load nothing."""

PATH_STYLE: Final = "/page.css"


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("mlserve_operator.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def stylesheet() -> str:
    """The content of PATH_STYLE (text/css)."""
    return _templates().get_template("page.css").render()


def overview(resources: Iterable[Mapping[str, Any]], now: datetime, release: str = "") -> str:
    """The list of all ModelDeployments, the ones that need a person first."""
    models = sorted((ModelView.of(item) for item in resources), key=lambda model: model.order)
    return _templates().get_template("overview.html").render(models=models, now=now, release=release)


def detail(
    resource: Mapping[str, Any],
    decisions: Iterable[Mapping[str, Any]],
    windows: Iterable[Mapping[str, Any]],
    now: datetime,
    release: str = "",
) -> str:
    """One ModelDeployment.

    Args:
        resource: As the API server has it, status included.
        decisions: Rows of the history, newest first: time, revision, decision, reason, weight, canaryRequests,
            stableRequests, message.
        windows: Closed drift windows, newest first: time, revision, verdict, severity, rows, features.
        now: Time of rendering.
        release: Version of the operator, for the footer.
    """
    return (
        _templates()
        .get_template("detail.html")
        .render(
            model=ModelView.of(resource),
            decisions=[Decision.of(row) for row in decisions],
            windows=[DriftWindow.of(row) for row in windows],
            now=now,
            release=release,
        )
    )


def not_found(namespace: str, name: str, now: datetime, release: str = "") -> str:
    """Says that there is no such ModelDeployment, and where the list is."""
    return _templates().get_template("not_found.html").render(namespace=namespace, name=name, now=now, release=release)
