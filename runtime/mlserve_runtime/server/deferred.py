"""The web framework, loaded when somebody asks for more than a prediction.

FastAPI takes a quarter of a second and six megabytes to import. A pod behind a router answers predictions on the public
port and probes on the management port, so most pods never need it; the first call that does waits for the import,
which runs on a thread while predictions go on.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Executor

from mlserve_runtime.server.asgi import Application, Receive, Scope, Send


class DeferredApplication:
    """An ASGI application that is built by its first request."""

    def __init__(self, build: Callable[[], Application], executor: Executor) -> None:
        self._build = build
        self._executor = executor
        self._built: asyncio.Future[Application] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; those that come while the application is built wait for it together."""
        if self._built is None:
            self._built = asyncio.ensure_future(self._make())
        application = await asyncio.shield(self._built)
        await application(scope, receive, send)

    async def _make(self) -> Application:
        application = await asyncio.get_running_loop().run_in_executor(self._executor, self._build)
        gc.freeze()  # thousands of objects that live as long as the process
        return application
