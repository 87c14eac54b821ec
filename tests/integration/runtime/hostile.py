"""A corpus of requests nobody should send, each with the statuses it may be answered with."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from .conftest import FEATURES

BAD = frozenset({400})
BAD_OR_LARGE = frozenset({400, 413})


@dataclass(frozen=True)
class Case:
    """One request."""

    name: str
    path: str
    body: bytes
    statuses: frozenset[int] = BAD
    headers: dict[str, str] = field(default_factory=dict)
    pictures: bool = False
    """For the server of the image model."""


def tensor(**changes: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [0.5] * FEATURES}
    entry.update(changes)
    return {key: value for key, value in entry.items() if value != "absent"}


def v2(name: str, document: Any, statuses: frozenset[int] = BAD) -> Case:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Case(f"v2-{name}", "/v2/models/tabular/infer", body, statuses)


def v2_cases() -> Iterator[Case]:
    good = json.dumps({"inputs": [tensor()]}).encode()
    for cut in (0, 1, 5, 11, 20, 40, len(good) // 2, len(good) - 2, len(good) - 1):
        yield v2(f"truncated-{cut}", good[:cut])
    for name, document in {
        "null": None, "number": 3, "text": "x", "list": [], "empty": {}, "inputs-null": {"inputs": None},
        "inputs-object": {"inputs": {}}, "inputs-empty": {"inputs": []}, "inputs-of-numbers": {"inputs": [1]},
        "inputs-of-null": {"inputs": [None]}, "input-twice": {"inputs": [tensor(), tensor()]},
        "more-inputs": {"inputs": [tensor(), tensor(name="y")]},
        "parameters-list": {"inputs": [tensor()], "parameters": []},
        "outputs-number": {"inputs": [tensor()], "outputs": 3},
        "outputs-unknown": {"inputs": [tensor()], "outputs": [{"name": "secret"}]},
        "outputs-unhashable": {"inputs": [tensor()], "outputs": [{"name": []}]},
        "id-number": {"inputs": [tensor()], "id": 7},
        "timeout-text": {"inputs": [tensor()], "parameters": {"timeout": "soon"}},
        "timeout-negative": {"inputs": [tensor()], "parameters": {"timeout": -1}},
        "priority-float": {"inputs": [tensor()], "parameters": {"priority": 0.5}},
        "priority-huge": {"inputs": [tensor()], "parameters": {"priority": 2**40}},
    }.items():  # fmt: skip
        yield v2(name, document)
    for field_name, values in {
        "name": ["absent", None, "", "y", 3, [], {}, "x\0", "X"],
        "datatype": ["absent", None, "", "FP64", "fp32", "BYTES", 32, [], "FP32 "],
        "shape": [
            "absent", None, 30, "1,30", [], [30], [1], [30, 1], [1, 31], [1, 29], [2, 30], [0, 30], [-1, 30], [1, -30],
            [1.0, 30], [1, "30"], [1, None], [1, 30, 1], [2**31, 30], [2**62, 2**62], [1] * 9, [[1, 30]], {"0": 1},
            [1e308, 30],
        ],
        "data": [
            "absent", None, 0.5, "0.5", {}, [], [0.5], [0.5] * 29, [0.5] * 31, [[0.5] * 15, [0.5] * 14],
            [None] * FEATURES, ["0.5"] * FEATURES, [[]] * FEATURES, [{}] * FEATURES, [0.5] * 29 + [None],
            [0.5] * 29 + ["x"], [0.5] * 29 + [[0.5]], [0.5] * 29 + [1e39], [0.5] * 29 + [10**400],
            [[[[[[[[[[0.5]]]]]]]]]],
        ],
    }.items():  # fmt: skip
        for index, value in enumerate(values):
            yield v2(f"{field_name}-{index}", {"inputs": [tensor(**{field_name: value})]})
    yield v2("nan-literal", good.replace(b"0.5,", b"NaN,", 1))
    yield v2("infinity-literal", good.replace(b"0.5,", b"Infinity,", 1))
    yield v2("float-overflow", good.replace(b"0.5,", b"1e999,", 1))
    yield v2("control-character", good.replace(b'"x"', b'"x\x01"'))
    yield v2("not-utf8", good.replace(b'"x"', b'"\xff\xfe"'))
    yield v2("byte-order-mark", b"\xef\xbb\xbf" + good)
    yield v2("two-documents", good + good)
    for depth in (100, 5_000, 200_000):
        yield v2(f"deep-list-{depth}", b'{"inputs":' + b"[" * depth + b"]" * depth + b"}")
        yield v2(f"deep-object-{depth}", b'{"a":' * depth + b"1" + b"}" * depth)
        yield v2(f"deep-data-{depth}", json.dumps({"inputs": [tensor(data="DATA")]}).encode().replace(
            b'"DATA"', b"[" * depth + b"]" * depth))  # fmt: skip
    yield v2("many-rows", {"inputs": [tensor(shape=[5000, FEATURES], data=[0.5] * 5000 * FEATURES)]}, BAD_OR_LARGE)


def binary_cases() -> Iterator[Case]:
    raw = struct.pack("<30f", *[0.5] * FEATURES)

    def case(name: str, head: Any, tail: bytes, length: str | None = None, **changes: Any) -> Case:
        document = head if isinstance(head, bytes) else json.dumps(head).encode()
        header = {"Inference-Header-Content-Length": str(len(document)) if length is None else length}
        return Case(f"binary-{name}", "/v2/models/tabular/infer", document + tail, headers=header, **changes)

    def head(size: Any, **changes: Any) -> dict[str, Any]:
        return {"inputs": [tensor(data="absent", parameters={"binary_data_size": size}, **changes)]}

    for length in ("0", "1", "-1", "x", "", "99999999", "1e2", "0x10", "9" * 30):
        yield case(f"header-length-{length!r}", head(120), raw, length=length)
    for size in (0, 1, 119, 121, 10**9, -1, "120", None, 1.5, [], 2**70):
        yield case(f"size-{size}", head(size), raw)
    for cut in (0, 1, 60, 119):
        yield case(f"tail-{cut}", head(120), raw[:cut])
    yield case("tail-too-long", head(120), raw + b"x")
    yield case("nan", head(120), struct.pack("<f", float("nan")) + raw[4:])
    yield case("infinite", head(120), struct.pack("<f", float("inf")) + raw[4:])
    yield case("shape-lies", head(120, shape=[2, FEATURES]), raw)
    yield case("shape-overflows", head(120, shape=[2**30, 2**30]), raw)
    yield case("strings-for-floats", head(120, datatype="BYTES"), raw)
    yield case("no-json", b"", raw, length="0")


def encoding_cases() -> Iterator[Case]:
    good = json.dumps({"inputs": [tensor()]}).encode()
    bomb = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    packed = b"".join(bomb.compress(b"\0" * 2**20) for _ in range(200)) + bomb.flush()
    path = "/v2/models/tabular/infer"
    yield Case("gzip-bomb", path, packed, frozenset({413}), {"Content-Encoding": "gzip"})
    yield Case("gzip-garbage", path, b"not gzip", BAD, {"Content-Encoding": "gzip"})
    yield Case("gzip-empty", path, b"", BAD, {"Content-Encoding": "gzip"})
    for cut in (5, 12, 30):
        yield Case(f"gzip-truncated-{cut}", path, gzip.compress(good)[:cut], BAD, {"Content-Encoding": "gzip"})
    yield Case("deflate-garbage", path, good, BAD, {"Content-Encoding": "deflate"})
    for encoding in ("br", "zstd", "gzip, gzip", "x" * 200):
        yield Case(f"encoding-{encoding[:10]}", path, good, frozenset({415}), {"Content-Encoding": encoding})


def simple_cases() -> Iterator[Case]:
    for index, document in enumerate(
        [None, 1, "x", [], {}, {"features": None}, {"features": 1}, {"features": "x"}, {"features": []},
         {"features": [1]}, {"features": [0.5] * 31}, {"features": [[0.5] * 15] * 3}, {"features": [None] * 30},
         {"features": ["a"] * 30}, {"features": {}}, {"features": {"x_0": 1}}, {"features": {"nope": 1}},
         {"image": "x"}, {"image": None}, {"inputs": []}, {"inputs": {"y": [1]}}, {"inputs": {"x": "a"}},
         {"entity": "u1"}, {"entity": 1}, {"entity": "x" * 600}, {"features": [1e39] * 30},
         {"features": [10**400] * 30}, {"features": [0.5] * 30, "inputs": {"x": [0.5] * 30}}]
    ):  # fmt: skip
        yield Case(f"predict-{index}", "/predict", json.dumps(document).encode())
    row = [0.5] * FEATURES
    for index, (document, statuses) in enumerate(
        [(None, BAD), ({}, BAD), ({"instances": None}, BAD), ({"instances": []}, BAD), ({"instances": [1]}, BAD),
         ({"features": [row] * 33}, frozenset({413})), ({"features": [row, row[:3]]}, BAD), ({"features": [[]]}, BAD),
         ({"instances": [{"features": row}, None]}, BAD), ({"instances": [row], "features": [row]}, BAD),
         ({"images": ["x"]}, BAD), ([row, "x"], BAD)]
    ):  # fmt: skip
        yield Case(f"batch-{index}", "/predict/batch", json.dumps(document).encode(), statuses)
    for index, document in enumerate([None, {}, {"instances": 3}, {"instances": []}, {"instances": [[1]]}]):
        yield Case(f"v1-{index}", "/v1/models/tabular:predict", json.dumps(document).encode())
    for media in ("text/html", "application/xml", "application/x-python-pickle", "multipart/mixed; boundary=x"):
        yield Case(f"media-{media}", "/predict", b"x", frozenset({415}), {"Content-Type": media})


def picture_cases() -> Iterator[Case]:
    sheet = io.BytesIO()
    Image.new("L", (28, 28), 128).save(sheet, "PNG")
    png = sheet.getvalue()
    other = io.BytesIO()
    Image.new("RGB", (28, 28)).save(other, "GIF")

    def case(name: str, data: bytes, statuses: frozenset[int] = BAD) -> Case:
        return Case(f"image-{name}", "/predict", data, statuses, {"Content-Type": "image/png"}, pictures=True)

    for cut in (0, 1, 7, 8, 16, 24, 30, 37, len(png) // 2):
        yield case(f"truncated-{cut}", png[:cut])
    for size in [(60_000, 60_000), (2**31 - 1, 1), (1, 2**31 - 1), (0, 0), (100_000, 100)]:
        yield case(f"claims-{size[0]}x{size[1]}", png_header(*size))
    yield case("gif", other.getvalue())
    yield case("svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>')
    yield case("pdf", b"%PDF-1.7\n")
    yield case("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    yield case("zeros", b"\0" * 5000)
    yield case("html", b"<html></html>")
    texts = ["", "????", "data:", "data:image/png,xx", "data:image/png;base64,", "data:image/png;base64,!!!!"]
    texts += [base64.b64encode(png[:50]).decode(), base64.b64encode(png).decode()[:-3]]
    texts += ["file:///etc/passwd", "http://169.254.169.254/"]
    for index, text in enumerate(texts):
        yield Case(f"base64-{index}", "/predict", json.dumps({"image": text}).encode(), pictures=True)
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n--b--\r\n'
    for name, body, headers in [
        ("no-boundary", part % (b"a", png), {"Content-Type": "multipart/form-data"}),
        ("wrong-boundary", part % (b"a", png), {"Content-Type": "multipart/form-data; boundary=c"}),
        ("empty", b"", boundary),
        ("only-end", b"--b--\r\n", boundary),
        ("no-file", b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n', boundary),
        ("not-a-picture", part % (b"a.png", b"hello"), boundary),
        ("no-disposition", b"--b\r\n\r\nx\r\n--b--\r\n", boundary),
        ("cut-in-header", b"--b\r\nContent-Dispo", boundary),
        ("cut-in-file", (part % (b"a", png))[:60], boundary),
        ("header-garbage", b"--b\r\n\xff\xfe: \x00\r\n\r\nx\r\n--b--\r\n", boundary),
        ("traversal-name", part % (b"../../../../tmp/mlserve-escaped", b"hello"), boundary),
        ("boundary-bomb", b"--b\r\n" * 5000, boundary),
    ]:
        yield Case(f"form-{name}", "/predict", body, frozenset({400, 415}), headers, pictures=True)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def path_cases() -> Iterator[Case]:
    missing = frozenset({404, 405})
    good = json.dumps({"inputs": [tensor()]}).encode()
    for path in ("/v2/models/other/infer", "/v2/models/tabular/versions/9/infer", "/v2/models//infer", "/v2/models",
                 "/v2/models/tabular/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v2/repository/index",
                 "/v2/repository/models/tabular/unload", "/v2/models/tabular/infer/x", "/v1/models/other:predict",
                 "/predict/", "/predict//batch", "/static/../page.html", "/v2/models/%00/infer",
                 "/v2/models/" + "a" * 5000 + "/infer"):  # fmt: skip
        yield Case(f"path-{path[:40]}", path, good, missing | BAD)


def all_cases() -> list[Case]:
    sources = (v2_cases, binary_cases, encoding_cases, simple_cases, picture_cases, path_cases)
    return [case for source in sources for case in source()]
