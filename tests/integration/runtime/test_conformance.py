"""Every answer against the Open Inference Protocol: REST bodies by JSON Schema, gRPC messages field by field."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import jsonschema
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from mlserve_core.wire import HEADER_DRAINING, HEADER_REVISION

from .conftest import RuntimeServer
from .test_lifecycle import slow
from .two_tensors import write_two_tensors

__all__ = ["slow"]

SCHEMAS = json.loads(Path(__file__).with_name("oip_v2.schema.json").read_text())
HEADER_LENGTH = "inference-header-content-length"
A, N = np.arange(6, dtype="<f4").reshape(2, 3), np.arange(4, dtype="<i8").reshape(2, 2)
TOTAL, NEXT = A.sum(axis=1), N + 1
PATHS = ["/v2/models/two/infer", "/v2/models/two/versions/7/infer"]


def validate(body: Any, name: str) -> None:
    jsonschema.Draft202012Validator({**SCHEMAS, "$ref": f"#/$defs/{name}"}).validate(body)


def test_the_schemas_are_schemas_and_refuse_what_is_wrong() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS)
    for name, body in {
        "inference_response": {"model_name": "m", "outputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]},
        "error": {"error": "x", "detail": "y"},
        "metadata_tensor": {"name": "x", "datatype": "float", "shape": [1]},
        "model_ready": {"ready": True},
    }.items():
        with pytest.raises(jsonschema.ValidationError):
            validate(body, name)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    directory = tmp_path_factory.mktemp("two-tensors")
    artifact, environment = write_two_tensors(directory)
    server = RuntimeServer(artifact, directory, "--revision", "two-1", **environment)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def rest(two: RuntimeServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=two.url, timeout=20) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/v2", "metadata_server"),
        ("/v2/", "metadata_server"),
        ("/v2/health/live", "server_live"),
        ("/v2/health/ready", "server_ready"),
        ("/v2/models/two", "metadata_model"),
        ("/v2/models/two/versions/7", "metadata_model"),
        ("/v2/models/two/ready", "model_ready"),
        ("/v2/models/two/versions/7/ready", "model_ready"),
    ],
)
def test_what_is_asked_with_get(rest: httpx.Client, path: str, schema: str) -> None:
    answer = rest.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers[HEADER_REVISION] == "two-1"
    validate(answer.json(), schema)


def test_model_metadata_is_the_signature(rest: httpx.Client) -> None:
    metadata = rest.get("/v2/models/two").json()
    assert (metadata["name"], metadata["versions"]) == ("two", ["7"])
    assert metadata["inputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "n", "datatype": "INT64", "shape": [-1, 2]},
    ]
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["total", "next"]


def tensor(name: str, values: Any, **changes: Any) -> dict[str, Any]:
    datatype = {"f": "FP32", "i": "INT64"}[values.dtype.kind]
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist(), **changes}


def asked(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor("a", A), tensor("n", N)], **changes}


def split(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON part of an answer, and the raw bytes of the tensors that follow it."""
    length = int(answer.headers.get(HEADER_LENGTH, len(answer.content)))
    document, position, raw = json.loads(answer.content[:length]), length, {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            raw[output["name"]] = answer.content[position : position + size]
            position += size
    assert position == len(answer.content), "nothing else follows"
    assert bool(raw) == (answer.headers["content-type"] == "application/octet-stream")
    return document, raw


def binary(name: str, wanted: bool) -> dict[str, Any]:
    return {"name": name, "parameters": {"binary_data": wanted}}


REQUESTS = {
    "flat": asked(),
    "nested": asked(inputs=[tensor("a", A, data=A.tolist()), tensor("n", N, data=N.tolist())]),
    "inputs in another order": asked(inputs=[tensor("n", N), tensor("a", A)]),
    "empty id": asked(id=""),
    "id": asked(id="früh-1"),
    "parameters nobody knows": asked(parameters={"a": 1, "b": "x", "c": True, "d": 0.5}),
    "parameters of a tensor": asked(inputs=[tensor("a", A, parameters={"content_type": "np"}), tensor("n", N)]),
    "no outputs named": asked(outputs=[]),
    "one output": asked(outputs=[{"name": "next"}]),
    "outputs in another order": asked(outputs=[{"name": "next"}, {"name": "total"}]),
    "all binary": asked(parameters={"binary_data_output": True}),
    "one binary": asked(outputs=[binary("next", True), {"name": "total"}]),
    "binary but one": asked(
        outputs=[binary("total", False), {"name": "next"}], parameters={"binary_data_output": True}
    ),
    "binary but all": asked(
        outputs=[binary("total", False), binary("next", False)], parameters={"binary_data_output": True}
    ),
    "explicitly not binary": asked(parameters={"binary_data_output": False}),
}


def wants_binary(request: dict[str, Any], name: str) -> bool:
    """The rule of the extension: what an output says of itself stands, else the request's word, else JSON."""
    default = bool(request.get("parameters", {}).get("binary_data_output", False))
    own = [output.get("parameters", {}) for output in request.get("outputs", ()) if output["name"] == name]
    return bool(own[0].get("binary_data", default)) if own else default


@pytest.mark.parametrize("path", PATHS, ids=["", "versioned"])
@pytest.mark.parametrize("name", REQUESTS)
def test_inference(rest: httpx.Client, path: str, name: str) -> None:
    request = REQUESTS[name]
    validate(request, "inference_request")
    answer = rest.post(path, content=json.dumps(request))
    assert answer.status_code == 200, answer.text
    document, raw = split(answer)
    validate(document, "inference_response")
    assert (document["model_name"], document["model_version"]) == ("two", "7")
    assert document.get("id") == request.get("id"), "given back as it came, the empty one too"
    wanted = [output["name"] for output in request.get("outputs", ())] or ["total", "next"]
    assert [output["name"] for output in document["outputs"]] == wanted
    for output in document["outputs"]:
        assert (output["name"] in raw) == wants_binary(request, output["name"])
        check_output(output, raw.get(output["name"]))


def check_output(output: dict[str, Any], raw: bytes | None) -> None:
    expected = {"total": ("FP32", [2, 1], TOTAL, "<f4"), "next": ("INT64", [2, 2], NEXT, "<i8")}
    datatype, shape, values, dtype = expected[output["name"]]
    assert (output["datatype"], output["shape"]) == (datatype, shape)
    found = np.frombuffer(raw, dtype=dtype) if raw is not None else np.array(output["data"])
    np.testing.assert_array_equal(found.ravel(), values.ravel())


@pytest.mark.parametrize("encoding", ["", "gzip"], ids=["plain", "gzip"])
@pytest.mark.parametrize("raw_inputs", [("a",), ("n",), ("a", "n")], ids="+".join)
def test_binary_inputs(rest: httpx.Client, raw_inputs: tuple[str, ...], encoding: str) -> None:
    inputs, tail = [], b""
    for name, values in (("a", A), ("n", N)):
        entry = tensor(name, values)
        if name in raw_inputs:
            del entry["data"]
            entry["parameters"] = {"binary_data_size": values.nbytes}
            tail += values.tobytes()
        inputs.append(entry)
    validate({"inputs": inputs}, "inference_request")
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {HEADER_LENGTH: str(len(head))}
    body = head + tail
    if encoding:
        body, headers["content-encoding"] = gzip.compress(body), encoding
    answer = rest.post(PATHS[0], content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    document, raw = split(answer)
    validate(document, "inference_response")
    assert raw == {"total": TOTAL.tobytes(), "next": NEXT.tobytes()}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v2/models/other", None, 404),
        ("GET", "/v2/models/two/versions/1", None, 404),
        ("GET", "/v2/models/other/ready", None, 404),
        ("GET", "/v2/nothing", None, 404),
        ("GET", PATHS[0], None, 405),
        ("POST", "/v2/models/other/infer", asked(), 404),
        ("POST", "/v2/models/two/versions/1/infer", asked(), 404),
        ("POST", PATHS[0], {}, 400),
        ("POST", PATHS[0], asked(inputs=[tensor("a", A)]), 400),
        ("POST", PATHS[0], asked(inputs=[tensor("a", A), tensor("n", N[:1])]), 400),
        ("POST", PATHS[0], asked(inputs=[tensor("a", A, datatype="FP64"), tensor("n", N)]), 400),
        ("POST", PATHS[0], asked(outputs=[{"name": "other"}]), 400),
        ("POST", PATHS[0], asked(outputs=[{"name": "total", "parameters": {"classification": 3}}]), 400),
        ("POST", PATHS[0], asked(outputs=[{"name": "total", "parameters": {"shared_memory_region": "r"}}]), 400),
        ("POST", PATHS[0], asked(inputs=[tensor("a", A, parameters={"shared_memory_region": "r"})]), 400),
    ],
)  # fmt: skip
def test_errors(rest: httpx.Client, method: str, path: str, body: Any, status: int) -> None:
    answer = rest.request(method, path, content=None if body is None else json.dumps(body))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    validate(answer.json(), "error")
    if "shared_memory_region" in str(body) or "classification" in str(body):
        assert "an extension that is not served here" in answer.json()["error"]


def test_while_it_loads(slow: Any, start: Callable[..., RuntimeServer]) -> None:
    directory, environment = slow(0.4)  # several warm-up passes of 0.4 s
    server = start(directory, **environment)
    server.wait_log(lambda entry: entry.get("listener") == "http")
    for path, schema in {
        "/v2/health/ready": "server_ready",
        "/v2/models/slow/ready": "model_ready",
        "/v2/models/slow/versions/1/ready": "model_ready",
    }.items():
        answer = httpx.get(server.url + path)
        assert answer.status_code == 503, "the probe of a kubelet reads the status"
        assert answer.headers[HEADER_DRAINING] == "true", "another replica may answer"
        validate(answer.json(), schema)
        assert answer.json()["ready"] is False
    for answer in (httpx.get(f"{server.url}/v2/models/slow"), httpx.post(f"{server.url}/v2/models/slow/infer")):
        assert answer.status_code == 503
        validate(answer.json(), "error")
    live = httpx.get(f"{server.url}/v2/health/live")
    assert live.status_code == 200
    validate(live.json(), "server_live")


# --- gRPC -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def call(two: RuntimeServer) -> Iterator[Callable[[str, Any], Any]]:
    with grpc.insecure_channel(two.grpc) as channel:

        def ask(method: str, request: Any) -> Any:
            response = getattr(service_pb2, f"{method}Response")
            stub = channel.unary_unary(
                f"/inference.GRPCInferenceService/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            return stub(request, timeout=20)

        yield ask


def message(*, raw: bool, **changes: Any) -> Any:
    request = service_pb2.ModelInferRequest(**{"model_name": "two", **changes})
    for name, datatype, values in (("a", "FP32", A), ("n", "INT64", N)):
        entry = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        if raw:
            request.raw_input_contents.append(values.tobytes())
        elif datatype == "FP32":
            entry.contents.fp32_contents.extend(values.ravel().tolist())
        else:
            entry.contents.int64_contents.extend(values.ravel().tolist())
    return request


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("version", ["", "7"], ids=["any-version", "version"])
@pytest.mark.parametrize("outputs", [(), ("next",), ("next", "total")], ids=["all", "one", "reversed"])
def test_grpc_inference(call: Any, raw: bool, version: str, outputs: tuple[str, ...]) -> None:
    request = message(raw=raw, model_version=version, id="g-1")
    request.parameters["unknown"].string_param = "ignored"
    for name in outputs:
        request.outputs.add(name=name)
    answer = call("ModelInfer", request)
    assert (answer.model_name, answer.model_version, answer.id) == ("two", "7", "g-1")
    assert [output.name for output in answer.outputs] == list(outputs or ("total", "next"))
    assert len(answer.raw_output_contents) == len(answer.outputs), "one for each output, in their order"
    for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert not output.HasField("contents"), "never both forms"
        check_output({"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}, content)


def test_grpc_id_is_empty_where_none_was_given(call: Any) -> None:
    assert call("ModelInfer", message(raw=True)).id == ""


def both_forms() -> Any:
    request = message(raw=True)
    request.inputs[0].contents.fp32_contents.extend(A.ravel().tolist())
    return request


def too_few_raw() -> Any:
    request = message(raw=True)
    del request.raw_input_contents[1]
    return request


def short_raw() -> Any:
    request = message(raw=True)
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    return request


def wrong_typed() -> Any:
    request = message(raw=False)
    request.inputs[0].contents.fp32_contents.pop()
    return request


def bad_rank() -> Any:
    request = message(raw=True)
    request.inputs[0].shape[:] = [1] * 100
    request.raw_input_contents[0] = struct.pack("<f", 1.0)
    return request


def shared_memory() -> Any:
    request = message(raw=True)
    request.outputs.add(name="total").parameters["shared_memory_region"].string_param = "r"
    return request


def unknown_output() -> Any:
    request = message(raw=True)
    request.outputs.add(name="other")
    return request


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: message(raw=True, model_name="other"), grpc.StatusCode.NOT_FOUND),
        (lambda: message(raw=True, model_version="1"), grpc.StatusCode.NOT_FOUND),
        (lambda: service_pb2.ModelInferRequest(model_name="two"), grpc.StatusCode.INVALID_ARGUMENT),
        *((make, grpc.StatusCode.INVALID_ARGUMENT) for make in (
            both_forms, too_few_raw, short_raw, wrong_typed, bad_rank, shared_memory, unknown_output,
        )),
    ],
    ids=["model", "version", "no-inputs", "both-forms", "too-few-raw", "short-raw", "wrong-typed", "bad-rank",
         "shared-memory", "unknown-output"],
)  # fmt: skip
def test_grpc_errors(call: Any, make: Callable[[], Any], status: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call("ModelInfer", make())
    assert refused.value.code() is status  # type: ignore[attr-defined]
    assert refused.value.details()  # type: ignore[attr-defined]


def test_grpc_health_and_metadata(call: Any) -> None:
    assert call("ServerLive", service_pb2.ServerLiveRequest()).live
    assert call("ServerReady", service_pb2.ServerReadyRequest()).ready
    assert call("ModelReady", service_pb2.ModelReadyRequest(name="two", version="7")).ready
    server = call("ServerMetadata", service_pb2.ServerMetadataRequest())
    assert server.name == "mlserve"
    assert "binary_tensor_data" in server.extensions
    model = call("ModelMetadata", service_pb2.ModelMetadataRequest(name="two"))
    assert (model.name, list(model.versions), model.platform) == ("two", ["7"], "pytorch_safetensors")
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        ("a", "FP32", [-1, 3]),
        ("n", "INT64", [-1, 2]),
    ]
    with pytest.raises(grpc.RpcError) as refused:
        call("ModelReady", service_pb2.ModelReadyRequest(name="other"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
