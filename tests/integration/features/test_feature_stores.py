"""Feature lookup against a real Redis server and a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from mlserve_core.model_spec import ModelSpec
from mlserve_runtime.errors import NotFoundError, UnavailableError
from mlserve_runtime.features import FeatureLookup, build_lookup

from ...unit.runtime.features.conftest import spec  # noqa: TID252 - tests are no installed package

__all__ = ["spec"]  # a fixture: used by its name

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="no redis-server on PATH; apt-get install redis-server")


@pytest.fixture
async def lookups(spec: ModelSpec) -> AsyncIterator[Callable[..., FeatureLookup]]:
    made: list[FeatureLookup] = []

    def build(url: str, **environment: str) -> FeatureLookup:
        lookup = build_lookup(
            spec, {"MLSERVE_FEATURES_URL": url, "MLSERVE_FEATURES_TIMEOUT_MILLIS": "3000"} | environment
        )
        assert lookup is not None
        made.append(lookup)
        return lookup

    yield build
    for lookup in made:
        await lookup.close()


class RedisServer:
    """A server on a free port that can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> redis.Redis:
        assert REDIS is not None
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory)]
        self._process = subprocess.Popen([REDIS, *arguments], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"eady to accept connections" in line:
                return redis.Redis(port=self.port)
        raise AssertionError("redis-server ended before it was ready")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    with contextlib.closing(server.start()) as client:
        client.hset("features:u1", mapping={"age": "30", "city": "Rome", "secret": "x"})
        client.set("user/u2", json.dumps({"age": 31, "city": "Bonn"}))
        client.set("user/bad", "no json")
        client.set("features:wrong", "a string, no hash")
    try:
        yield server
    finally:
        server.stop()


@needs_redis
class TestRedis:
    async def test_a_hash_per_entity(self, redis_server: RedisServer, lookups: Callable[..., FeatureLookup]) -> None:
        lookup = lookups(redis_server.url)
        assert await lookup("u1") == {"age": 30.0, "city": "Rome"}
        with pytest.raises(NotFoundError):
            await lookup("nobody")

    async def test_json_per_entity(self, redis_server: RedisServer, lookups: Callable[..., FeatureLookup]) -> None:
        lookup = lookups(f"{redis_server.url}?key=user/{{entity}}&type=json")
        assert await lookup("u2") == {"age": 31, "city": "Bonn"}
        with pytest.raises(UnavailableError):
            await lookup("bad")

    async def test_a_key_of_another_type_is_a_failure_and_no_crash(
        self, redis_server: RedisServer, lookups: Callable[..., FeatureLookup]
    ) -> None:
        with pytest.raises(UnavailableError):
            await lookups(redis_server.url)("wrong")

    async def test_a_crowd_asks_once(self, redis_server: RedisServer, lookups: Callable[..., FeatureLookup]) -> None:
        lookup = lookups(redis_server.url)
        answers = await asyncio.gather(*[lookup("u1") for _ in range(100)])
        assert answers == [{"age": 30.0, "city": "Rome"}] * 100
        with contextlib.closing(redis.Redis(port=redis_server.port)) as client:
            assert client.info("commandstats")["cmdstat_hgetall"]["calls"] == 1

    async def test_an_outage_is_covered_and_ends(
        self, redis_server: RedisServer, lookups: Callable[..., FeatureLookup]
    ) -> None:
        lookup = lookups(redis_server.url, MLSERVE_FEATURES_TTL_SECONDS="0")
        assert await lookup("u1") == {"age": 30.0, "city": "Rome"}
        redis_server.stop()
        assert await lookup("u1") == {"age": 30.0, "city": "Rome"}
        assert lookup.counts["stale"] == 1
        with pytest.raises(UnavailableError):
            await lookup("u3")
        with contextlib.closing(redis_server.start()) as client:
            client.hset("features:u3", mapping={"age": "40", "city": "Oslo"})
        assert await lookup("u3") == {"age": 40.0, "city": "Oslo"}


ANSWERS: dict[str, tuple[int, bytes]] = {
    "/entities/u1": (200, b'{"age": 30, "city": "Rome", "other": 1}'),
    "/entities/wrapped": (200, b'{"features": {"age": 30, "city": "Rome"}}'),
    "/entities/a%2Fb%3Fc": (200, b'{"age": 1, "city": "Bonn"}'),
    "/entities/broken": (500, b""),
    "/entities/moved": (302, b""),
    "/entities/page": (200, b"<html>"),
    "/entities/list": (200, b"[1, 2]"),
    "/entities/large": (200, b'{"age": 1, "x": "' + b"x" * 2_000_000 + b'"}'),
    "/entities/deep": (200, b"[" * 100_000),
}


@pytest.fixture
def http_store() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = ANSWERS.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/entities/{{entity}}"
    server.shutdown()
    thread.join()
    server.server_close()


class TestHttp:
    @pytest.mark.parametrize("entity", ["u1", "wrapped"])
    async def test_an_object(self, entity: str, http_store: str, lookups: Callable[..., FeatureLookup]) -> None:
        assert await lookups(http_store)(entity) == {"age": 30, "city": "Rome"}

    async def test_an_entity_is_data_and_no_path(self, http_store: str, lookups: Callable[..., FeatureLookup]) -> None:
        lookup = lookups(http_store)
        assert await lookup("a/b?c") == {"age": 1, "city": "Bonn"}
        with pytest.raises(NotFoundError):
            await lookup("../admin")

    @pytest.mark.parametrize(
        ("entity", "path"), [(".", "entities/{entity}/u1"), ("..", "x/{entity}/entities/u1")], ids=["here", "above"]
    )
    async def test_an_entity_leads_to_no_other_address(
        self, entity: str, path: str, http_store: str, lookups: Callable[..., FeatureLookup]
    ) -> None:
        """Of /x/../entities/u1, an HTTP client makes /entities/u1."""
        with pytest.raises(NotFoundError):
            await lookups(http_store.replace("entities/{entity}", path))(entity)

    @pytest.mark.parametrize("entity", ["broken", "moved", "page", "list", "large", "deep"])
    async def test_anything_else_is_a_failing_store(
        self, entity: str, http_store: str, lookups: Callable[..., FeatureLookup]
    ) -> None:
        with pytest.raises(UnavailableError):
            await lookups(http_store)(entity)

    async def test_nobody_listens(self, lookups: Callable[..., FeatureLookup]) -> None:
        with pytest.raises(UnavailableError):
            await lookups("http://127.0.0.1:1/{entity}")("u1")
