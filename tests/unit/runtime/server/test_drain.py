"""How a process is asked to drain, and how its answer is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mlserve_runtime.commands.drain import request_drain
from mlserve_runtime.server.drain import ask_to_drain

Ask = Callable[[Path], Awaitable[bool]]


@asynccontextmanager
async def answering(path: Path, *pieces: bytes, reset: bool = False) -> AsyncIterator[None]:
    """A process that answers in pieces, each sent once the one before has left."""

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)  # so that it is read alone
        if reset:
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_unix_server(connected, path)
    yield
    server.close()


async def by_command(path: Path) -> bool:
    return await asyncio.to_thread(request_drain, path, 10) == 0


@pytest.mark.parametrize("ask", [ask_to_drain, by_command], ids=["parent", "command"])
@pytest.mark.parametrize(
    ("pieces", "drained"),
    [
        ((b"drained\n",), True),
        ((b"dra", b"ined\n"), True),
        ((b"timeout\n",), False),
        ((b"time", b"out\n"), False),
        ((), True),
    ],
    ids=["drained", "drained-in-pieces", "timeout", "timeout-in-pieces", "gone"],
)
async def test_an_answer_is_read_to_its_end(tmp_path: Path, ask: Ask, pieces: tuple[bytes, ...], drained: bool) -> None:
    async with answering(tmp_path / "s", *pieces):
        assert await ask(tmp_path / "s") is drained


@pytest.mark.parametrize("ask", [ask_to_drain, by_command], ids=["parent", "command"])
async def test_a_process_that_is_gone_has_nothing_in_flight(tmp_path: Path, ask: Ask) -> None:
    assert await ask(tmp_path / "s")
    async with answering(tmp_path / "s", reset=True):
        assert await ask(tmp_path / "s")
