"""Schemathesis makes requests of the OpenAPI document and holds every answer of the running server against it.

It runs as its users run it, as a program. Left out are two of its checks: that whatever a schema allows is accepted (no
schema says that a tensor has as many values as its shape claims) and that whatever it forbids is refused (what nobody
asked for is ignored).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from .conftest import FEATURES, RuntimeServer

SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.fixture(params=["tabular", "pictures"])
def described(request: pytest.FixtureRequest, server: RuntimeServer, picture_server: RuntimeServer) -> RuntimeServer:
    return server if request.param == "tabular" else picture_server


def test_the_server_does_what_its_document_says(described: RuntimeServer, tmp_path: Path) -> None:
    result = subprocess.run(
        [SCHEMATHESIS, "run", f"{described.url}/openapi.json", "--checks", ",".join(CHECKS), "--seed", "1",
         "--phases", "examples,coverage,fuzzing", "--max-examples", "4", "--generation-database", "none",
         "--no-shrink", "--warnings", "off", "--no-color"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:]
    (generated,) = re.findall(r"(\d+) generated", result.stdout)
    assert int(generated) > 200, "it found something to ask"
    assert described.process.poll() is None


def request_schema(server: RuntimeServer, path: str) -> dict[str, Any]:
    document = httpx.get(f"{server.url}/openapi.json").json()
    content = document["paths"][path]["post"]["requestBody"]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"features": [0.5] * FEATURES}, True),
        ({"features": {f"x_{i}": i for i in range(FEATURES)}}, True),
        ({"inputs": {"x": [0.5] * FEATURES}}, True),
        ({"features": [0.5] * (FEATURES - 1)}, False),
        ({"features": ["a"] * FEATURES}, False),
        ({"features": [1e39] * FEATURES}, False),
        ({"features": {"x_0": 1}}, False),
        ({"inputs": {"y": [0.5]}}, False),
        ({"nothing": 1}, False),
    ],
)
def test_the_document_knows_the_models_features(server: RuntimeServer, body: Any, fits: bool) -> None:
    """A client that checks against the document and the server agree."""
    valid = jsonschema.Draft202012Validator(request_schema(server, "/predict")).is_valid(body)
    status = httpx.post(f"{server.url}/predict", json=body).status_code
    assert (valid, status) == (fits, 200 if fits else 400)


def test_pictures_are_offered_only_where_they_are_taken(server: RuntimeServer, picture_server: RuntimeServer) -> None:
    for one, taken in ((server, False), (picture_server, True)):
        document = httpx.get(f"{one.url}/openapi.json").json()
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
        assert ("image/png" in content) is taken
        assert ("image" in content["application/json"]["schema"]["properties"]) is taken
