"""The management port of the operator: probes, metrics, and a place for read-only pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client import generate_latest

from mlserve_core.wire import PATH_LIVEZ, PATH_METRICS, PATH_READYZ
from mlserve_operator.metrics import REGISTRY
from mlserve_operator.status import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlserve_operator.history import History

    Row = dict[str, Any]

PAGE_DAYS: Final = 7
DAY_SECONDS: Final = 86_400
PAGE_ROWS: Final = 50


def build_application(
    trouble: Callable[[], str], is_ready: Callable[[], bool], pages: Iterable[web.RouteDef] = ()
) -> web.Application:
    """The application of the management port.

    Args:
        trouble: why the process should be restarted; empty if it should not.
        is_ready: whether the caches are filled.
        pages: further read-only routes.
    """

    async def livez(_: web.Request) -> web.Response:
        problem = trouble()
        return web.Response(text=problem or "ok", status=500 if problem else 200)

    async def readyz(_: web.Request) -> web.Response:
        ready = is_ready()
        return web.Response(text="ok" if ready else "the caches are being filled", status=200 if ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        trouble()  # brings the gauges of the queue up to date
        return web.Response(body=generate_latest(REGISTRY), content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.add_routes(
        [web.get(PATH_LIVEZ, livez), web.get(PATH_READYZ, readyz), web.get(PATH_METRICS, metrics), *pages]
    )
    return application


async def serve(application: web.Application, host: str, port: int) -> web.AppRunner:
    """Start serving; the caller cleans the runner up.

    Raises:
        OSError: the port is taken.
    """
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def page_rows(history: History, now: Callable[[], float]) -> Callable[[str, str], tuple[list[Row], list[Row]]]:
    """What the overview page shows of a ModelDeployment's past: decisions, and its drift windows."""

    def rows(namespace: str, name: str) -> tuple[list[Row], list[Row]]:
        since = now() - PAGE_DAYS * DAY_SECONDS
        decisions = [_readable(item) for item in history.decisions(namespace, name, since, most=PAGE_ROWS)]
        windows = [_window(item) for item in history.windows(namespace, name, since, most=PAGE_ROWS)]
        return decisions, windows

    return rows


def _readable(item: Row) -> Row:
    return {**item, "time": timestamp(item["time"])}


def _window(item: Row) -> Row:
    """A window by its strongest feature."""
    strongest: Row = next(iter(item.get("features") or ()), {})
    return {**_readable(item), "feature": strongest.get("name"), "effect": strongest.get("effect")}
