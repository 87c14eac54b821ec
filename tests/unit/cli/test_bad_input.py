"""Whatever files the drift commands are given: a clear message or a verdict, never a traceback, in bounded time."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mlserve_cli.main import main

ROWS = 3_000


def columns(seed: int = 0) -> dict[str, Sequence[object]]:
    random = np.random.default_rng(seed)
    return {
        "amount": random.gamma(2.0, 50.0, ROWS).round(3).tolist(),
        "age": random.integers(18, 90, ROWS).tolist(),
        "country": random.choice(["de", "fr", "pl"], ROWS).tolist(),
    }


def write(path: Path, table: dict[str, Sequence[object]]) -> str:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bad")
    made = run(
        "profile", "build", "--data", write(path / "good.csv", columns()), "--output", str(path / "profile.json")
    )
    assert (made.exit_code, "warning: " in made.output) == (0, False), made.output
    return path


def stamped(seconds: Sequence[int]) -> list[str]:
    return [str(1_767_225_600 + second) for second in seconds]


def profile_of_another_schema(folder: Path) -> str:
    document = json.loads((folder / "profile.json").read_text()) | {"schemaVersion": 9}
    (folder / "newer.json").write_text(json.dumps(document))
    return str(folder / "newer.json")


def profile_of_another_model(folder: Path) -> str:
    data = write(folder / "other.csv", {"pixel_0": columns()["amount"], "pixel_1": columns()["age"]})
    assert run("profile", "build", "--data", data, "--output", str(folder / "other.json")).exit_code == 0
    return str(folder / "other.json")


def inconsistent_profile(folder: Path) -> str:
    document = json.loads((folder / "profile.json").read_text())
    document["features"][0]["counts"].pop()
    (folder / "inconsistent.json").write_text(json.dumps(document))
    return str(folder / "inconsistent.json")


@pytest.mark.parametrize("command", ["check", "replay"])
@pytest.mark.parametrize(
    ("profile", "message"),
    [
        pytest.param(profile_of_another_model, "has no column pixel_0, pixel_1; it has amount", id="another model"),
        pytest.param(profile_of_another_schema, "schema version 9, this release reads version 1", id="schema version"),
        pytest.param(inconsistent_profile, "features.0.numeric: Value error, feature 'amount'", id="inconsistent"),
        pytest.param(lambda f: str(f / "good.csv"), "it is no JSON", id="no profile"),
        pytest.param(lambda f: str(f / "none.json"), "cannot be read: No such file", id="no file"),
    ],
)
def test_a_profile_that_cannot_be_used(folder: Path, command: str, profile, message: str) -> None:
    data = str(folder / "good.csv")
    rows = ["--data", data] if command == "check" else ["--stable", data, "--canary", data]
    result = run("drift", command, "--profile", profile(folder), *rows)
    assert (result.exit_code, message in result.output) == (1, True), result.output
    assert "pydantic" not in result.output


REFUSED = {
    "feature missing": (
        {k: v for k, v in columns().items() if k != "age"},
        "has no column age; it has amount, country",
    ),
    "feature renamed": (
        {k.replace("age", "Age"): v for k, v in columns().items()},
        "has no column age; it has amount, Age",
    ),
    "header without rows": ({k: [] for k in columns()}, "has no rows"),
    "empty file": ({}, "has no rows"),
    "clock in words": (
        {**columns(), "timestamp": ["yesterday"] * ROWS},
        "neither ISO 8601 nor seconds since the epoch",
    ),
}


@pytest.mark.parametrize("command", ["check", "replay"])
@pytest.mark.parametrize("name", list(REFUSED))
def test_rows_that_cannot_be_used(folder: Path, tmp_path: Path, command: str, name: str) -> None:
    table, message = REFUSED[name]
    data = write(tmp_path / "bad.csv", table)
    rows = ["--data", data] if command == "check" else ["--stable", data, "--canary", data]
    result = run("drift", command, "--profile", str(folder / "profile.json"), *rows)
    assert (result.exit_code, message in result.output) == (1, True), result.output


ODD = {
    "constant feature": {"amount": [1.5] * ROWS},
    "all-missing column": {"amount": [""] * ROWS},
    "strings where numbers belong": {"amount": ["n/a"] * ROWS},
    "not finite": {"amount": ["nan", "inf", "-inf"] * (ROWS // 3)},
    "numbers beyond every range": {"amount": ["1e400", "-1e39", "1e308"] * (ROWS // 3)},
    "only new categories": {"country": [f"user-{i}" for i in range(ROWS)]},
}


@pytest.mark.parametrize("name", list(ODD))
def test_odd_columns_are_drift_of_that_column(folder: Path, tmp_path: Path, name: str) -> None:
    data = write(tmp_path / "odd.csv", {**columns(1), **ODD[name]})
    result = run("drift", "check", "--profile", str(folder / "profile.json"), "--data", data, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    drifted = [item["name"] for item in found["drift"]["features"] if item["drifted"]]
    assert (found["decision"], drifted) == ("Alert", list(ODD[name]))
    assert found["requests"]["stable"] == ROWS, "nothing is lost"


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        pytest.param("constant feature", "every value is the same", id="constant feature"),
        pytest.param("all-missing column", "every value is missing", id="all-missing column"),
        pytest.param("strings where numbers belong", "every value is the same", id="strings"),
        pytest.param("only new categories", "no value has 0.5% of the rows", id="names of single things"),
    ],
)
def test_a_reference_that_says_nothing_is_said_and_still_works(tmp_path: Path, name: str, warning: str) -> None:
    data, profile = write(tmp_path / "odd.csv", {**columns(), **ODD[name]}), str(tmp_path / "p.json")
    built = run("profile", "build", "--data", data, "--output", profile)
    assert (built.exit_code, f"warning: {next(iter(ODD[name]))}: {warning}" in built.output) == (0, True), built.output
    checked = run("drift", "check", "--profile", profile, "--data", data, "--json")
    assert json.loads(checked.output)["drift"]["verdict"] == "NoDrift"


def test_a_million_categories_stay_a_small_profile(tmp_path: Path) -> None:
    data, profile = tmp_path / "million.csv", tmp_path / "p.json"
    data.write_text("user\n" + "\n".join(f"user-{i}" for i in range(10**6)) + "\n")
    built = run("profile", "build", "--data", str(data), "--output", str(profile))
    assert (built.exit_code, "leave out columns" in built.output) == (0, True), built.output
    assert profile.stat().st_size < 32_000
    few = write(tmp_path / "few.csv", {"user": [f"user-{i}" for i in range(ROWS)]})
    checked = run("drift", "check", "--profile", str(profile), "--data", few, "--json")
    assert json.loads(checked.output)["drift"]["verdict"] == "NoDrift"


JUMPS = {
    "backwards": [*range(1500), *range(-3600, -2100)],
    "one row of 1970": [-1_767_225_600, *range(1, ROWS)],
    "a year ahead": [*range(ROWS - 1), 31_536_000],
}


@pytest.mark.parametrize("name", list(JUMPS))
def test_a_clock_that_jumps_neither_hides_nor_invents_a_fault(folder: Path, tmp_path: Path, name: str) -> None:
    answers = {"prediction": ["ok"] * ROWS, "timestamp": stamped(JUMPS[name])}
    profile = str(folder / "profile.json")
    stable = write(tmp_path / "stable.csv", {**columns(2), **answers, "status": [200] * ROWS})
    for status, decision in (([200] * ROWS, "Promote"), ([200, 500] * (ROWS // 2), "Rollback")):
        canary = write(tmp_path / "canary.csv", {**columns(3), **answers, "status": status})
        result = run("drift", "replay", "--profile", profile, "--stable", stable, "--canary", canary, "--json")
        found = json.loads(result.output)
        assert found["decision"] == decision, found["reason"]
        assert found["requests"] == {"stable": ROWS, "canary": ROWS}


def answers(**changed: Sequence[object]) -> dict[str, Sequence[object]]:
    """A log with everything a log can have."""
    whole: dict[str, Sequence[object]] = {
        **columns(5),
        "prediction": ["ok", "fraud"] * (ROWS // 2),
        "score": [0.9] * ROWS,
        "label": ["ok", "fraud"] * (ROWS // 2),
        "status": [200] * ROWS,
    }
    return whole | changed


HALF = ["", *["ok"] * (ROWS - 1)]
UNBUILDABLE = {
    "no prediction": ({"prediction": HALF}, "has no prediction in 1 rows (the first is row 1)"),
    "prediction not finite": ({"prediction": [1, 0, "nan"] * (ROWS // 3)}, "has no prediction in 1000 rows"),
    "texts for predictions": ({"prediction": [f"text {i}" for i in range(ROWS)]}, "neither numbers nor classes"),
    "score in words": ({"score": ["high"] * ROWS}, "has 'high' in row 1, where a number belongs"),
    "score in percent": ({"score": [90] * ROWS}, "has 90 in row 1; a score is the probability"),
    "status in words": ({"status": ["ok"] * ROWS}, "has 'ok' in row 1, where a number belongs"),
    "nothing answered": ({"status": [503] * ROWS}, "is an answer to a user; give rows with a status below 400"),
    "nothing but previews": ({"request_lane": [""] * ROWS}, "is an answer to a user"),
}


@pytest.mark.parametrize("name", list(UNBUILDABLE))
def test_a_log_that_makes_no_profile(tmp_path: Path, name: str) -> None:
    changed, message = UNBUILDABLE[name]
    data = write(tmp_path / "log.csv", answers(**changed))
    result = run("profile", "build", "--data", data, "--output", str(tmp_path / "p.json"))
    assert (result.exit_code, message in result.output) == (1, True), result.output
    assert not (tmp_path / "p.json").exists()


NOTED = {
    "rows that were not answered": (
        {"prediction": HALF, "status": [500, *[200] * (ROWS - 1)]},
        "1 rows with a status of 400 or more are left out",
    ),
    "previews": ({"request_lane": ["", *["live"] * (ROWS - 1)]}, "1 rows without a request_lane"),
    "rows without a label": ({"label": HALF}, "1 rows have no label, so accuracy is not profiled"),
    "one word among numbers": (
        {"amount": ["n/a", *columns()["amount"][1:]]},
        f"amount: 1 of {ROWS} values are no numbers (the first is 'n/a' in row 1)",
    ),
    "numbers that are one in single precision": ({"amount": [2**60 + i for i in range(ROWS)]}, "same in single"),
}


@pytest.mark.parametrize("name", list(NOTED))
def test_what_a_profile_leaves_out_is_said(tmp_path: Path, name: str) -> None:
    changed, message = NOTED[name]
    data = write(tmp_path / "log.csv", answers(**changed))
    result = run("profile", "build", "--data", data, "--output", str(tmp_path / "p.json"))
    assert (result.exit_code, message in result.output) == (0, True), result.output


@pytest.mark.parametrize("command", ["check", "replay"])
def test_previews_do_not_count(folder: Path, tmp_path: Path, command: str) -> None:
    lanes = {"request_lane": ["", "live", "mirror"] * (ROWS // 3)}
    data = write(tmp_path / "log.csv", answers(amount=[1e9, 50, 100] * (ROWS // 3), **lanes))
    rows = ["--data", data] if command == "check" else ["--stable", data, "--canary", data]
    result = run("drift", command, "--profile", str(folder / "profile.json"), *rows, "--json")
    found = json.loads(result.stdout)
    assert found["requests"]["stable"] == 2_000
    assert max(item["outOfRange"] for item in found["drift"]["features"]) < 0.1
    assert f"{1_000 if command == 'check' else 2_000} rows without a request_lane" in result.stderr


def test_columns_that_nothing_is_read_from_are_named_beside_the_json(folder: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "more.csv", columns(1) | {"Age": [1] * ROWS})
    result = run("drift", "check", "--profile", str(folder / "profile.json"), "--data", data, "--json")
    assert json.loads(result.stdout)["decision"] == "Hold"
    assert "not in the profile, and not compared: Age" in result.stderr


@pytest.mark.parametrize("place", ["no directory", "a directory"])
@pytest.mark.parametrize("command", ["build", "show", "check"])
def test_where_nothing_can_be_written(folder: Path, tmp_path: Path, command: str, place: str) -> None:
    target = str(tmp_path / "nowhere" / "x" if place == "no directory" else tmp_path)
    data, profile = str(folder / "good.csv"), str(folder / "profile.json")
    arguments = {
        "build": ["profile", "build", "--data", data, "--output", target],
        "show": ["profile", "show", profile, "--html", target],
        "check": ["drift", "check", "--profile", profile, "--data", data, "--html", target],
    }
    result = run(*arguments[command])
    words = "there is no directory" if place == "no directory" else "Is a directory"
    assert (result.exit_code, words in result.output) == (1, True), result.output


def test_the_json_has_the_documented_shape_and_no_other_numbers_than_json_has(folder: Path, tmp_path: Path) -> None:
    profile = str(folder / "profile.json")
    stable = write(tmp_path / "stable.csv", answers())
    odd = write(tmp_path / "odd.csv", answers(amount=["inf", "", "1e39"] * (ROWS // 3), age=["x"] * ROWS))
    for arguments in (["check", "--data", odd], ["replay", "--stable", stable, "--canary", odd]):
        result = run("drift", *arguments, "--profile", profile, "--json")
        found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert set(found) == {"decision", "reason", "looks", "drift", "requests"}
        assert found["decision"] in {"Promote", "Rollback", "Pause", "Hold", "Alert"}
        assert {"verdict", "features"} <= set(found["drift"])
        assert set(found["requests"]) == {"canary", "stable"}
