"""The page says what the status says, whatever users put into names and messages, and survives what it cannot read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlserve_operator import page

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CASES = Path(__file__).resolve().parents[3] / "deploy" / "gitops" / "argocd" / "testdata"
RESOURCES: dict[str, dict[str, Any]] = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CASES.iterdir())}


class Outline(HTMLParser):
    """What a screen reader meets: headings, links, tables' headers; and whether tags are balanced."""

    VOID = frozenset({"meta", "link", "br", "rect", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag]


def named(resource: dict[str, Any], name: str) -> dict[str, Any]:
    return {**resource, "metadata": {**resource["metadata"], "name": name}}


def detail(resource: dict[str, Any], decisions: Any = (), windows: Any = ()) -> str:
    return page.detail(resource, decisions, windows, NOW, "1.2.3")


PAGES = {
    "overview": lambda: page.overview(RESOURCES.values(), NOW),
    "empty overview": lambda: page.overview([], NOW),
    "not found": lambda: page.not_found("vision", "digits", NOW),
    **{f"detail of {name}": (lambda name=name: detail(RESOURCES[name])) for name in RESOURCES},
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_well_formed_and_load_nothing_from_elsewhere(name):
    text = PAGES[name]()
    outline = Outline(text)
    assert outline.open == []
    assert outline.attributes("html") == [{"lang": "en"}]
    assert outline.attributes("main") == [{"id": "content"}]
    assert len(outline.attributes("h1")) == 1
    assert not outline.attributes("script")
    assert all(header.get("scope") in {"col", "row"} for header in outline.attributes("th"))
    assert "style=" not in text
    sources = [found.get("src") or found.get("href") or "" for _, found in outline.tags]
    assert not [source for source in sources if "://" in source]


def test_the_ones_that_need_a_person_come_first():
    names = ["healthy", "canary", "rolledback", "paused"]
    text = page.overview([named(RESOURCES[name], name) for name in names], NOW)
    order = re.findall(r"/modeldeployments/(\w+)\"", text)
    assert order == ["rolledback", "paused", "canary", "healthy"]


def test_weights_are_drawn_side_by_side_and_said_in_words():
    text = detail(RESOURCES["canary"])
    assert 'aria-label="stable 75 percent, canary 25 percent"' in text
    rects = [(found["class"], found["x"], found["width"]) for found in Outline(text).attributes("rect")]
    assert rects == [("stable", "0", "75"), ("canary", "75", "25")]


def test_a_rollback_shows_its_reason_and_its_evidence():
    row = {
        "time": NOW.timestamp() - 60,
        "revision": "digits-58fd4b",
        "decision": "RolledBack",
        "reason": "AnalysisFailed",
        "weight": 25,
        "canaryRequests": 204,
        "stableRequests": 812,
        "message": "31 of 204 requests failed",
    }
    text = detail(RESOURCES["rolledback"], [row])
    assert "31 of 204 requests failed, 2 of 812 on stable" in text
    assert "canary / stable requests: 204 / 812" in text
    assert '<span class="badge bad">RolledBack</span>' in text


@pytest.mark.parametrize("field", ["name", "message", "revision"])
def test_what_users_write_is_never_markup(field):
    attack = '"><script>alert(1)</script>'
    resource = RESOURCES["rolledback"]
    if field == "name":
        resource = named(resource, attack)
    status = {**resource["status"], "rejected": [{"revision": attack, "reason": "x", "message": attack, "at": "now"}]}
    text = detail({**resource, "status": status}, [{"message": attack, "decision": attack, "revision": attack}])
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_status_of_another_version_leaves_gaps_and_no_error():
    status = {"phase": "Teleporting", "replicas": "many", "url": "http://digits", "conditions": None, "news": 1}
    text = detail({**RESOURCES["healthy"], "status": status})
    assert "http://digits" in text
    assert "Pending" in text


def test_drift_windows_show_effect_and_verdict():
    strongest = {"name": "amount", "effect": 0.42}
    window = {"time": 0.0, "verdict": "Drift", "severity": "high", "rows": 900, "features": [strongest]}
    text = detail(RESOURCES["healthy"], windows=[window])
    assert "1 earlier verdict<" in text
    assert '<span class="badge bad">Drift</span>' in text
    assert "42 %" in text
    assert "1970-01-01 00:00:00" in text


def test_headers_forbid_scripts_and_frames():
    policy = page.HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_by_everyone(scheme):
    block = re.findall(r":root \{(.*?)\}", page.stylesheet(), flags=re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [
        ("text", "back"),
        ("soft", "back"),
        ("link", "back"),
        ("text", "card"),
        ("soft", "card"),
        ("text", "none-back"),
    ]
    pairs += [(tone, f"{tone}-back") for tone in ("good", "bad", "held", "busy")]
    weak = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}
