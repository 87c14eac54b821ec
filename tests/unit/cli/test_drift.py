"""A policy tried on logged rows from files, through the command as a user types it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mlserve_cli.main import main

HEADER = ["amount", "country", "prediction", "latency_ms", "status", "timestamp"]


def log(path: Path, rows: int, seed: int, *, errors: float = 0.0, shift: float = 0.0, inverted: bool = False) -> str:
    """Rows of a fraud model as a log: one request a second."""
    random = np.random.default_rng(seed)
    amounts = random.gamma(2.0, 50.0, rows) * (1 + shift)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for second, amount in enumerate(amounts):
            country = random.choice(["de", "fr", "pl"], p=[0.6, 0.3, 0.1])
            answer = "fraud" if (amount > 150) != inverted else "ok"
            status = 500 if random.random() < errors else 200
            stamp = f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}+00:00"
            writer.writerow([f"{amount:.3f}", country, answer, f"{random.gamma(4, 2):.2f}", status, stamp])
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("logs")
    made = run("profile", "build", "--data", log(path / "reference.csv", 20_000, 1), "--output", str(path / "p.json"))
    assert made.exit_code == 0, made.output
    assert "2 features" in made.output
    return path


@pytest.mark.parametrize(
    ("canary", "decision"),
    [
        pytest.param({}, "Promote", id="alike"),
        pytest.param({"errors": 0.2}, "Rollback", id="a fifth of requests fails"),
        pytest.param({"inverted": True}, "Rollback", id="classes swapped"),
        pytest.param({"shift": 1.0}, "Pause", id="the canary was sent other inputs"),
    ],
)
def test_replay(folder: Path, canary: dict[str, object], decision: str) -> None:
    stable = log(folder / "stable.csv", 6_000, 2)
    new = log(folder / "canary.csv", 3_000, 3, **canary)
    page = folder / "report.html"
    profile = str(folder / "p.json")
    result = run(
        "drift", "replay", "--profile", profile, "--stable", stable, "--canary", new, "--json", "--html", str(page)
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["decision"] == decision, found["reason"]
    assert found["requests"] == {"stable": 6_000, "canary": 3_000}
    assert {"logE", "threshold"} == set(found["looks"][-1]["checks"][0]["worse"]), "one spelling throughout"
    text = page.read_text()
    assert found["decision"] in text
    assert "effects of the features" in text
    assert "evidence against the canary" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("shift", "decision", "verdict"),
    [pytest.param(0.0, "Hold", "NoDrift", id="clean"), pytest.param(0.5, "Alert", "Drift", id="shifted")],
)
def test_check(folder: Path, shift: float, decision: str, verdict: str) -> None:
    data = log(folder / "today.csv", 5_000, 4, shift=shift)
    result = run("drift", "check", "--profile", str(folder / "p.json"), "--data", data, "--json")
    found = json.loads(result.output)
    assert (found["decision"], found["drift"]["verdict"]) == (decision, verdict)


def test_one_file_with_both_arms(folder: Path) -> None:
    rows = [
        [*line.split(","), arm]
        for arm, seed in (("stable", 5), ("canary", 6))
        for line in Path(log(folder / f"{arm}.csv", 1_500, seed)).read_text().splitlines()[1:]
    ]
    both = folder / "both.csv"
    with both.open("w", newline="") as stream:
        csv.writer(stream).writerows([[*HEADER, "arm"], *rows])
    profile = str(folder / "p.json")
    result = run("drift", "replay", "--profile", profile, "--stable", str(both), "--arm-column", "arm", "--json")
    assert json.loads(result.output)["requests"] == {"stable": 1_500, "canary": 1_500}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--stable", "reference.csv"], "give the rows of the new version", id="no canary"),
        pytest.param(["--stable", "nowhere.csv", "--canary", "nowhere.csv"], "is not a file", id="no file"),
        pytest.param(["--stable", "p.json", "--canary", "p.json"], "names a column twice", id="not a table"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, monkeypatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(folder)
    result = run("drift", "replay", "--profile", "p.json", *arguments)
    assert result.exit_code == 1
    assert re.search(message, result.output), result.output


def test_too_small_a_reference_is_said_at_build(tmp_path) -> None:
    data = log(tmp_path / "few.csv", 100, 7)
    result = run("profile", "build", "--data", data, "--output", str(tmp_path / "p.json"))
    assert "too few to decide by" in result.output
    shown = run("profile", "show", str(tmp_path / "p.json"), "--html", str(tmp_path / "p.html"))
    assert shown.exit_code == 0
    assert "<svg" in (tmp_path / "p.html").read_text()


def test_show_tells_what_was_predicted_and_how_much_of_it_was_right(folder: Path, tmp_path: Path) -> None:
    shown = run("profile", "show", str(folder / "p.json"))
    assert re.search(r"predictions: ok \d+, fraud \d+$", shown.output, re.MULTILINE), shown.output
    data, made = tmp_path / "labelled.csv", str(tmp_path / "p.json")
    data.write_text("x,prediction,score,label\n" + "1,ok,0.9,ok\n2,ok,0.8,no\n" * 50)
    assert run("profile", "build", "--data", str(data), "--output", made).exit_code == 0
    assert "predictions: ok 100, no 0; 50.0 % right" in run("profile", "show", made).output
    data.write_text("x,prediction\n" + "1,0.5\n2,1.5\n" * 50)
    assert run("profile", "build", "--data", str(data), "--output", made).exit_code == 0
    assert "predictions: numbers in 4 bins, from 0.5 to 1.5" in run("profile", "show", made).output
