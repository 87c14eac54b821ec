"""Compressed bodies: what comes out, and how much may."""

from __future__ import annotations

import gzip
import random
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_runtime.errors import InvalidInputError, TooLargeError, UnsupportedMediaError
from mlserve_runtime.server.bodies import compress_for, decompress


@given(st.binary(max_size=5000), st.sampled_from([b"gzip", b"deflate", b"identity", b""]))
def test_round_trip(data: bytes, encoding: bytes) -> None:
    packed = {b"gzip": gzip.compress, b"deflate": zlib.compress}.get(encoding, bytes)(data)
    assert decompress(packed, encoding, 5000) == data


def test_the_limit_is_on_what_comes_out() -> None:
    assert len(decompress(gzip.compress(b"a" * 1000), b"gzip", 1000)) == 1000
    with pytest.raises(TooLargeError):
        decompress(gzip.compress(b"a" * 1001), b"gzip", 1000)


@pytest.mark.parametrize(
    ("data", "encoding", "error"),
    [
        (b"x", b"br", UnsupportedMediaError),
        (b"x", b"gzip", InvalidInputError),
        (gzip.compress(b"hello")[:-4], b"gzip", InvalidInputError),
        (b"", b"gzip", InvalidInputError),
        (gzip.compress(b"hello") + gzip.compress(b"world"), b"gzip", InvalidInputError),
        (zlib.compress(b"hello") + b"x", b"deflate", InvalidInputError),
        (gzip.compress(random.Random(1).randbytes(70_000)) + bytes(70_000), b"gzip", InvalidInputError),
    ],
    ids=["unknown", "garbage", "truncated", "empty", "two-members", "followed", "followed-by-much"],
)
def test_bad_bodies(data: bytes, encoding: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        decompress(data, encoding, 100_000)


def test_a_large_body_costs_little_more_than_its_decompression() -> None:
    packed = gzip.compress(random.Random(1).randbytes(40_000_000), compresslevel=0)
    began = time.process_time()
    zlib.decompress(packed, zlib.MAX_WBITS | 16)
    alone = time.process_time() - began
    began = time.process_time()
    decompress(packed, b"gzip", 40_000_000)
    assert time.process_time() - began < 8 * alone + 0.1


@pytest.mark.parametrize(
    ("accept", "size", "encoding"),
    [(b"gzip", 5000, b"gzip"), (b"deflate", 5000, b"deflate"), (b"gzip", 10, b""), (b"gzip, deflate, br", 5000, b"")],
    ids=["asked", "asked-deflate", "not-worth-it", "only-able-to"],
)
def test_answers_are_compressed_for_those_who_ask_for_it(accept: bytes, size: int, encoding: bytes) -> None:
    body = b"a" * size
    packed, used = compress_for(accept, body)
    assert used == encoding
    assert decompress(packed, used, size) == body
