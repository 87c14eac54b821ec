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
CLIENTS = 60
SECONDS = 4.0


async def offer(port: int, clients: int, seconds: float) -> list[tuple[int, float, str]]:
    """Ask as `clients` impatient clients for a while; (status, seconds, Retry-After) of every answer.

    Plain sockets and one prepared request: a client library would need more CPU than the server under test.
    """
    body = b'{"features":[1.0]}'
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    answers: list[tuple[int, float, str]] = []
    until = time.monotonic() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            began = time.monotonic()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
            status, after = int(head.split()[1]), head.partition("retry-after: ")[2].partition("\r\n")[0]
            answers.append((status, time.monotonic() - began, after))
            if status == 429:
                await asyncio.sleep(0.1)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*[one() for _ in range(clients)])
    return answers


def test_overload(start: Callable[..., RuntimeServer], slow: Callable[[float], tuple[Path, dict[str, str]]]) -> None:
    directory, environment = slow(PASS_SECONDS)
    flags = ["--max-rows", str(MAX_ROWS), "--timeout-millis", str(TIMEOUT_MILLIS), "--queue-rows", "16"]
    server = start(directory, *flags, **environment).wait_ready()
    url = f"{server.url}/predict"
    process = psutil.Process(server.process.pid)

    # As many clients as two passes hold keep the model busy without any of them ever being refused.
    peak = asyncio.run(offer(server.ports["http"], 2 * MAX_ROWS, SECONDS))
    assert {status for status, *_ in peak} == {200}
    before = process.memory_info().rss

    flood = asyncio.run(offer(server.ports["http"], CLIENTS, SECONDS))
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
