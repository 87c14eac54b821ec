"""URLs of stores, values from stores; SQLite for real."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mlserve_core.model_spec import ModelSpec
from mlserve_runtime.errors import NotFoundError, UnavailableError
from mlserve_runtime.features import build_lookup
from mlserve_runtime.features.lookup import StoreError
from mlserve_runtime.features.stores import ConfigurationError, Selection


@pytest.mark.parametrize(
    ("found", "features"),
    [
        pytest.param({"age": "30", "city": "Rome"}, {"age": 30.0, "city": "Rome"}, id="text"),
        pytest.param({"age": 30, "city": "Rome"}, {"age": 30, "city": "Rome"}, id="numbers"),
        pytest.param({"age": "", "city": None}, {"age": None, "city": None}, id="missing"),
        pytest.param({"age": 1, "city": 7}, {"age": 1, "city": "7"}, id="number as category"),
        pytest.param({"age": 1, "password": "x"}, {"age": 1}, id="only what the model has"),
    ],
)
def test_selection(found: Any, features: dict[str, Any]) -> None:
    assert Selection(["age", "city"], ["city"])(found) == features


@pytest.mark.parametrize(
    ("found", "message"), [({"age": "old"}, "'old' in the store"), ([1], "no object"), ("x", "no object")]
)
def test_what_is_no_features(found: Any, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Selection(["age"])(found)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"MLSERVE_FEATURES_URL": "mysql://x"}, "use redis://, https:// or sqlite://"),
        ({"MLSERVE_FEATURES_URL": "nonsense"}, "unknown scheme"),
        ({"MLSERVE_FEATURES_URL": "https://store/features"}, "must contain {entity}"),
        ({"MLSERVE_FEATURES_URL": "redis://h?key=features"}, "must contain {entity}"),
        ({"MLSERVE_FEATURES_URL": "redis://h?type=list"}, "hash or json"),
        ({"MLSERVE_FEATURES_URL": "redis://h?tipe=json"}, "unknown option tipe"),
        ({"MLSERVE_FEATURES_URL": "sqlite://relative.db"}, "sqlite:///absolute"),
        ({"MLSERVE_FEATURES_URL": "sqlite:///x.db", "MLSERVE_FEATURES_TTL_SECONDS": "soon"}, "must be a number"),
        ({"MLSERVE_FEATURES_URL": "sqlite:///x.db", "MLSERVE_FEATURES_STALE_SECONDS": "-1"}, "must be a number"),
        ({"MLSERVE_FEATURES_URL": "sqlite:///x.db", "MLSERVE_FEATURES_STALE_SECONDS": "nan"}, "must be a number"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_work_says_what_would(
    environment: dict[str, str], message: str, spec: ModelSpec
) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("{", r"\{")):
        build_lookup(spec, environment)


def test_without_a_url_there_is_no_lookup(spec: ModelSpec) -> None:
    assert build_lookup(spec, {}) is None


class TestSqlite:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Path:
        path = tmp_path / "features of users.db"
        connection = sqlite3.connect(path)
        connection.execute(
            'CREATE TABLE "user features" ("user id" TEXT PRIMARY KEY, age REAL, city TEXT, secret TEXT)'
        )
        connection.execute("INSERT INTO \"user features\" VALUES ('u1', 30, 'Rome', 'x'), ('u2', NULL, 'Bonn', 'y')")
        connection.commit()
        connection.close()
        return path

    def url(self, path: Path) -> dict[str, str]:
        return {"MLSERVE_FEATURES_URL": f"sqlite://{path}?table=user%20features&key=user%20id"}

    async def test_rows_become_features(self, database: Path, spec: ModelSpec) -> None:
        lookup = build_lookup(spec, self.url(database))
        assert lookup is not None
        assert await lookup("u1") == {"age": 30.0, "city": "Rome"}
        assert await lookup("u2") == {"age": None, "city": "Bonn"}
        with pytest.raises(NotFoundError):
            await lookup("u1' OR '1'='1")
        await lookup.close()

    async def test_a_missing_file_is_a_failing_store_and_is_not_created(self, tmp_path: Path, spec: ModelSpec) -> None:
        lookup = build_lookup(spec, self.url(tmp_path / "no.db"))
        assert lookup is not None
        with pytest.raises(UnavailableError):
            await lookup("u1")
        await lookup.close()
        assert not (tmp_path / "no.db").exists()
