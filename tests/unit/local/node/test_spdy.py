"""SPDY framing: what goes in comes out, however the bytes are cut."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_local.node.spdy import (
    DICTIONARY,
    PING,
    RST_STREAM,
    SYN_STREAM,
    Session,
    SpdyError,
    control,
    data_frame,
    reset,
)

HEADERS = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1),
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    max_size=5,
)


def test_the_dictionary_is_the_one_every_peer_has():
    """Its checksum travels in the first header block of a connection."""
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=200), st.booleans()), max_size=5), st.integers(1, 50))
def test_frames_survive_any_cut(streams, size):
    sender, receiver = Session(), Session()
    wire, expected = b"", []
    for index, (headers, data, fin) in enumerate(streams):
        stream = 2 * index + 1
        wire += sender.syn_stream(stream, headers) + data_frame(stream, data, fin=fin) + reset(stream)
        expected += [(SYN_STREAM, stream, headers), (0, stream, data, fin), (RST_STREAM, stream)]
    found = []
    for start in range(0, len(wire), size):
        for frame in receiver.feed(wire[start : start + size]):
            if frame.kind == SYN_STREAM:
                found.append((frame.kind, frame.stream, dict(frame.headers)))
            elif frame.kind == 0:
                found.append((frame.kind, frame.stream, frame.data, frame.fin))
            else:
                found.append((frame.kind, frame.stream))
    assert found == expected


def test_pings_are_told_apart_and_settings_ignored():
    frames = list(Session().feed(control(4, b"\0" * 4) + control(PING, b"\0\0\0\7") + control(9, b"\0" * 8)))
    assert [(f.kind, f.data) for f in frames] == [(PING, b"\0\0\0\7")]


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\x80\x02\0\1\0\0\0\0", id="another version"),
        pytest.param(control(SYN_STREAM, b"\0\0\0\1" + b"\0" * 6 + b"nonsense"), id="a broken header block"),
    ],
)
def test_a_broken_peer_is_refused(wire):
    with pytest.raises(SpdyError):
        list(Session().feed(wire))
