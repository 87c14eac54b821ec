"""`POST /predict {"entity": ...}` against a server with a feature store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .conftest import FEATURES, RuntimeServer


@pytest.fixture(scope="module")
def with_store(tabular: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    scratch = tmp_path_factory.mktemp("store")
    columns = [f"x_{index}" for index in range(FEATURES)]
    connection = sqlite3.connect(scratch / "features.db")
    connection.execute(
        f"CREATE TABLE features (entity TEXT PRIMARY KEY, {', '.join(f'{name} REAL' for name in columns)})"
    )
    marks = ", ".join("?" * (FEATURES + 1))
    connection.execute(f"INSERT INTO features VALUES ({marks})", ["u1", *range(FEATURES)])
    connection.execute(f"INSERT INTO features VALUES ({marks})", ["partial", None, *range(FEATURES - 1)])
    connection.commit()
    connection.close()
    running = RuntimeServer(tabular, scratch, MLSERVE_FEATURES_URL=f"sqlite://{scratch}/features.db")
    try:
        yield running.wait_ready()
    finally:
        running.stop()


def ask(server: RuntimeServer, entity: object) -> httpx.Response:
    return httpx.post(f"{server.url}/predict", json={"entity": entity})


def test_an_entity_gets_the_answer_of_its_features(with_store: RuntimeServer) -> None:
    by_entity = ask(with_store, "u1").raise_for_status().json()
    by_features = httpx.post(f"{with_store.url}/predict", json={"features": list(range(FEATURES))}).json()
    assert by_entity["label"] == by_features["label"]
    assert by_entity["confidence"] == pytest.approx(by_features["confidence"])


@pytest.mark.parametrize(
    ("entity", "status", "message"),
    [
        pytest.param("nobody", 404, "'nobody'", id="unknown"),
        pytest.param("partial", 400, "'x_0' is missing", id="missing value"),
        pytest.param(7, 400, "entity must be a string", id="number"),
        pytest.param("", 400, "entity must be a string", id="empty"),
    ],
)
def test_what_cannot_be_answered(entity: object, status: int, message: str, with_store: RuntimeServer) -> None:
    answer = ask(with_store, entity)
    assert answer.status_code == status
    assert message in answer.json()["error"]


def test_lookups_are_counted(with_store: RuntimeServer) -> None:
    for _ in range(2):
        ask(with_store, "u1")
    metrics = httpx.get(f"{with_store.management}/metrics").text
    assert 'mlserve_feature_cache_requests_total{result="hit"}' in metrics
    hits = next(
        line for line in metrics.splitlines() if line.startswith('mlserve_feature_cache_requests_total{result="hit"}')
    )
    assert float(hits.split()[-1]) >= 1


def test_a_store_that_cannot_be_is_said_at_start(tabular: Path, tmp_path: Path) -> None:
    running = RuntimeServer(tabular, tmp_path, MLSERVE_FEATURES_URL="mysql://host")
    try:
        assert running.process.wait(30) == 1
        message = running.termination_log.read_text()
        assert message.startswith("ModelLoadFailed: MLSERVE_FEATURES_URL")
        assert "redis://" in message
    finally:
        running.stop()
