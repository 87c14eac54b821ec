"""The operator's page in a real browser: nothing is blocked, nothing runs over on a phone, both colour schemes read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlserve_operator import page

CASES = Path(__file__).resolve().parents[3] / "deploy" / "gitops" / "argocd" / "testdata"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG = "digits-with-a-name-as-long-as-it-may-become-45"


def models() -> list[dict[str, Any]]:
    found = []
    for path in sorted(CASES.iterdir()):
        resource = yaml.safe_load(path.read_text())
        resource["metadata"]["name"] = f"digits-{path.stem}"
        found.append(resource)
    canary = next(item for item in found if item["metadata"]["name"] == "digits-canary")
    canary["metadata"]["name"] = LONG
    checks = [
        {"name": "errors", "verdict": "Successful", "evidence": "0.02 of 1", "message": "1 of 412 against 3 of 1290"},
        {
            "name": "latency",
            "verdict": "Inconclusive",
            "evidence": "0.31 of 1",
            "message": "22 of 412 slower than 13 ms",
        },
        {"name": "predictions", "verdict": "Failed", "evidence": "1.7 of 1", "message": "total variation 0.41"},
    ]
    analysis = {"verdict": "Inconclusive", "looks": 9, "requests": {"canary": 412, "stable": 1290}, "checks": checks}
    canary["status"]["canary"]["analysis"] = analysis
    canary["status"]["drift"] = {
        "verdict": "Drift",
        "severity": "medium",
        "rows": 4200,
        "window": "11:50 to 11:55",
        "features": [
            {"name": "mean_intensity", "effectPercent": "34.1", "severity": "high"},
            {"name": "stroke_width", "effectPercent": "12.0", "severity": "low"},
        ],
    }
    return found


DECISIONS = [
    {"time": 1772366280.0, "revision": "digits-58fd4b", "decision": "StepStarted", "weight": 25},
    {"time": 1772365200.0, "revision": "digits-11aa22", "decision": "RolledBack", "reason": "AnalysisFailed",
     "weight": 5, "canaryRequests": 204, "stableRequests": 3120, "message": "31 of 204 requests failed"},
    {"time": 1772359200.0, "revision": "digits-7c9d5f", "decision": "Promoted", "weight": 100},
]  # fmt: skip
STRONGEST = {"name": "mean_intensity", "effect": 0.03}
WINDOWS = [{"time": 1772365500.0, "verdict": "NoDrift", "rows": 3900, "features": [STRONGEST]}]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        resources = {f"/namespaces/vision/modeldeployments/{m['metadata']['name']}": m for m in models()}
        if self.path == "/":
            self._answer(page.overview(resources.values(), NOW, "0.1.0"), "text/html; charset=utf-8")
        elif self.path == page.PATH_STYLE:
            self._answer(page.stylesheet(), "text/css")
        elif self.path in resources:
            text = page.detail(resources[self.path], DECISIONS, WINDOWS, NOW, "0.1.0")
            self._answer(text, "text/html; charset=utf-8")
        else:
            self.send_error(404)

    def _answer(self, text: str, kind: str) -> None:
        self.send_response(200)
        for name, value in {**page.HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


PATHS = {"overview": "/", "detail": f"/namespaces/vision/modeldeployments/{LONG}"}
WIDER_THAN_WINDOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
TOO_SMALL = (
    "[...document.querySelectorAll('main *')].filter(e => e.children.length == 0 && e.textContent.trim() && "
    "parseFloat(getComputedStyle(e).fontSize) < 13).length"
)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360], ids=["desk", "phone"])
@pytest.mark.parametrize("name", PATHS)
def test_page_reads_well(browser, site, tmp_path, name, width, dark):
    browser.complaints.clear()
    browser.open(site + PATHS[name], width, dark=dark)
    assert browser.evaluate(WIDER_THAN_WINDOW) is False
    assert browser.evaluate(TOO_SMALL) == 0
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    assert browser.complaints == []
    browser.screenshot(tmp_path / f"{name}-{width}.png")


def test_a_person_finds_the_way_from_the_list_to_the_evidence_and_back(browser, site):
    browser.open(site)
    link = browser.evaluate(f"[...document.links].find(a => a.textContent == '{LONG}').href")
    browser.open(link)
    assert browser.evaluate("document.querySelector('h1').firstChild.textContent.trim()") == LONG
    evidence = browser.evaluate("document.querySelector('[aria-labelledby=evidence]').innerText")
    assert "412 requests of the canary against 1290 of stable" in evidence
    assert "total variation 0.41" in evidence
    back = browser.evaluate("[...document.links].find(a => a.textContent == 'All models').href")
    browser.open(back)
    assert browser.evaluate("document.querySelectorAll('tbody tr').length") == len(models())


def test_status_and_weights_are_read_out(browser, site):
    browser.open(site + PATHS["detail"])
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    spoken = {(node["role"]["value"], node["name"]["value"]) for node in tree if node.get("name", {}).get("value")}
    assert ("image", "stable 75 percent, canary 25 percent") in spoken
    headings = {name for role, name in spoken if role == "heading"}
    assert {"Revisions", "Evidence", "Rollout timeline", "Drift", "Conditions"} <= headings
