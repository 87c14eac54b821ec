"""What of a sampled request is written, and in which files."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlserve_runtime.batching.queue import Answer
from mlserve_runtime.model import ServedModel, load_model
from mlserve_runtime.settings import Settings, read_settings
from mlserve_runtime.telemetry.parquet import ParquetFiles
from mlserve_runtime.telemetry.payloads import REDACTED, JsonLines, PayloadLog, open_payload_log
from mlserve_runtime.telemetry.sink import Sample


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, write_mlp: Callable[..., Path]) -> ServedModel:
    directory = tmp_path_factory.mktemp("credit")
    (directory / "warmup.json").write_text('{"instances": [{"features": {"income": 1, "age": 2, "job": "clerk"}}]}')
    write_mlp(
        directory,
        4,
        name="credit",
        inputs=[
            {"name": "numbers", "datatype": "FP32", "shape": [-1, 2], "features": ["income", "age"]},
            {"name": "job", "datatype": "BYTES", "shape": [-1]},
        ],
        outputs=[{"name": "probability", "datatype": "FP32", "shape": [-1, 2]}],
        classes=["repaid", "defaulted"],
        preprocessing=[
            {"op": "encode", "input": "job", "categories": ["clerk", "farmer"]},
            {"op": "concatenate", "inputs": ["numbers", "job"], "output": "row"},
        ],
    )
    return load_model(Settings(model_dir=directory, threads=1, max_rows=2, revision="credit-1"))


@pytest.fixture
def sample(model: ServedModel) -> Callable[..., Sample]:
    def ask(*rows: tuple[float, float, str]) -> Sample:
        inputs = {
            "numbers": np.array([row[:2] for row in rows], dtype=np.float32),
            "job": np.array([row[2] for row in rows], dtype=object),
        }
        answer = Answer(model.run(inputs), 0, len(rows), 0)
        return Sample(1.7e9, "predict", "req-1", "live", 1.25, inputs, (answer,), model)

    return ask


def read(directory: Path) -> list[dict[str, Any]]:
    files = sorted(directory.iterdir())
    assert all(file.suffix == ".parquet" for file in files), "nothing unfinished is left"
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_row_for_every_prediction(sample: Callable[..., Sample], tmp_path: Path) -> None:
    asked = sample((10.5, 30.0, "clerk"), (20.5, 40.0, "farmer"))
    sink = ParquetFiles(tmp_path / "log", frozenset())
    sink.write(asked)
    assert not (tmp_path / "log").exists()
    sink.close()
    rows = read(tmp_path / "log")
    assert [(row["income"], row["age"], row["job"]) for row in rows] == [(10.5, 30.0, "clerk"), (20.5, 40.0, "farmer")]
    wanted = asked.answers[0].result.predictions.rows()
    assert [row["prediction"] for row in rows] == [one["label"] for one in wanted]
    assert [row["score"] for row in rows] == pytest.approx([one["confidence"] for one in wanted])
    assert {(row["latency_ms"], row["status"], row["request_lane"]) for row in rows} == {(1.25, 200, "live")}
    assert rows[0]["timestamp"].timestamp() == 1.7e9
    (file,) = (tmp_path / "log").iterdir()
    assert pq.read_schema(file).metadata[b"revision"] == b"credit-1"


@pytest.mark.parametrize(
    ("redact", "columns"),
    [({"age"}, {"income", "job"}), ({"numbers"}, {"job"}), ({"job", "income"}, {"age"})],
    ids=["feature", "tensor", "both"],
)
def test_what_is_redacted_is_in_no_file(
    redact: set[str], columns: set[str], sample: Callable[..., Sample], tmp_path: Path
) -> None:
    asked = sample((10.5, 33.25, "clerk"))
    sink = ParquetFiles(tmp_path / "log", frozenset(redact))
    sink.write(asked)
    sink.close()
    (row,) = read(tmp_path / "log")
    assert row.keys() & {"income", "age", "job"} == columns
    lines = JsonLines(tmp_path / "log.jsonl", frozenset(redact))
    lines.write(asked)
    lines.close()
    inputs = json.loads((tmp_path / "log.jsonl").read_text())["inputs"]
    told = {
        name: value
        for tensor in inputs.values()
        if tensor != REDACTED
        for name, value in tensor[0].items()
        if value != REDACTED
    }
    assert told.keys() == columns


def test_files_end_by_rows_bytes_and_time(sample: Callable[..., Sample], tmp_path: Path) -> None:
    one = sample((1.0, 2.0, "clerk"))

    def files(**limits: Any) -> int:
        directory = tmp_path / str(limits)
        now = 0.0
        sink = ParquetFiles(directory, frozenset(), clock=lambda: now, **limits)
        for _ in range(4):
            sink.write(one)
            now += 10.0
            sink.tick()
        return len(list(directory.iterdir())) if directory.exists() else 0

    assert files(rows=2) == 2
    assert files(size=1) == 4
    assert files(seconds=20.0) == 2
    assert files(rows=5) == 0


def test_another_model_begins_another_file(sample: Callable[..., Sample], tmp_path: Path) -> None:
    import dataclasses

    one = sample((1.0, 2.0, "clerk"))
    sink = ParquetFiles(tmp_path, frozenset())
    sink.write(one)
    sink.write(dataclasses.replace(one, inputs={"numbers": one.inputs["numbers"]}))
    sink.write(dataclasses.replace(one, model=dataclasses.replace(one.model, revision="credit-2")))
    sink.close()
    schemas = [pq.read_schema(file) for file in tmp_path.iterdir()]
    assert sorted((len(schema), schema.metadata[b"revision"]) for schema in schemas) == [
        (8, b"credit-1"),
        (9, b"credit-1"),
        (9, b"credit-2"),
    ]


def test_a_directory_that_cannot_be_written_ends_the_log_and_nothing_else(
    sample: Callable[..., Sample], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    log = open_payload_log(Settings(payload_log=str(tmp_path / "file"), payload_format="parquet"))
    assert log is not None
    log._waiting.put(sample((1.0, 2.0, "clerk")))
    log.close()
    assert not log._thread.is_alive(), "closing waits for the thread"
    assert "the payload log ends" in caplog.text


def test_a_sink_that_hangs_does_not_keep_the_process_from_ending(
    sample: Callable[..., Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlserve_runtime.telemetry.payloads._CLOSE_SECONDS", 0.05)
    free, entered = threading.Event(), threading.Event()

    class Hanging:
        def write(self, _: Sample) -> None:
            entered.set()
            free.wait(20)

        def tick(self) -> None: ...

        def close(self) -> None: ...

    log = PayloadLog(Hanging(), 1000)
    log._waiting.put(sample((1.0, 2.0, "clerk")))
    assert entered.wait(10)
    while not log._waiting.full():
        log._waiting.put(sample((1.0, 2.0, "clerk")))
    log.close()
    assert log._thread.is_alive()
    free.set()
    log.close()


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="MLSERVE_PAYLOAD_FORMAT='avro' is none of json, parquet"):
        read_settings({"MLSERVE_PAYLOAD_FORMAT": "avro"})
