"""NVIDIA's client, HTTP and gRPC, as its users call it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from .conftest import FEATURES, RuntimeServer, tabular_module

ROWS = np.random.default_rng(3).normal(size=(5, FEATURES)).astype(np.float32)


def expected(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        answer: npt.NDArray[np.float32] = torch.softmax(tabular_module()(torch.from_numpy(rows)), dim=-1).numpy()
    return answer


@pytest.fixture
def http_client(server: RuntimeServer) -> Iterator[Any]:
    client = triton_http.InferenceServerClient(server.url.removeprefix("http://"))
    yield client
    client.close()


@pytest.fixture
def grpc_client(server: RuntimeServer) -> Iterator[Any]:
    client = triton_grpc.InferenceServerClient(server.grpc)
    yield client
    client.close()


def http_input(rows: npt.NDArray[np.float32], *, binary: bool = True) -> Any:
    tensor = triton_http.InferInput("x", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def grpc_input(rows: npt.NDArray[np.float32]) -> Any:
    tensor = triton_grpc.InferInput("x", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
@pytest.mark.parametrize("binary_out", [True, False, None], ids=["binary-out", "json-out", "default-out"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"], ids=["plain", "gzip", "deflate"])
def test_http_infer(http_client: Any, binary_in: bool, binary_out: bool | None, compression: str | None) -> None:
    outputs = None
    if binary_out is not None:
        outputs = [triton_http.InferRequestedOutput("probabilities", binary_data=binary_out)]
    result = http_client.infer(
        "tabular",
        [http_input(ROWS, binary=binary_in)],
        outputs=outputs,
        request_id="r-1",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected(ROWS), rtol=1e-4, atol=1e-5)
    assert result.get_response()["id"] == "r-1"
    assert result.get_response()["model_version"] == "3"


def test_http_large_answer_is_compressed_when_asked(http_client: Any) -> None:
    rows = np.repeat(ROWS, 60, axis=0)
    result = http_client.infer("tabular", [http_input(rows)], response_compression_algorithm="gzip", model_version="3")
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected(rows), rtol=1e-4, atol=1e-5)


def test_http_metadata(http_client: Any) -> None:
    assert http_client.is_server_live()
    assert http_client.is_server_ready()
    assert http_client.is_model_ready("tabular")
    assert http_client.is_model_ready("tabular", "3")
    assert not http_client.is_model_ready("other")
    metadata = http_client.get_model_metadata("tabular")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}]
    assert metadata["versions"] == ["3"]
    assert "binary_tensor_data" in http_client.get_server_metadata()["extensions"]
    config = http_client.get_model_config("tabular")
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [FEATURES]}]
    assert config["max_batch_size"] == 64


def test_http_statistics_count_inferences(http_client: Any) -> None:
    before = http_client.get_inference_statistics("tabular")["model_stats"][0]
    http_client.infer("tabular", [http_input(ROWS)])
    after = http_client.get_inference_statistics("tabular")["model_stats"][0]
    assert after["inference_count"] - before["inference_count"] == len(ROWS)
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 1


def test_http_async(http_client: Any) -> None:
    calls = [http_client.async_infer("tabular", [http_input(ROWS[i : i + 1])]) for i in range(5)]
    for index, call in enumerate(calls):
        answer = call.get_result().as_numpy("probabilities")
        np.testing.assert_allclose(answer, expected(ROWS[index : index + 1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "rows", "text"),
    [
        ("other", ROWS, "model 'other' is not served here"),
        ("tabular", ROWS[:, :7].copy(), "shape [5, 7], expected [-1, 30]"),
    ],
    ids=["unknown-model", "wrong-shape"],
)
def test_errors_name_what_is_wrong(http_client: Any, grpc_client: Any, name: str, rows: Any, text: str) -> None:
    with pytest.raises(InferenceServerException) as over_http:
        http_client.infer(name, [http_input(rows)])
    assert text in str(over_http.value)
    with pytest.raises(InferenceServerException) as over_grpc:
        grpc_client.infer(name, [grpc_input(rows)])
    assert text in str(over_grpc.value)


def test_grpc_infer(grpc_client: Any) -> None:
    outputs = [triton_grpc.InferRequestedOutput("probabilities")]
    result = grpc_client.infer(
        "tabular", [grpc_input(ROWS)], model_version="3", outputs=outputs, request_id="r-2", client_timeout=10
    )
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected(ROWS), rtol=1e-4, atol=1e-5)
    assert result.get_response().id == "r-2"


def test_grpc_metadata(grpc_client: Any) -> None:
    assert grpc_client.is_server_live()
    assert grpc_client.is_server_ready()
    assert grpc_client.is_model_ready("tabular")
    metadata = grpc_client.get_model_metadata("tabular")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "FP32", [-1, FEATURES])]
    config = grpc_client.get_model_config("tabular").config
    assert config.max_batch_size == 64
    assert list(config.input[0].dims) == [FEATURES]
    assert config.input[0].data_type == 11  # TYPE_FP32
    statistics = grpc_client.get_inference_statistics("tabular").model_stats[0]
    assert statistics.name == "tabular"


def test_grpc_async(grpc_client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    grpc_client.async_infer("tabular", [grpc_input(ROWS)], callback=lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=10)
    assert error is None
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected(ROWS), rtol=1e-4, atol=1e-5)


def test_grpc_stream_survives_a_bad_request(grpc_client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    grpc_client.start_stream(callback=lambda result, error: answers.put((result, error)))
    grpc_client.async_stream_infer("tabular", [grpc_input(ROWS[:1])], request_id="good-1")
    grpc_client.async_stream_infer("tabular", [grpc_input(ROWS[:, :3].copy())], request_id="bad")
    grpc_client.async_stream_infer("tabular", [grpc_input(ROWS[1:2])], request_id="good-2")
    first, bad, last = (answers.get(timeout=10) for _ in range(3))
    grpc_client.stop_stream()
    np.testing.assert_allclose(first[0].as_numpy("probabilities"), expected(ROWS[:1]), rtol=1e-4, atol=1e-5)
    assert "expected [-1, 30]" in str(bad[1])
    np.testing.assert_allclose(last[0].as_numpy("probabilities"), expected(ROWS[1:2]), rtol=1e-4, atol=1e-5)
