"""One answer that the HTTP layer would give itself: a method nobody knows is a 405 of the API, not a broken request."""

from __future__ import annotations

from typing import Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlserve_local.apiserver.errors import method_not_allowed

_METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE")


class KubernetesProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which refuses unknown methods in the words of the API."""

    _first_word: bytes = b""

    def data_received(self, data: bytes) -> None:
        """Remember how the request began, for the answer to a broken one."""
        self._first_word = data.partition(b" ")[0]
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """A word in the place of the method is a 405, anything else a 400."""
        word = self._first_word
        if word in _METHODS or not word.isalpha():
            super().send_400_response(msg)
            return
        body = orjson.dumps(method_not_allowed().status())
        head = (
            f"HTTP/1.1 405 Method Not Allowed\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-cache, private\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
