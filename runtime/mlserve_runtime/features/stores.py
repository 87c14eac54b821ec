"""Feature stores: Redis, HTTP, SQLite. Each is configured by one URL and read only.

redis://host:6379/0?key=features:{entity}              a hash per entity (HGETALL)
redis://host:6379/0?key=features:{entity}&type=json    a string with a JSON object
https://store/entities/{entity}/features               GET, a JSON object; 404 means unknown
sqlite:///var/lib/features.db?table=features&key=id    one row per entity
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from mlserve_runtime.features.lookup import StoreError

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlserve_runtime.features.cache import Features

PLACEHOLDER: Final = "{entity}"
_MAX_ANSWER: Final = 1024 * 1024


class ConfigurationError(ValueError):
    """The URL of a feature store cannot be used; the text says what would work."""


class Selection:
    """Takes the model's features out of what a store holds, and turns text into numbers where those are numbers."""

    def __init__(self, names: Collection[str], text: Collection[str] = ()) -> None:
        self._names = frozenset(names)
        self._text = frozenset(text)

    def __call__(self, found: Any) -> Features:
        """Features of a store's object; what the model does not know is left out. Raises StoreError."""
        if not isinstance(found, dict):
            raise StoreError("the store's answer is no object of features")
        return {name: self._value(name, value) for name, value in found.items() if name in self._names}

    def _value(self, name: str, value: Any) -> Any:
        if name in self._text:
            return value if isinstance(value, str | None) else str(value)
        if not isinstance(value, str):
            return value
        if not value:
            return None
        try:
            return float(value)
        except ValueError:
            raise StoreError(f"feature {name!r} is {value[:40]!r} in the store, which is no number") from None


class RedisStore:
    """A hash or a JSON string per entity."""

    def __init__(self, url: str, selection: Selection) -> None:
        import redis.asyncio

        parts = urlsplit(url)
        options = parse_qs(parts.query)
        self._key = options.pop("key", ["features:" + PLACEHOLDER])[0]
        self._kind = options.pop("type", ["hash"])[0]
        if PLACEHOLDER not in self._key:
            raise ConfigurationError(f"redis: key={self._key!r} must contain {PLACEHOLDER}")
        if self._kind not in {"hash", "json"}:
            raise ConfigurationError(f"redis: type={self._kind!r} must be hash or json")
        if options:
            raise ConfigurationError(f"redis: unknown option {', '.join(options)}; there are key and type")
        bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        self._client = redis.asyncio.from_url(bare, decode_responses=True)
        self._selection = selection

    async def get(self, entity: str) -> Features | None:
        """One HGETALL or GET."""
        key = self._key.replace(PLACEHOLDER, entity)
        if self._kind == "hash":
            found = await self._client.hgetall(key)
            return self._selection(found) if found else None
        text = await self._client.get(key)
        return None if text is None else self._selection(_json(text))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class HttpStore:
    """GET of a JSON object, the features themselves or under "features"."""

    def __init__(self, url: str, selection: Selection, token: str = "") -> None:
        import httpx

        if PLACEHOLDER not in urlsplit(url).path and PLACEHOLDER not in urlsplit(url).query:
            raise ConfigurationError(f"{url.partition('?')[0]}: the address must contain {PLACEHOLDER}")
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._url = url
        # The lookup bounds the whole question; a redirect could lead anywhere.
        self._client = httpx.AsyncClient(headers=headers, follow_redirects=False, timeout=None)  # noqa: S113
        self._selection = selection

    async def get(self, entity: str) -> Features | None:
        """One request; at most a megabyte is read."""
        if entity in {".", ".."}:  # no name in an address, but a way to another one: /entities/../features is /features
            return None
        url = self._url.replace(PLACEHOLDER, quote(entity, safe=""))
        async with self._client.stream("GET", url) as response:
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                raise StoreError(f"the store answered with status {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER:
                    raise StoreError(f"the store's answer has more than {_MAX_ANSWER} bytes")
        found = _json(bytes(body))
        if isinstance(found, dict) and isinstance(found.get("features"), dict):
            found = found["features"]
        return self._selection(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class SqliteStore:
    """A table with a row per entity, in a file opened read-only."""

    def __init__(self, url: str, selection: Selection) -> None:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        table, key = options.pop("table", ["features"])[0], options.pop("key", ["entity"])[0]
        if parts.netloc or not parts.path or options:
            raise ConfigurationError("sqlite: use sqlite:///absolute/path.db?table=features&key=entity")
        self._query = f"SELECT * FROM {_identifier(table)} WHERE {_identifier(key)} = ? LIMIT 1"  # noqa: S608  quoted
        self._uri = f"file:{quote(parts.path)}?mode=ro"
        self._selection = selection
        self._connection: sqlite3.Connection | None = None
        # sqlite3 blocks; one thread owns the connection.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="features")

    async def get(self, entity: str) -> Features | None:
        """One row by its key."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, entity)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _read(self, entity: str) -> Features | None:
        if self._connection is None:
            self._connection = sqlite3.connect(self._uri, uri=True)
            self._connection.row_factory = sqlite3.Row
        row = self._connection.execute(self._query, (entity,)).fetchone()
        return None if row is None else self._selection(dict(row))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError("the store's answer is no JSON") from error


def _identifier(name: str) -> str:
    quoted = name.replace('"', '""')
    return f'"{quoted}"'
