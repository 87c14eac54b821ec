"""A small artifact, and a real HTTP server that can be told to misbehave."""

from __future__ import annotations

import ssl
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
import yaml

from mlserve_core.artifact import write_manifest

MODEL = {
    "name": "tiny",
    "format": "onnx",
    "weights": "weights/model.onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A directory with a manifest; the weights are two megabytes of noise, enough for several reads."""
    directory = tmp_path / "source" / "tiny"
    (directory / "weights").mkdir(parents=True)
    (directory / "model.yaml").write_text(yaml.safe_dump(MODEL))
    (directory / "weights" / "model.onnx").write_bytes(bytes(range(256)) * 8192)
    write_manifest(directory)
    return directory


@pytest.fixture
def archives(artifact: Path) -> Path:
    """The same artifact as tiny.tar.gz (in a folder of its own) and tiny.zip (at the top)."""
    folder = artifact.parent
    with tarfile.open(folder / "tiny.tar.gz", "w:gz") as tar:
        tar.add(artifact, "tiny")
    with zipfile.ZipFile(folder / "tiny.zip", "w") as archive:
        for path in sorted(artifact.rglob("*")):
            archive.write(path, path.relative_to(artifact).as_posix())
    return folder


@dataclass
class Seen:
    """A request as the server saw it."""

    path: str
    headers: dict[str, str]


Behaviour = Callable[[BaseHTTPRequestHandler], bool]
"""Answers a request (and returns True), or leaves it to the ordinary way."""


@dataclass
class FileServer:
    """Serves a folder with ranges and strong ETags."""

    root: Path
    url: str = ""
    certificate: Path | None = None
    seen: list[Seen] = field(default_factory=list)
    behaviour: Behaviour | None = None

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.seen.append(Seen(self.path, dict(self.headers)))
            if server.behaviour is not None and server.behaviour(self):
                return
            path = server.root / self.path.partition("?")[0].lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            send_file(self, path.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def send_file(request: BaseHTTPRequestHandler, data: bytes, etag: str = '"1"') -> None:
    """Answer with data, honouring Range as a good server does."""
    start = 0
    asked = request.headers.get("Range", "")
    if asked.startswith("bytes=") and request.headers.get("If-Range") == etag:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    request.send_header("ETag", etag)
    request.send_header("Content-Length", str(len(data) - start))
    request.end_headers()
    request.wfile.write(data[start:])


def _serve(server: FileServer, context: ssl.SSLContext | None) -> Iterator[FileServer]:
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    listener.daemon_threads = True
    if context:
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
    server.url = f"{'https' if context else 'http'}://localhost:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture
def http_server(archives: Path) -> Iterator[FileServer]:
    yield from _serve(FileServer(archives), None)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https_server(archives: Path, authority: trustme.CA, tmp_path: Path) -> Iterator[FileServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    yield from _serve(FileServer(archives, certificate=tmp_path / "ca.pem"), context)
