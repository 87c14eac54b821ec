"""The page's addresses on the management port: resources from the index, decisions from the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web

from mlserve_core.api import v1alpha1 as api
from mlserve_operator import page

if TYPE_CHECKING:
    from mlserve_operator.history import History
    from mlserve_operator.index import Index

DAYS: Final = 7
"""How far back the page looks."""
MOST: Final = 50
"""Rows of each table at most; `mlserve rollout history` has the rest."""


def routes(index: Index, history: History, release: str = "") -> list[web.RouteDef]:
    """Routes for `management.build_application`."""

    def answer(text: str, kind: str = "text/html", status: int = 200) -> web.Response:
        return web.Response(text=text, content_type=kind, charset="utf-8", status=status, headers=page.HEADERS)

    async def overview(_: web.Request) -> web.Response:
        return answer(page.overview(index.of_kind(api.KIND), datetime.now(UTC), release))

    async def detail(request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        resource, now = index.get(api.KIND, namespace, name), datetime.now(UTC)
        if resource is None:
            return answer(page.not_found(namespace, name, now, release), status=404)
        since = (now - timedelta(days=DAYS)).timestamp()
        decisions = history.decisions(namespace, name, since, most=MOST)
        windows = history.windows(namespace, name, since, most=MOST)
        return answer(page.detail(resource, decisions, windows, now, release))

    async def style(_: web.Request) -> web.Response:
        return answer(page.stylesheet(), "text/css")

    return [
        web.get("/", overview),
        web.get("/namespaces/{namespace}/modeldeployments/{name}", detail),
        web.get(page.PATH_STYLE, style),
    ]
