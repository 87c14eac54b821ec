"""An HTTP/1.1 connection that cannot be used to fill the memory, and that no ordinary client is refused on.

uvicorn's httptools protocol keeps every header it is sent, however many, waits without end for a request that never
ends, takes one with `Upgrade: h2c` (the first of Java's HttpClient) for one without a body, and closes a connection
while its client is still sending, which makes the kernel throw away the answer. Both ports use this one instead.

Relies on attributes of uvicorn's HttpToolsProtocol; tests/unit/runtime/server/test_fastpath.py holds them in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from typing import Any, Final

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlserve_runtime.calls import error_body

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of request line and headers, and of anything else that is neither body nor the end of a message."""
_PATIENCE_SECONDS: Final = 60.0
"""For a whole head, and for every further piece of a body."""
_LINGER_SECONDS: Final = 2.0
"""How long a client that was answered early may go on sending into the void."""
_HEAD_TOO_LARGE: Final = f"the headers are larger than {MAX_HEAD_BYTES} bytes"
_TOO_SLOW: Final = f"the request did not go on for {_PATIENCE_SECONDS:.0f} seconds"


class _Flow(FlowControl):
    """Reads no more while requests of a pipeline wait, or they would heap up: uvicorn reads on with every answer."""

    def __init__(self, transport: Any, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """uvicorn's connection with limits."""

    _in_head = False
    _incomplete = False
    """A request has begun to come, and is not whole."""
    _patience: asyncio.TimerHandle | None = None
    """Ends when the rest is due; None while no request is incomplete."""
    _unseen = 0
    """Bytes that led to nothing yet: no head that ended, no body, no end of a message."""
    _upgrading = False
    _lingering = False

    def connection_made(self, transport: Any) -> None:
        """A client came; one that asks nothing is kept no longer than one that has asked before."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what asks for another protocol is read as if it had not."""
        if self._lingering:
            return
        self._unset_keepalive_if_required()
        self._unseen += len(data)
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._upgrading:  # it would be read as the same again, without end
                    self._refuse_malformed()
                    return
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                self._refuse_malformed()
                return
            else:
                break
        if self._unseen > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large", _HEAD_TOO_LARGE)
        elif self._incomplete:
            self._wait_for_more()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head = self._incomplete = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers of a chunked body are none."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin the request."""
        if self.head_ended():
            self.expect_100_continue = self.expects_continue()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Part of a body."""
        self._unseen = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self.message_ended()
        if not self._upgrading:
            super().on_message_complete()

    def head_ended(self) -> bool:
        """Note that the head is complete; False where it will be read again without its upgrade."""
        self._in_head = False
        self._unseen = 0
        self._upgrading = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        return not self._upgrading

    def message_ended(self) -> None:
        """Note that the request is whole."""
        self._unseen = 0
        self._incomplete = False
        if self._patience is not None:
            self._stop_waiting()

    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers)

    def close_unread(self) -> None:
        """Close although the client still sends; it reads the answer first."""
        self._lingering = True
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _without_upgrade(self) -> bytes:
        """The head that asked for another protocol, for a new parser: an Upgrade may always be ignored (RFC 9110, 7.8).

        httptools has skipped the body, which such a request has like any other.
        """
        old = self.parser
        lines = [b"%s %s HTTP/%s" % (old.get_method(), self.url, old.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self._upgrading = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _wait_for_more(self) -> None:
        if self._patience is not None:
            if self._in_head:
                return  # its time does not begin anew with every byte
            self._patience.cancel()
        self._patience = self.loop.call_later(_PATIENCE_SECONDS, self._lose_patience)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        if self.transport.is_closing():
            return
        answering = self._in_head and self.cycle is not None and not self.cycle.response_complete
        if answering or self.flow.read_paused:  # it is the client that waits
            self._wait_for_more()
        else:
            self._refuse(b"408 Request Timeout", _TOO_SLOW)

    def _refuse_malformed(self) -> None:
        self.logger.warning("Invalid HTTP request received.")
        self.send_400_response("Invalid HTTP request received.")

    def _refuse(self, status: bytes, text: str) -> None:
        self.logger.warning("a connection is closed: %s", text)
        body = error_body(text)
        head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (status, len(body)) + body)
        self.close_unread()
