"""`/docs` in a real browser: Swagger UI with the prediction routes, and not one file from anywhere else."""

from __future__ import annotations

import re
from typing import Any

import httpx

from ..page.conftest import browser  # noqa: TID252 - tests are no installed package
from .conftest import RuntimeServer
from .test_lifecycle import until

__all__ = ["browser"]

LOADED = "performance.getEntriesByType('resource').map(entry => entry.name)"
SUMMARIES = (
    "[...document.querySelectorAll('.opblock-summary-path')].map(node => node.innerText.replaceAll('\\u200b', ''))"
)


def test_the_documentation_needs_nobody_else(browser: Any, server: RuntimeServer) -> None:
    browser.complaints.clear()
    browser.open(f"{server.url}/docs")
    until(lambda: "/predict" in browser.evaluate(SUMMARIES))
    shown = browser.evaluate(SUMMARIES)
    assert set(httpx.get(f"{server.url}/openapi.json").json()["paths"]) == set(shown)
    loaded = browser.evaluate(LOADED)
    assert any(name.endswith(".js") for name in loaded)
    assert [name for name in loaded if not name.startswith((server.url, "data:"))] == []
    assert browser.complaints == []


def test_no_page_names_another_host(server: RuntimeServer) -> None:
    for path in ("/docs", "/"):
        page = httpx.get(server.url + path, headers={"accept": "text/html"}).raise_for_status().text
        assert re.findall(r"(?:src|href)=[\"'](?:https?:)?//[^\"']*", page) == []
