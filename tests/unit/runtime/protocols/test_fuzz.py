# ruff: noqa: PT017 - a refusal is one of two good outcomes here, so pytest.raises does not fit
"""Whatever bytes come, by whatever protocol: tensors that fit the signature, or a refusal with a reason."""

from __future__ import annotations

import io
import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mlserve_core.model_spec import ModelSpec
from mlserve_core.processing import Datatype
from mlserve_runtime.calls import Call, Prepared
from mlserve_runtime.errors import InvalidInputError, ServingError
from mlserve_runtime.processing import DTYPES, Tensors
from mlserve_runtime.processing.pipeline import Pipeline
from mlserve_runtime.protocols.binary import decode_tensor, encode_tensor
from mlserve_runtime.protocols.grpc_v2.codec import read_inputs
from mlserve_runtime.protocols.grpc_v2.messages import ModelInferRequest
from mlserve_runtime.protocols.oip import InferRoute
from mlserve_runtime.protocols.simple import read_form

NUMERIC = sorted(set(DTYPES) - {"BYTES"})
SPEC = ModelSpec.model_validate(
    {
        "name": "m",
        "format": "onnx",
        "weights": "m.onnx",
        "task": "regression",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "s", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
    }
)
PICTURES = ModelSpec.model_validate(
    {
        "name": "p",
        "format": "onnx",
        "weights": "p.onnx",
        "task": "regression",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 1, 8, 8]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
        "image": {"mode": "L", "width": 8, "height": 8},
    }
)
MODEL: Any = SimpleNamespace(pipeline=Pipeline(SPEC), artifact=SimpleNamespace(spec=SPEC))
PIPELINE = Pipeline(PICTURES)
ROUTE = InferRoute(SPEC)
A = np.arange(6, dtype=np.float32).reshape(2, 3)
S = np.array([[b"x"], [b"\xc3\xa4"]], dtype=np.object_)


def call(body: bytes, **headers: str) -> Call:
    names = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Call(ROUTE, names, body, reply=lambda _: None, received=0.0)


def fits(tensors: Tensors) -> bool:
    """Whether tensors are what the model may be given."""
    a, s = tensors["a"], tensors["s"]
    return (
        list(tensors) == ["a", "s"]
        and len(a) == len(s) > 0
        and (a.dtype, a.shape[1:], s.shape[1:]) == (np.float32, (3,), (1,))
        and bool(np.isfinite(a).all())
        and all(isinstance(item, str) for item in s.ravel())
    )


def binary_request(**changes: Any) -> tuple[bytes, int]:
    """A good request in the binary extension, and the length of its JSON part."""
    entries = []
    for name, datatype, array in (("a", "FP32", A), ("s", "BYTES", S)):
        size = len(encode_tensor(array))
        entry = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        entries.append({**entry, "parameters": {"binary_data_size": size}, **changes})
    head = json.dumps({"id": "1", "inputs": entries}).encode()
    return head + encode_tensor(A) + encode_tensor(S), len(head)


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Good bytes after a few accidents: some flipped, cut out or put in, or all cut short."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "end"]))
        if kind == "flip" and data:
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 8))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            del data[place:]
    return bytes(data)


@given(st.data(), st.sampled_from(NUMERIC), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
def test_numbers_survive_the_way_there_and_back(
    data: st.DataObject, datatype: Datatype, shape: tuple[int, ...]
) -> None:
    array: npt.NDArray[Any] = data.draw(hnp.arrays(DTYPES[datatype], shape))
    np.testing.assert_array_equal(decode_tensor(encode_tensor(array), datatype, shape, "x"), array)


def test_a_bool_is_0_or_1() -> None:
    assert decode_tensor(b"\x00\x01", "BOOL", [2], "x").tolist() == [False, True]
    with pytest.raises(InvalidInputError, match="0 or 1"):
        decode_tensor(b"\x00\x02", "BOOL", [2], "x")


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_strings_survive_the_way_there_and_back(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    assert decode_tensor(encode_tensor(array), "BYTES", [len(items)], "x").tolist() == items


@given(st.binary(max_size=64), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 2**31 - 1), max_size=8))
def test_any_bytes_are_a_tensor_of_the_shape_or_refused(raw: bytes, datatype: Datatype, shape: list[int]) -> None:
    try:
        array = decode_tensor(memoryview(raw), datatype, shape, "x")
    except InvalidInputError as error:
        assert "'x'" in str(error)
    else:
        assert array.shape == tuple(shape)
        assert array.size == math.prod(shape)


def test_the_request_that_is_damaged_below_is_good() -> None:
    body, length = binary_request()
    prepared = ROUTE.decode(call(body, inference_header_content_length=str(length)), MODEL)
    assert fits(prepared.inputs)
    np.testing.assert_array_equal(prepared.inputs["a"], A)
    assert prepared.inputs["s"].ravel().tolist() == ["x", "ä"]


def decode(one: Call) -> Prepared | None:
    """What a route makes of a call; None for a refusal, anything else is raised."""
    try:
        return ROUTE.decode(one, MODEL)
    except ServingError as error:
        assert error.status in {400, 413}
        assert str(error)
        return None


@given(st.data())
def test_damaged_binary_requests(data: st.DataObject) -> None:
    body, length = binary_request()
    header = data.draw(
        st.one_of(st.just(str(length)), st.integers(-2, len(body) + 2).map(str), st.text("0123456789x ", max_size=30))
    )
    prepared = decode(call(data.draw(damaged(body)), inference_header_content_length=header))
    assert prepared is None or fits(prepared.inputs)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["name", "datatype", "shape", "parameters", "data"]), values, min_size=1))
def test_fields_of_any_kind(changes: dict[str, Any]) -> None:
    body, length = binary_request(**changes)
    prepared = decode(call(body, inference_header_content_length=str(length)))
    assert prepared is None or fits(prepared.inputs)


def grpc_request() -> Any:
    request = ModelInferRequest(model_name="m", id="1")
    for name, datatype, array in (("a", "FP32", A), ("s", "BYTES", S)):
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(encode_tensor(array))
    return request


@given(damaged(grpc_request().SerializeToString()))
def test_damaged_messages(data: bytes) -> None:
    try:
        request = ModelInferRequest.FromString(data)
    except DecodeError:
        return  # gRPC answers that itself
    try:
        tensors = MODEL.pipeline.check(read_inputs(request, SPEC.inputs))
    except ServingError as error:
        assert error.status == 400
    else:
        assert fits(tensors)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=100),
    st.lists(st.floats(width=32), max_size=8),
    st.lists(st.binary(max_size=4), max_size=4),
)
def test_typed_contents_of_any_shape(shape: list[int], floats: list[float], strings: list[bytes]) -> None:
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="a", datatype="FP32", shape=shape).contents.fp32_contents.extend(floats)
    request.inputs.add(name="s", datatype="BYTES", shape=[len(strings), 1]).contents.bytes_contents.extend(strings)
    try:
        tensors = MODEL.pipeline.check(read_inputs(request, SPEC.inputs))
    except ServingError as error:
        assert error.status == 400
    else:
        assert fits(tensors)


def picture(kind: str) -> bytes:
    sheet = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(sheet, kind)
    return sheet.getvalue()


FORM = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n%s\r\n--b--\r\n'


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@given(data=st.data())
def test_damaged_pictures(kind: str, data: st.DataObject) -> None:
    try:
        tensors = PIPELINE.from_image(data.draw(damaged(picture(kind))))
    except ServingError as error:
        assert error.status == 400
    else:
        assert tensors["pixels"].shape == (1, 1, 8, 8)


def test_the_form_that_is_damaged_below_is_good() -> None:
    body = FORM % picture("PNG")
    assert read_form(call(body, content_type="multipart/form-data; boundary=b"), 1) == [picture("PNG")]


@given(damaged(FORM % picture("PNG")), st.sampled_from(["b", "c", "", "b" * 80]))
def test_damaged_forms(body: bytes, boundary: str) -> None:
    try:
        files = read_form(call(body, content_type=f"multipart/form-data; boundary={boundary}"), 2)
    except ServingError as error:
        assert error.status in {400, 413}
    else:
        assert 1 <= len(files) <= 2
