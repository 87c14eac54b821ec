"""More load than the model can carry: refusals are quick, what is accepted is on time, memory stays flat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from .conftest import RuntimeServer
from .test_lifecycle import slow

__all__ = ["slow"]

PASS_SECONDS = 0.02
MAX_ROWS = 4
TIMEOUT_MILLIS = 400
CLIENTS = 100
SECONDS = 4.0


async def offer(url: str, clients: int, seconds: float) -> list[tuple[int, float, str]]:
    """Ask as `clients` impatient clients for a while; (status, seconds, Retry-After) of every answer."""
    answers: list[tuple[int, float, str]] = []
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients)

    async with httpx.AsyncClient(timeout=30, limits=limits) as client:

        async def one() -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                answer = await client.post(url, json={"features": [1.0]})
                took = time.monotonic() - began
                answers.append((answer.status_code, took, answer.headers.get("retry-after", "")))
                if answer.status_code == 429:
                    await asyncio.sleep(0.05)  # a client's back-off is part of the load's shape

        await asyncio.gather(*[one() for _ in range(clients)])
    return answers


def test_overload(start: Callable[..., RuntimeServer], slow: Callable[[float], tuple[Path, dict[str, str]]]) -> None:
    directory, environment = slow(PASS_SECONDS)
    flags = ["--max-rows", str(MAX_ROWS), "--timeout-millis", str(TIMEOUT_MILLIS), "--queue-rows", "64"]
    server = start(directory, *flags, **environment).wait_ready()
    url = f"{server.url}/predict"
    process = psutil.Process(server.process.pid)

    # As many clients as two passes hold keep the model busy without any of them ever being refused.
    peak = asyncio.run(offer(url, 2 * MAX_ROWS, SECONDS))
    assert {status for status, *_ in peak} == {200}
    before = process.memory_info().rss

    flood = asyncio.run(offer(url, CLIENTS, SECONDS))
    statuses = {status for status, *_ in flood}
    good = [took for status, took, _ in flood if status == 200]
    refused = [(took, after) for status, took, after in flood if status == 429]
    assert statuses <= {200, 429, 504}
    assert len(good) >= 0.9 * len(peak), "goodput fell under load"
    assert refused, "the load was no overload"
    assert all(after.isdigit() and int(after) >= 1 for _, after in refused)
    # Clients share this machine's cores with the server: their own queueing is part of what they measure.
    assert sorted(took for took, _ in refused)[len(refused) // 2] < 0.25
    assert sum(status == 504 for status, *_ in flood) <= 0.02 * len(flood)
    assert process.memory_info().rss - before < 64 * 2**20

    live: dict[str, Any] = server.telemetry()["live"]
    assert live["rejected"] == len(refused)
    assert live["requests"] == len(peak) + len(flood)
    assert httpx.post(url, json={"features": [1.0]}).status_code == 200
