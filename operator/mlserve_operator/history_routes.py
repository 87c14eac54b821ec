"""The history over HTTP, read-only, on the management port: what the command line and the page ask for."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlserve_operator.history import History

MAX_DAYS: Final = 365


def history_routes(history: History, clock: Callable[[], float] = time.time) -> list[web.RouteDef]:
    """`/api/rollouts`, `/api/drift` and `/api/profiles/DIGEST`; the first two take `namespace`, `name` and `days`."""

    def asked(request: web.Request) -> tuple[str, str, float]:
        name = request.query.get("name", "")
        days = request.query.get("days", "7")
        if not name or not days.isdigit() or not 1 <= int(days) <= MAX_DAYS:
            raise web.HTTPBadRequest(
                text=f"give name=NAME, and days=1..{MAX_DAYS} (default 7); namespace defaults to 'default'"
            )
        return request.query.get("namespace", "default"), name, clock() - int(days) * 86_400

    async def rollouts(request: web.Request) -> web.Response:
        return web.json_response({"items": history.decisions(*asked(request))})

    async def drift(request: web.Request) -> web.StreamResponse:
        """Windows as they are read. Counts are for plots of the newest window with findings, and come with that one."""
        windows, counted = history.windows(*asked(request)), False
        response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        await response.prepare(request)
        separator = '{"items": ['
        for window in windows:
            told = window if not counted else window | {"counts": {}}
            counted = counted or bool(window["features"])
            await response.write(f"{separator}{json.dumps(told)}".encode())
            separator = ", "
        await response.write(b"]}" if separator == ", " else b'{"items": []}')
        await response.write_eof()
        return response

    async def profile(request: web.Request) -> web.Response:
        found = history.profile(request.match_info["digest"])
        if found is None:
            raise web.HTTPNotFound(text="no such profile is kept; profiles stay as long as a window refers to them")
        return web.json_response(found)

    return [
        web.get("/api/rollouts", rollouts),
        web.get("/api/drift", drift),
        web.get("/api/profiles/{digest}", profile),
    ]
