"""Reading bodies without believing what they say about their size."""

from __future__ import annotations

import zlib
from typing import Final

from mlserve_runtime.errors import InvalidInputError, TooLargeError, UnsupportedMediaError

MAX_LENGTH_DIGITS: Final = 18
"""Of a Content-Length; a body that long is refused before the number is converted."""
_CHUNK: Final = 1 << 16
_WINDOWS: Final = {b"gzip": zlib.MAX_WBITS | 16, b"x-gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_COMPRESSORS: Final = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_WORTH_COMPRESSING: Final = 1024


def too_large(limit: int) -> TooLargeError:
    """The refusal of a body over the limit."""
    return TooLargeError(f"the body is larger than {limit} bytes")


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """Undo a Content-Encoding, never holding more than `limit` bytes.

    Raises:
        UnsupportedMediaError: Another encoding than gzip or deflate.
        InvalidInputError: The data is damaged or truncated, or something follows it.
        TooLargeError: More than `limit` bytes come out.
    """
    encoding = encoding.strip().lower()
    if encoding in {b"", b"identity"}:
        return body
    if encoding not in _WINDOWS:
        raise UnsupportedMediaError(f"content encoding {encoding.decode('latin-1')!r} is not read; use gzip or deflate")
    stream = zlib.decompressobj(_WINDOWS[encoding])
    parts: list[bytes] = []
    size = 0
    try:
        for start in range(0, len(body), _CHUNK):  # what is left of an input is copied at every step, so it is short
            data = body[start : start + _CHUNK]
            while data:
                if stream.eof:
                    raise InvalidInputError(f"bytes follow the {encoding.decode()} body; compress it as a whole")
                part = stream.decompress(data, _CHUNK)
                data = stream.unused_data if stream.eof else stream.unconsumed_tail
                size += len(part)
                if size > limit:
                    raise too_large(limit)
                parts.append(part)
    except zlib.error as error:
        raise InvalidInputError(f"the body is not valid {encoding.decode()}: {error}") from error
    if not stream.eof:
        raise InvalidInputError(f"the {encoding.decode()} body is truncated")
    return b"".join(parts)


def compress_for(accept: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The body and its Content-Encoding (empty: none).

    Only a client that accepts nothing else is taken at its word (tritonclient's `response_compression_algorithm`):
    every HTTP library says that it could read gzip, few want the server to spend its time on it.
    """
    encoding = accept.strip().lower()
    if encoding not in _COMPRESSORS or len(body) < _WORTH_COMPRESSING:
        return body, b""
    stream = zlib.compressobj(level=1, wbits=_COMPRESSORS[encoding])
    return stream.compress(body) + stream.flush(), encoding
