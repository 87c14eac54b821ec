"""Listening sockets, and uvicorn as a part of a process instead of its master."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn

from mlserve_runtime.server.connection import Connection

_KEEP_ALIVE_SECONDS: Final = 75


class ListenError(RuntimeError):
    """A port cannot be listened at: somebody else has it, or it is none."""

    def __init__(self, name: str, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot listen for {name} at {host}:{port}: {why}; --{name}-port names another port")


class EmbeddedServer(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def embed(
    application: Any, protocol: type[Connection] = Connection, *, unix_socket: Path | None = None
) -> EmbeddedServer:
    """A server for an ASGI application; `serve(sockets=[...])` runs it, without sockets on `unix_socket`."""
    config = uvicorn.Config(
        application,
        loop="none",
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        uds=str(unix_socket) if unix_socket else None,
    )
    return EmbeddedServer(config)


def bind(name: str, host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket; `shared` lets other processes of the same user bind the port as well (SO_REUSEPORT).

    Raises:
        ListenError: With the name of what should have listened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ListenError(name, host, port, getattr(error, "strerror", None) or str(error)) from error
    listener.setblocking(False)
    return listener
