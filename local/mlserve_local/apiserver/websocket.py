"""WebSockets as kubectl speaks them: `SPDY/3.1+portforward.k8s.io` is no token by RFC 6455, yet kubectl offers it."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class KubernetesWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which leaves the choice of a subprotocol, and how it is spelled, to the application."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # The application answers with the protocol it accepts; here it would only be parsed, and refused for its slash.
        self.conn.process_subprotocol = lambda headers: None  # type: ignore[method-assign]
