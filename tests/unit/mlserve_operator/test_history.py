"""The record of decisions and windows: bounded, kept over restarts, and asked for over HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mlserve_core.statistics.build import build_profile
from mlserve_core.statistics.drift import DriftResult, DriftVerdict, FeatureDrift
from mlserve_operator.history import DecisionRecord, History, WindowRecord
from mlserve_operator.history_routes import history_routes

DAY = 86_400.0
NOW = 100 * DAY


def decision(time: float, name: str = "digits", **more: object) -> DecisionRecord:
    return DecisionRecord(time, "default", name, "digits-2", "Rollback", "AnalysisFailed", "errors", **more)


def window(end: float, digest: str = "sha256:1") -> WindowRecord:
    result = DriftResult(verdict=DriftVerdict.DRIFT, window_start=end - 300, window_end=end, rows=900)
    return WindowRecord("default", "digits", "digits-1", digest, result, {"amount": [1, 2, 3]})


def test_newest_first_and_only_what_was_asked_for() -> None:
    history = History()
    for time in (NOW - 9 * DAY, NOW - 2, NOW - 1):
        history.record_decision(decision(time, weight=25, canary_requests=40))
    history.record_decision(decision(NOW, name="other"))
    found = history.decisions("default", "digits", NOW - 7 * DAY)
    assert [item["time"] for item in found] == [NOW - 1, NOW - 2]
    assert (found[0]["weight"], found[0]["canaryRequests"], found[0]["reason"]) == (25, 40, "AnalysisFailed")


def test_a_window_is_kept_once_with_its_counts() -> None:
    history = History()
    history.record_window(window(NOW))
    history.record_window(window(NOW))
    (found,) = history.windows("default", "digits", 0)
    assert (found["verdict"], found["rows"], found["counts"]) == ("Drift", 900, {"amount": [1, 2, 3]})


def test_it_outlives_the_process(tmp_path) -> None:
    first = History(str(tmp_path / "data"))
    first.record_decision(decision(NOW))
    first.close()
    second = History(str(tmp_path / "data"))
    assert len(second.decisions("default", "digits", 0)) == 1
    second.close()


def test_age_and_number_are_bounded() -> None:
    history = History(retention_days=30, max_rows=10)
    profile = build_profile({"amount": [1.0, 2.0, 3.0]})
    history.record_profile(profile)
    history.record_window(window(NOW - 40 * DAY, profile.digest()))
    for second in range(50):
        history.record_decision(decision(NOW + second))
    history.prune(NOW + 50)
    assert dict(history.tables()) == {"decisions": 10, "windows": 0, "profiles": 0}
    assert history.profile(profile.digest()) is None


def test_size_is_bounded_and_the_oldest_windows_go_first() -> None:
    history = History(max_bytes=300_000)
    for second in range(100):
        record = window(NOW + second)
        history.record_window(replace(record, counts={f"f{i}": list(range(32)) for i in range(100)}))
    history.prune(NOW + 100)
    kept = [item["time"] for item in history.windows("default", "digits", 0)]
    assert kept == [NOW + 99 - i for i in range(len(kept))]
    assert 10 < len(kept) < 40


def test_a_full_disk_stops_the_record_and_nothing_else(tmp_path, caplog) -> None:
    history = History(str(tmp_path))
    history.record_decision(decision(NOW))
    history._database.execute("PRAGMA max_page_count=1")  # what a full volume looks like to SQLite
    for second in range(200):
        history.record_decision(decision(NOW + second))
        history.record_window(window(NOW + second))
    assert "database or disk is full" in caplog.text
    assert history.decisions("default", "digits", 0), "what was written before is read as ever"
    history.close()


def test_a_broken_file_is_put_aside_with_a_word(tmp_path, caplog) -> None:
    (tmp_path / "history.sqlite3").write_text("this is no database, " * 1000)
    history = History(str(tmp_path))
    history.record_decision(decision(NOW))
    assert len(history.decisions("default", "digits", 0)) == 1
    assert "is no sound database" in caplog.text
    assert (tmp_path / "history.broken").read_text().startswith("this is no database")
    history.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/api/rollouts?name=digits", 200, id="default days and namespace"),
        pytest.param("/api/rollouts?name=digits&days=0", 400, id="no days"),
        pytest.param("/api/rollouts?name=digits&days=many", 400, id="days that are no number"),
        pytest.param("/api/drift?days=3", 400, id="no name"),
        pytest.param("/api/profiles/sha256:none", 404, id="profile that is not kept"),
    ],
)
async def test_routes(path: str, status: int) -> None:
    history = History()
    history.record_decision(decision(NOW))
    application = web.Application()
    application.add_routes(history_routes(history, clock=lambda: NOW))
    async with TestClient(TestServer(application)) as client:
        answer = await client.get(path)
        assert answer.status == status
        if status == 200:
            assert [item["revision"] for item in (await answer.json())["items"]] == ["digits-2"]


async def test_windows_come_as_they_are_read_and_counts_with_the_newest_that_can_be_drawn() -> None:
    history = History()
    found = (FeatureDrift(name="amount", effect=0.2, threshold=0.1),)
    for second in range(200):
        record = window(NOW - 300 * second)
        result = record.result.model_copy(update={"features": found if second else ()})
        history.record_window(replace(record, result=result, counts={"amount": list(range(1000))}))
    application = web.Application()
    application.add_routes(history_routes(history, clock=lambda: NOW))
    async with TestClient(TestServer(application)) as client:
        answer = await client.get("/api/drift?name=digits")
        assert answer.content_length is None, "in chunks: the operator never holds them all"
        items = (await answer.json())["items"]
        empty = await (await client.get("/api/drift?name=nobody")).json()
    assert [item["time"] for item in items] == [NOW - 300 * second for second in range(200)]
    assert [second for second, item in enumerate(items) if item["counts"]] == [0, 1]
    assert empty == {"items": []}
    assert [item["time"] for item in history.windows("default", "digits", 0, most=2)] == [NOW, NOW - 300]
    assert len(history.decisions("default", "digits", 0, most=0)) == 0
