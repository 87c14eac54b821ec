"""The drift report as a person opens it: a file, no network, light and dark, every plot there to be seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from click.testing import CliRunner

from mlserve_cli.main import main
from mlserve_core.statistics import ProfileCounter, build_profile
from mlserve_core.statistics.drift import DriftSettings
from mlserve_core.statistics.windows import Window, advance
from mlserve_operator.history import DecisionRecord, History, WindowRecord
from mlserve_operator.history_routes import history_routes

HOSTILE = 'amount"><img src=x onerror=alert(1)>'
"""A feature may be called anything."""
SHIFTS = (0.0, 0.0, 0.0, 0.1, 0.4, 0.8, 1.0, 1.0)


def rows(random: np.random.Generator, n: int, shift: float = 0.0) -> dict[str, Any]:
    return {
        HOSTILE: random.gamma(2.0, 50.0, n) * (1 + shift),
        "age": random.normal(40, 12, n),
        "country": random.choice(["de", "fr", "pl"], n, p=[0.6 - 0.4 * shift, 0.3, 0.1 + 0.4 * shift]),
    }


def recorded(history: History) -> None:
    """Eight windows of a revision, the later ones drifted, and a rollout."""
    random, now, window = np.random.default_rng(3), time.time() - 3000, Window()
    reference = rows(random, 20_000)
    sure = random.beta(8, 2, 20_000)
    answers = np.column_stack([1 - sure, sure])
    profile = build_profile(reference, probabilities=answers, classes=["ok", "fraud"])
    history.record_profile(profile)
    for shift in SHIFTS:
        counter, seen = ProfileCounter(profile), rows(random, 2_000, shift)
        table = np.column_stack([np.array(column, dtype=object) for column in seen.values()])
        sure = random.beta(8, 2 + 3 * shift, 2_000)
        counter.update(table, probabilities=np.column_stack([1 - sure, sure]))
        opened, _ = advance(window, profile, DriftSettings(), now=now, seconds=300, pane=None)
        now += 300
        window, result = advance(opened, profile, DriftSettings(), now=now, seconds=300, pane=counter.counts())
        assert result is not None
        counts = counter.counts()
        bins = {name: feature.counts for name, feature in counts.features.items()}
        bins |= {"prediction": counts.predictions, "confidence": counts.confidence}
        history.record_window(WindowRecord("bank", "fraud", "fraud-1a2b", profile.digest(), result, bins))
    told = DecisionRecord(now, "bank", "fraud", "fraud-3c4d", "RolledBack", "DriftRollback", "predictions differ", 25)
    history.record_decision(told)


@pytest.fixture(scope="module")
def operator_url(tmp_path_factory) -> Iterator[str]:
    """The operator's history over its own routes."""
    folder, listening, stop = str(tmp_path_factory.mktemp("history")), threading.Event(), threading.Event()
    port: list[int] = []

    async def serve() -> None:
        history = History(folder)
        recorded(history)
        application = web.Application()
        application.add_routes(history_routes(history))
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.append(runner.addresses[0][1])
        listening.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()
        history.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(60)
    yield f"http://127.0.0.1:{port[0]}"
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def report(operator_url, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    asked = ["drift", "report", "fraud", "--html", str(path), "--namespace", "bank", "--operator-url", operator_url]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360], ids=["desk", "phone"])
def test_the_drift_report_reads_well_without_a_network(browser, report, tmp_path, width, dark):
    browser.complaints.clear()
    browser.call("Network.enable")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", **offline)
    try:
        browser.open(report.as_uri(), width, dark=dark)
    finally:
        browser.call("Network.emulateNetworkConditions", **offline | {"offline": False})
    boxes = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert len(boxes) == 2 * 5, "a histogram and a course of time for three features, predictions and confidence"
    assert min(min(box) for box in boxes) > 50
    bars = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => [...s.querySelectorAll('path')]"
        ".filter(p => p.getBoundingClientRect().height > 1).length)"
    )
    assert min(bars) > 3
    assert browser.evaluate("document.querySelectorAll('img, script').length") == 0
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth") is False
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    text = browser.evaluate("document.body.innerText")
    for told in ("Drift in the newest window", "DriftRollback", HOSTILE, "country"):
        assert told in text
    assert browser.complaints == []
    browser.screenshot(tmp_path / f"report-{width}.png")


def test_plots_are_read_out(browser, report):
    browser.open(report.as_uri())
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = {node["name"]["value"] for node in tree if node["role"]["value"] == "image"}
    assert {"histogram of country", "effect over time of country", f"histogram of {HOSTILE}"} <= images
