"""The management port of the operator: probes, metrics, and a place for read-only pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import generate_latest

from mlserve_core.wire import PATH_LIVEZ, PATH_METRICS, PATH_READYZ
from mlserve_operator.metrics import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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
