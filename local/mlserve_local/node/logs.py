"""Container output with its time, in the format of container runtimes, bounded on disk and followed without polling.

A line of the file is `TIME STREAM F text`. A log that outgrows its bound moves to `.1`, the older half is dropped;
a reader that follows is woken by the writer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mlserve_local.objects import moment_of

MAX_BYTES: Final = 10 * 1024 * 1024
_MAX_LINE: Final = 64 * 1024


def _stamp() -> str:
    nanoseconds = time.time_ns()
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction:09d}Z"


class LogFile:
    """One run of a container. Written by the node alone; `changed` wakes those who follow."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.closed = False
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._changed = asyncio.Event()

    def write(self, stream: str, line: bytes) -> None:
        """Append one line without its newline."""
        record = f"{_stamp()} {stream} F ".encode() + line + b"\n"
        self._file.write(record)
        self._size += len(record)
        if self._size > self._max_bytes:
            self._rotate()
        self._wake()

    def close(self) -> None:
        """The container has ended: nothing will follow."""
        self.closed = True
        self._file.close()
        self._wake()

    def _rotate(self) -> None:
        self._file.close()
        self.path.replace(self.path.with_suffix(self.path.suffix + ".1"))
        self._file = self.path.open("ab", buffering=0)
        self._size = 0

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        """Wait until something is appended or the log is closed."""
        await self._changed.wait()


class LineSink(asyncio.Protocol):
    """Turns what a pipe delivers into lines of a log; `done` is set at the end of the stream."""

    def __init__(self, log: LogFile, stream: str) -> None:
        self._log, self._stream, self._pending = log, stream, b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Write the complete lines; a very long one in pieces."""
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > _MAX_LINE:
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            self._log.write(self._stream, line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Write what is left of the last line."""
        if self._pending:
            self._log.write(self._stream, self._pending)
            self._pending = b""
        if not self.done.done():
            self.done.set_result(None)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The query of `pods/log`."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float | None = None
    """Seconds since the epoch."""
    limit_bytes: int | None = None


async def read(path: Path, live: LogFile | None, options: LogOptions) -> AsyncIterator[bytes]:
    """Lines of a log as `kubectl logs` shows them; with follow also those to come, until the log is closed."""
    budget = options.limit_bytes
    records: Iterator[bytes] | deque[bytes] = _records(path)
    if options.tail_lines is not None:
        records = deque(records, maxlen=options.tail_lines)
    chunk: list[bytes] = []
    size = 0
    for record in records:
        text = _shown(record, options)
        if text is None:
            continue
        if budget is not None:
            text, budget = text[:budget], budget - len(text)
        chunk.append(text)
        size += len(text)
        if size > 1 << 16:
            yield b"".join(chunk)
            chunk, size = [], 0
        if budget is not None and budget <= 0:
            break
    if chunk:
        yield b"".join(chunk)
    if options.follow and live is not None and (budget is None or budget > 0):
        async for text in _follow(live, options):
            yield text


def _records(path: Path) -> Iterator[bytes]:
    for file in (path.with_suffix(path.suffix + ".1"), path):
        if file.exists():
            with file.open("rb") as lines:
                yield from lines


def _shown(record: bytes, options: LogOptions) -> bytes | None:
    stamp, _, rest = record.partition(b" ")
    text = rest.split(b" ", 2)[2] if rest.count(b" ") >= 2 else rest
    if options.since is not None:
        moment = moment_of(stamp.decode()[:26] + "Z")
        if moment is not None and moment < options.since:
            return None
    return stamp + b" " + text if options.timestamps else text


async def _follow(live: LogFile, options: LogOptions) -> AsyncIterator[bytes]:
    file = live.path.open("rb")
    try:
        file.seek(0, 2)
        while True:
            if lines := file.readlines():
                yield b"".join(text for line in lines if (text := _shown(line, options)) is not None)
            elif live.closed:
                return
            elif live.path.stat().st_ino != _inode(file.fileno()):
                file.close()
                file = live.path.open("rb")
            else:
                await live.change()
    finally:
        file.close()


def _inode(descriptor: int) -> int:
    return Path(f"/proc/self/fd/{descriptor}").stat().st_ino
