"""`mlserve-runtime drain`: the pod's preStop hook."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from mlserve_runtime.settings import read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--socket", type=Path, help="the server's Unix socket")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait (default: 60)")


def run(arguments: argparse.Namespace) -> int:
    """0 when the server has drained or is gone, 1 when it has not in time."""
    settings = read_settings()
    return request_drain(arguments.socket or settings.drain_socket, arguments.timeout)


def request_drain(path: Path, timeout: float) -> int:
    """Ask, wait, and return 0 if the server drained. One that is gone has nothing in flight either."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(os.fspath(path))
            answer = b"".join(iter(lambda: connection.recv(64), b""))
        except (FileNotFoundError, ConnectionError):
            return 0
        except TimeoutError:
            return 1
    return 0 if answer in {b"drained\n", b""} else 1
