"""Nothing is loaded before it is needed: a pod starts in the time that torch takes, and is not much larger."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mlserve_runtime.server.asgi import Application
from mlserve_runtime.server.deferred import DeferredApplication


async def test_the_first_requests_build_it_together() -> None:
    built = []
    asked: list[str] = []

    def build() -> Application:
        built.append(1)

        async def application(scope: Any, _receive: Any, _send: Any) -> None:
            asked.append(scope["path"])

        return application

    with ThreadPoolExecutor(1) as executor:
        pages: Any = DeferredApplication(build, executor)
        await asyncio.gather(*(pages({"path": path}, None, None) for path in ("/docs", "/health")))
        await pages({"path": "/stats"}, None, None)
    assert built == [1]
    assert sorted(asked) == ["/docs", "/health", "/stats"]


LARGE = ("fastapi", "torch", "grpc", "google.protobuf", "pyarrow", "opentelemetry", "onnxruntime", "redis", "httpx")


@pytest.mark.parametrize("module", ["mlserve_runtime.server.process", "mlserve_runtime.commands.drain"])
def test_large_packages_are_not_imported_at_the_start(module: str) -> None:
    program = f"import sys, {module}; print(*[name for name in {LARGE!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.split() == []
