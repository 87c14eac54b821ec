"""The runtime's page in a real browser, at desk and phone width: it predicts rows and drawings, and fits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..page.conftest import browser  # noqa: TID252 - tests are no installed package
from .conftest import RuntimeServer
from .test_lifecycle import until

__all__ = ["browser"]

TEXT = "document.getElementById({!r}).textContent"


def text(tab: Any, name: str) -> str:
    return str(tab.evaluate(TEXT.format(name)))


@pytest.mark.parametrize("width", [1200, 390], ids=["desk", "phone"])
def test_a_row_is_predicted(browser: Any, server: RuntimeServer, width: int) -> None:
    browser.open(f"{server.url}/", width=width)
    until(lambda: text(browser, "name") == "tabular")
    assert "revision tabular-abc123" in text(browser, "version")
    until(lambda: text(browser, "state") == "ready")
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page runs over"
    assert json.loads(browser.evaluate("document.getElementById('row').value"))["features"]["x_0"] == 0
    browser.evaluate("document.getElementById('send-row').click()")
    until(lambda: "% sure" in text(browser, "answer"))
    assert text(browser, "curl").startswith(f"curl {server.url}/predict")
    browser.evaluate("document.getElementById('row').value = '{\"features\": [1]}'")
    browser.evaluate("document.getElementById('send-row').click()")
    until(lambda: "expected [-1, 30]" in text(browser, "answer"))
    until(lambda: int(text(browser, "requests").replace(",", "")) > 0)


def test_a_drawing_is_predicted(browser: Any, picture_server: RuntimeServer) -> None:
    browser.complaints.clear()
    browser.open(f"{picture_server.url}/", width=390)
    until(lambda: text(browser, "name") == "pictures")
    box = browser.evaluate("(r => [r.x, r.y, r.width])(document.getElementById('pad').getBoundingClientRect())")
    x, y, size = (float(value) for value in box)
    for kind, step in [("mousePressed", 0.3), ("mouseMoved", 0.5), ("mouseMoved", 0.7), ("mouseReleased", 0.7)]:
        place = {"x": x + size * step, "y": y + size * step}
        browser.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **place)
    drawn = "document.getElementById('pad').getContext('2d').getImageData(140, 140, 1, 1).data[0]"
    assert browser.evaluate(drawn) > 200, "the stroke did not reach the middle"
    browser.evaluate("document.getElementById('send-drawing').click()")
    until(lambda: "% sure" in text(browser, "answer"))
    assert "-F image=@picture.png" in text(browser, "curl")
    assert browser.complaints == []
