"""Every hostile request gets its documented status within a second, and harms nobody else.

The second is the server's own: processor time of its process, which other programs on the machine do not lengthen. The
wall clock has a limit too, generous because machines that run tests are busy.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from .conftest import FEATURES, RuntimeServer
from .hostile import Case, all_cases

CASES = all_cases()
PROCESSOR_SECONDS = 1.0
WALL_SECONDS = 10.0
MAX_GROWTH = 150 * 2**20
"""Of the resident memory over the whole corpus, which holds bombs of gigabytes."""


def test_the_corpus_is_large() -> None:
    assert len(CASES) >= 250
    assert len({case.name for case in CASES}) == len(CASES)


@dataclass(frozen=True)
class Usage:
    """What a server holds, and the files below the only directory it may write to (TMPDIR, too)."""

    server: RuntimeServer
    resident: int
    files: frozenset[tuple[Path, int]]

    @classmethod
    def of(cls, server: RuntimeServer) -> Usage:
        files = frozenset((path, path.stat().st_size) for path in server.scratch.rglob("*") if path.is_file())
        return cls(server, psutil.Process(server.process.pid).memory_info().rss, files)


@pytest.fixture(scope="module")
def before(server: RuntimeServer, picture_server: RuntimeServer) -> list[Usage]:
    return [Usage.of(one) for one in (server, picture_server)]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as one:
        yield one


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_request(
    server: RuntimeServer, picture_server: RuntimeServer, client: httpx.Client, before: object, case: Case
) -> None:
    target = picture_server if case.pictures else server
    process = psutil.Process(target.process.pid)
    used, began = processor_seconds(process), time.perf_counter()
    answer = client.post(target.url + case.path, content=case.body, headers=case.headers)
    assert time.perf_counter() - began < WALL_SECONDS
    assert processor_seconds(process) - used < PROCESSOR_SECONDS
    assert answer.status_code in case.statuses, answer.text
    error = answer.json()["error"]
    assert error
    assert "Traceback" not in error
    assert "/site-packages" not in error
    assert "/etc/passwd" not in error or "passwd" in case.path


def processor_seconds(process: psutil.Process) -> float:
    """What all threads of a process have used."""
    times = process.cpu_times()
    return float(times.user + times.system)


RAW = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "bad-method": b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad-version": b"POST /predict HTTP/9.9\r\nHost: x\r\n\r\n",
    "negative-length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
    "length-overflow": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "two-lengths": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    "smuggling": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "bad-chunk": b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nabc\r\n",
    "header-injection": b"POST /predict HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "huge-length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
def test_malformed_http_is_refused_and_the_connection_closed(server: RuntimeServer, name: str) -> None:
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=10) as connection:
        connection.sendall(RAW[name])
        answer = b""
        while part := connection.recv(4096):
            answer += part
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


def test_a_chunked_body_is_bounded_while_it_arrives(server: RuntimeServer) -> None:
    with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=20) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"
        try:
            for _ in range(200):
                connection.sendall(piece)
        except OSError:
            return  # refused while it was being sent
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_afterwards_everything_is_as_before(
    server: RuntimeServer, picture_server: RuntimeServer, before: list[Usage]
) -> None:
    assert httpx.post(f"{server.url}/predict", json={"features": [0.5] * FEATURES}).status_code == 200
    assert httpx.get(f"{picture_server.url}/health").status_code == 200
    for earlier in before:
        now = Usage.of(earlier.server)
        assert now.resident - earlier.resident < MAX_GROWTH
        assert now.files == earlier.files, "no request makes the server leave a file"
    assert not Path("/tmp/mlserve-escaped").exists()
    statistics = httpx.get(f"{server.url}/stats").json()
    assert statistics["inFlight"] == 0
    assert "internal" not in statistics["errorsByReason"]
