"""The drift history in few words."""

from __future__ import annotations

import pytest

from mlserve_cli.findings import accuracy_words, strongest, summarise
from mlserve_cli.report import drift_page


def window(end: float, **effects: float) -> dict[str, object]:
    features = [
        {"name": name, "effect": effect, "threshold": 0.1, "severity": "low", "drifted": effect >= 0.1}
        for name, effect in effects.items()
    ]
    verdict = "Drift" if any(item["drifted"] for item in features) else "NoDrift" if features else "InsufficientData"
    return {
        "windowEnd": end, "revision": "m-1", "verdict": verdict, "severity": "none", "rows": 1000,
        "features": features, "profileDigest": "sha256:1", "message": "",
    }  # fmt: skip


def test_summary_of_windows_newest_first() -> None:
    found = summarise([window(180, age=0.02), window(120, age=0.3), window(60, age=0.2, city=0.05), window(0)])
    assert [(item["name"], item["windows"], item["drifted"]) for item in found] == [("age", 3, 2), ("city", 1, 0)]
    assert found[0]["maxEffect"] == 0.3
    assert (found[0]["lastDrift"], found[1]["lastDrift"]) == ("1970-01-01 00:02:00", "")


def test_the_three_strongest_of_a_window() -> None:
    assert strongest(window(0, a=0.1, b=0.4, c=0.2, d=0.3)["features"]) == "b 40.0 %, d 30.0 %, c 20.0 %"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ""),
        ({"referenceAccuracy": 0.9}, ""),
        ({"accuracy": 0.7, "labelled": 20, "referenceAccuracy": 0.9}, "70.0 % of 20 labels; 90.0 % in the reference"),
        ({"estimatedAccuracy": 0.8}, "80.0 % estimated from the scores"),
    ],
    ids=["nothing", "a reference alone", "labels", "scores"],
)
def test_accuracy_in_words(told: dict[str, float], words: str) -> None:
    assert accuracy_words(told) == words


def test_the_report_shows_the_newest_window_that_could_tell() -> None:
    page = drift_page("m", [window(120), window(60, age=0.3)], [], None)
    assert "InsufficientData in the newest window" in page
    assert "effect over time of age" in page
    assert "until 1970-01-01 00:01:00" in page
