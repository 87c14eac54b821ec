"""Sampled payloads as Parquet, and what they are good for: the commands that judge logged rows read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow.parquet as pq
from click.testing import CliRunner

from mlserve_cli.main import main

from .conftest import FEATURES, RuntimeServer


def test_logged_rows_can_be_profiled_and_checked(
    start: Callable[..., RuntimeServer], tabular: Path, tmp_path: Path
) -> None:
    log = tmp_path / "payloads"
    flags = ("--payload-log", str(log), "--payload-format=parquet", "--payload-sample-per-mille=1000")
    server = start(tabular, *flags, "--payload-redact=x_3").wait_ready()
    with httpx.Client(base_url=server.url) as client:
        rows = [[float(row * column % 7) for column in range(FEATURES)] for row in range(60)]
        answers = [client.post("/predict", json={"features": row}).json() for row in rows]
    assert server.stop() == 0, "what was gathered is written at the end"
    (file,) = log.iterdir()
    table = pq.read_table(file)
    assert table.column("prediction").to_pylist() == [answer["label"] for answer in answers]
    assert "x_3" not in table.column_names
    profile = tmp_path / "profile.json"
    built = CliRunner().invoke(main, ["profile", "build", "--data", str(file), "--output", str(profile)])
    assert built.exit_code == 0, built.output
    checked = CliRunner().invoke(main, ["drift", "check", "--profile", str(profile), "--data", str(file), "--json"])
    assert checked.exit_code == 0, checked.output
    assert '"rows": 60' in checked.output
