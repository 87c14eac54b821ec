"""The drift history in few words."""

from __future__ import annotations

import html

import numpy as np
import pytest

from mlserve_cli.findings import accuracy_words, strongest, summarise
from mlserve_cli.report import drift_page, profile_page
from mlserve_core.statistics import build_profile


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


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        pytest.param(np.random.default_rng(0).normal(0, 1, 5000), "distribution of x", id="a shape"),
        pytest.param(np.random.default_rng(0).lognormal(0, 2, 5000), "distribution of x", id="a long tail"),
        pytest.param(np.arange(5000.0) % 7, "histogram of x", id="few values"),
        pytest.param(np.maximum(np.random.default_rng(0).normal(0, 1, 5000), 0), "histogram of x", id="many zeros"),
        pytest.param(np.ones(5000), "histogram of x", id="one value"),
        pytest.param(np.full(5000, np.nan), "histogram of x", id="none"),
    ],
)
def test_a_profile_is_drawn_so_that_its_shape_is_seen(values: np.ndarray, drawn: str) -> None:
    page = profile_page(build_profile({"x": values}))
    assert f'aria-label="{drawn}"' in page
    assert "nan" not in page


def test_a_page_says_how_many_features_it_leaves_out() -> None:
    page = profile_page(build_profile(np.zeros((10, 40))))
    assert "The first 30 of 40." in page


@pytest.mark.parametrize("name", ["$\\nosuch$", "a_$b$", "<b>&amp;", "zürich 東京 🙂", "x" * 300])
def test_names_are_drawn_as_they_are(name: str) -> None:
    random = np.random.default_rng(0)
    page = profile_page(build_profile({name: random.normal(0, 1, 500), "kind": [name] * 500}))
    assert html.escape(name).replace("&#x27;", "'") in page
    assert "<b>" not in page
