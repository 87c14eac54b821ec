"""The application of everything but predictions."""

from __future__ import annotations

import inspect

from fastapi.routing import APIRoute

from mlserve_runtime.dataplane import DataPlane
from mlserve_runtime.server.app import build_app
from mlserve_runtime.settings import Settings
from mlserve_runtime.telemetry.recorder import Recorder


async def test_nothing_runs_on_another_thread_than_the_counters_it_reads() -> None:
    """Feedback reported twice at once would count twice, and a look at /stats could break the counting of answers."""
    settings = Settings()
    routes = [
        one for one in build_app(DataPlane(settings, Recorder(settings)), 0.0).routes if isinstance(one, APIRoute)
    ]
    assert len(routes) > 15
    assert [one.path for one in routes if not inspect.iscoroutinefunction(one.endpoint)] == []
