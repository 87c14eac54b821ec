"""The drift history from the operator to the screen, over HTTP as the operator serves it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result

from mlserve_cli.main import main
from mlserve_core.statistics.drift import DriftResult, DriftVerdict, FeatureDrift, Severity
from mlserve_operator.history import History, WindowRecord
from mlserve_operator.history_routes import history_routes

DAY = 86_400.0


def window(ago: float, verdict: DriftVerdict, effect: float | None = None) -> WindowRecord:
    drifted = verdict is DriftVerdict.DRIFT
    features = (FeatureDrift(name="age", effect=effect, threshold=0.1, drifted=drifted),) if effect is not None else ()
    severity = Severity.LOW if drifted else Severity.NONE
    result = DriftResult(verdict=verdict, severity=severity, window_end=time.time() - ago, rows=900, features=features)
    return WindowRecord("default", "fraud", "fraud-1", "sha256:1", result, {})


@pytest.fixture
async def operator() -> AsyncIterator[str]:
    history = History()
    history.record_window(window(9 * DAY, DriftVerdict.DRIFT, 0.9))
    history.record_window(window(600, DriftVerdict.DRIFT, 0.3))
    history.record_window(window(300, DriftVerdict.NO_DRIFT, 0.02))
    history.record_window(window(1, DriftVerdict.INSUFFICIENT_DATA))
    application = web.Application()
    application.add_routes([*history_routes(history), web.get("/else/api/drift", _page)])
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")
    history.close()


async def _page(_: web.Request) -> web.Response:
    return web.Response(text="<html>a page of somebody else</html>", content_type="text/html")


async def run(operator: str, *arguments: str) -> Result:
    command = ["drift", *arguments, "--operator-url", operator]
    return await asyncio.to_thread(CliRunner().invoke, main, command, catch_exceptions=False)


async def test_history_lists_windows_of_the_days_asked_for(operator: str) -> None:
    week = json.loads((await run(operator, "history", "fraud", "--output", "json")).stdout)
    assert [item["verdict"] for item in week] == ["InsufficientData", "NoDrift", "Drift"]
    month = json.loads((await run(operator, "history", "fraud", "--days", "30", "--output", "json")).stdout)
    assert len(month) == 4
    shown = await run(operator, "history", "fraud")
    assert "age 30.0 %" in shown.stdout


async def test_summary_counts_per_feature(operator: str) -> None:
    (found,) = json.loads((await run(operator, "summary", "fraud", "--output", "json")).stdout)
    assert (found["name"], found["windows"], found["drifted"], found["maxEffect"]) == ("age", 2, 1, 0.3)


async def test_nothing_found_is_no_failure(operator: str) -> None:
    result = await run(operator, "history", "nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing found.\n")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        pytest.param("{0}/else", "is not the operator: its answer is no JSON", id="another server"),
        pytest.param("{0}/nowhere", "the operator answered 404", id="another path"),
        pytest.param("localhost", "missing an 'http://' or 'https://' protocol", id="no URL"),
        pytest.param("http://[", "did not answer", id="not even an address"),
    ],
)
async def test_an_address_that_is_not_the_operators(operator: str, address: str, message: str) -> None:
    result = await run(address.format(operator), "history", "fraud")
    assert (result.exit_code, message in result.output) == (1, True), result.output
