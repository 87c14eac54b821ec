"""SPDY/3.1 framing, as much as `kubectl port-forward` speaks inside its WebSocket. Pure: bytes in, frames out.

Kubernetes never moved this one protocol to anything newer: streams are multiplexed by SPDY frames, and newer clients
only wrap the very same bytes into a WebSocket. There is no flow control, as in the Go library on the other side.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_VERSION: Final = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FLAG_FIN: Final = 1
MAX_FRAME: Final = 1 << 24
CANCEL: Final = 5

_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset="
    "iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    """The preset dictionary of header compression: words with their lengths, then a text of common values."""
    words = (word.replace("_", " ").encode() for word in _WORDS.split())
    return b"".join(struct.pack("!I", len(word)) + word for word in words) + _TAIL.encode()


DICTIONARY: Final = _dictionary()


class SpdyError(ValueError):
    """The other side broke the protocol."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that matters here. `kind` is a control type, or 0 for data."""

    kind: int
    stream: int
    data: bytes = b""
    headers: Mapping[str, str] | None = None
    fin: bool = False


class Session:
    """One connection: header compression keeps state in both directions."""

    def __init__(self) -> None:
        self._buffer = b""
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these bytes. Raises SpdyError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second = struct.unpack("!II", self._buffer[:8])
            flags, length = second >> 24, second & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                return
            body, self._buffer = self._buffer[8 : 8 + length], self._buffer[8 + length :]
            fin = bool(flags & FLAG_FIN)
            if not first >> 31:
                yield Frame(0, first, body, fin=fin)
            elif (frame := self._control(first, body, fin=fin)) is not None:
                yield frame

    def _control(self, word: int, body: bytes, *, fin: bool) -> Frame | None:
        version, kind = (word >> 16) & 0x7FFF, word & 0xFFFF
        if version != _VERSION:
            raise SpdyError(f"SPDY version {version}: expected {_VERSION}")
        if kind == SYN_STREAM:
            (stream,) = struct.unpack("!I", body[:4])
            return Frame(kind, stream & 0x7FFFFFFF, headers=self._headers(body[10:]), fin=fin)
        if kind in (RST_STREAM, PING, GOAWAY):
            (stream,) = struct.unpack("!I", body[:4])
            return Frame(kind, stream & 0x7FFFFFFF, body)
        return None  # settings and window updates: nothing here depends on them

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block)
            (count,) = struct.unpack_from("!I", plain)
            position, texts = 4, []
            for _ in range(2 * count):
                (length,) = struct.unpack_from("!I", plain, position)
                texts.append(plain[position + 4 : position + 4 + length].decode())
                position += 4 + length
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"header block: {error}") from error
        return {name.lower(): value.split("\0")[0] for name, value in zip(texts[::2], texts[1::2], strict=True)}

    def pack_headers(self, headers: Mapping[str, str]) -> bytes:
        """A compressed header block."""
        plain = struct.pack("!I", len(headers))
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                plain += struct.pack("!I", len(text)) + text
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def syn_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """Open a stream."""
        body = struct.pack("!IIH", stream, 0, 0) + self.pack_headers(headers)
        return control(SYN_STREAM, body, FLAG_FIN if fin else 0)

    def syn_reply(self, stream: int) -> bytes:
        """Accept a stream of the other side."""
        return control(SYN_REPLY, struct.pack("!I", stream) + self.pack_headers({}))


def control(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A control frame."""
    return struct.pack("!HHI", 0x8000 | _VERSION, kind, flags << 24 | len(body)) + body


def data_frame(stream: int, data: bytes, *, fin: bool = False) -> bytes:
    """A data frame."""
    return struct.pack("!II", stream, (FLAG_FIN if fin else 0) << 24 | len(data)) + data


def reset(stream: int) -> bytes:
    """Abandon a stream."""
    return control(RST_STREAM, struct.pack("!II", stream, CANCEL))
