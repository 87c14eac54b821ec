"""The commands of docs/runtime.md, by the real curl: each is run as it stands there, and each must be expected here."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mlserve_runtime.backends.architectures import ARCHITECTURES

from .conftest import RuntimeServer, write_artifact

CURL = shutil.which("curl")
PAGE = (Path(__file__).parents[3] / "docs" / "runtime.md").read_text()
(BLOCK,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
COMMANDS: dict[str, str] = dict(re.findall(r"^# (.*)\n(.*)$", BLOCK, re.MULTILINE))
ROW = [5.1, 3.5, 1.4, 0.2]
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
CLASSES = ["setosa", "versicolor", "virginica"]


@dataclass
class Shell:
    """A directory with the files that the commands name, and the servers they mean."""

    directory: Path
    iris: RuntimeServer
    pictures: RuntimeServer

    def run(self, command: str) -> tuple[int, Any]:
        """Status and body of what a line of the page gets."""
        server = self.pictures if "digit.png" in command else self.iris
        command = command.replace("http://HOST", server.url).replace("curl ", r"curl -sS -w '\n%{http_code}' ")
        result = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command], cwd=self.directory, capture_output=True, timeout=20, check=False
        )
        assert result.returncode == 0, result.stderr
        body, _, status = result.stdout.rpartition(b"\n")
        return int(status), json.loads(body)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, picture_server: RuntimeServer) -> Iterator[Shell]:
    directory = tmp_path_factory.mktemp("curl")
    Image.new("L", (28, 28), 128).save(directory / "digit.png")
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [100, 4], "data": ROW * 100}]}
    (directory / "request.json").write_text(json.dumps(request))
    (directory / "keys").mkdir()
    (directory / "keys" / "current").write_text("k" * 32)
    torch.manual_seed(7)
    arguments = {"inputs": 4, "outputs": 3, "hidden": [8]}
    artifact = write_artifact(
        tmp_path_factory.mktemp("iris"),
        ARCHITECTURES["mlp"](**arguments),
        {
            "name": "iris",
            "format": "safetensors",
            "architecture": {"name": "mlp", "arguments": arguments},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4], "features": FEATURES}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
            "classes": CLASSES,
            "postprocessing": {"activation": "softmax"},
        },
    )
    server = RuntimeServer(artifact, directory, "--feedback-keys-dir", str(directory / "keys"))
    try:
        yield Shell(directory, server.wait_ready(), picture_server)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def probabilities(shell: Shell) -> list[float]:
    """What every way of asking for the row must answer."""
    _, answer = shell.run(COMMANDS["V1"])
    (row,) = answer["predictions"]
    assert len(row) == len(CLASSES)
    assert sum(row) == pytest.approx(1, abs=1e-5)
    return list(row)


Check = Callable[[Any, list[float]], bool]


def is_row(answer: Any, probabilities: list[float]) -> bool:
    best = max(range(len(CLASSES)), key=probabilities.__getitem__)
    return bool(answer["prediction"] == CLASSES[best]) and answer["model"] == "iris"


def is_digit(answer: Any, _: list[float]) -> bool:
    return answer["prediction"] in range(10) or str(answer["prediction"]).isdigit()


def flat(answer: Any) -> Any:
    (output,) = answer["outputs"]
    return output["data"]


EXPECTED: dict[str, tuple[int, Check]] = {
    "is it ready?": (200, lambda answer, _: bool(answer["ready"]) and answer["status"] == "ok"),
    "one row": (200, is_row),
    "one row, by name": (200, is_row),
    "several rows": (200, lambda answer, row: len(answer["predictions"]) == 2),
    "V2": (200, lambda answer, row: answer["id"] == "7" and flat(answer) == pytest.approx(row, abs=1e-6)),
    "V2, compressed": (200, lambda answer, row: flat(answer) == pytest.approx(row * 100, abs=1e-6)),
    "V1": (200, lambda answer, row: answer["predictions"] == [row]),
    "a picture as the body": (200, is_digit),
    "a picture as a form": (200, is_digit),
    "several pictures": (200, lambda answer, row: len(answer["predictions"]) == 2),
    "a wrong row": (400, lambda answer, _: "4" in answer["error"]),
    "another model": (404, lambda answer, _: "'rose' is not served here" in answer["error"]),
}


def test_every_command_of_the_page_is_expected() -> None:
    assert COMMANDS.keys() == EXPECTED.keys() | {"feedback"}
    assert BLOCK.count("curl ") == len(COMMANDS)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("name", EXPECTED)
def test_command(shell: Shell, probabilities: list[float], name: str) -> None:
    status, answer = shell.run(COMMANDS[name])
    expected, check = EXPECTED[name]
    assert status == expected, answer
    assert check(answer, probabilities), answer


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_feedback(shell: Shell) -> None:
    _, answer = shell.run(COMMANDS["one row"])
    report = COMMANDS["feedback"].replace("AQFn…", answer["id"])
    assert shell.run(report) == (200, {"counted": True, "revision": answer["revision"]})
    assert shell.run(report)[1]["counted"] is False
    assert shell.run(COMMANDS["feedback"])[0] == 404


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_the_answer_is_compressed_for_who_asks_for_nothing_else(shell: Shell) -> None:
    command = COMMANDS["V2, compressed"].replace("--compressed", "-H 'Accept-Encoding: gzip' -D headers -o answer.gz")
    with pytest.raises(json.JSONDecodeError):
        shell.run(command)  # the body is in the file
    assert "content-encoding: gzip" in (shell.directory / "headers").read_text().lower()
    assert len(flat(json.loads(gzip.decompress((shell.directory / "answer.gz").read_bytes())))) == 300
