"""Fetching over real sockets: whole artifacts, broken transfers, redirects, and answers that lie."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from mlserve_core.artifact import Artifact, ArtifactError, ChecksumMismatchError, build_manifest
from mlserve_runtime.artifacts import http_source
from mlserve_runtime.artifacts.errors import FetchError, TransientFetchError
from mlserve_runtime.artifacts.fetch import STAGING, fetch
from mlserve_runtime.artifacts.progress import Progress

from .conftest import FileServer, send_file

ALLOW = {"MLSERVE_FETCH_ALLOW": "localhost"}


@pytest.fixture(autouse=True)
def immediate_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_source, "FIRST_WAIT", 0.001)


def get(uri: str, tmp_path: Path, digest: str = "", environment: dict[str, str] | None = None) -> Artifact:
    environment = ALLOW if environment is None else environment
    return fetch(uri, tmp_path / "model", digest, environment=environment, progress=Progress(write=lambda _: None))


def assert_nothing_left(tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert not model.exists() or list(model.iterdir()) == []


@pytest.mark.parametrize("name", ["tiny", "tiny/", "tiny.tar.gz", "tiny.zip", "tiny.zip?sig=1"])
def test_every_form_arrives_whole(name: str, http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
    found = get(f"{http_server.url}/{name}", tmp_path)
    assert found.digest == build_manifest(artifact).digest
    assert found.weights_path.read_bytes() == (artifact / "weights/model.onnx").read_bytes()
    assert not (tmp_path / "model" / STAGING).exists()


def test_tls_is_verified(https_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FetchError, match="certificate of localhost is not trusted"):
        get(f"{https_server.url}/tiny", tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(https_server.certificate))
    assert get(f"{https_server.url}/tiny", tmp_path).spec.name == "tiny"


def test_a_second_fetch_of_a_pinned_digest_asks_nobody(http_server: FileServer, tmp_path: Path) -> None:
    digest = get(f"{http_server.url}/tiny", tmp_path).digest
    http_server.seen.clear()
    assert get(f"{http_server.url}/tiny", tmp_path, digest).digest == digest
    assert http_server.seen == []


def test_an_older_artifact_makes_room(http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
    old = tmp_path / "model"
    (old / "folder").mkdir(parents=True)
    (old / "folder" / "stale.bin").write_bytes(b"x")
    (old / STAGING).mkdir()
    (old / STAGING / "half").write_bytes(b"x")
    get(f"{http_server.url}/tiny", tmp_path)
    found = {path.relative_to(old).as_posix() for path in old.rglob("*") if path.is_file()}
    assert found == {"model.yaml", "manifest.json", "weights/model.onnx"}


class TestDigests:
    def test_a_wrong_digest_is_found_before_the_weights_are_fetched(
        self, http_server: FileServer, tmp_path: Path
    ) -> None:
        with pytest.raises(ChecksumMismatchError, match="has digest"):
            get(f"{http_server.url}/tiny", tmp_path, "sha256:" + "0" * 64)
        assert [request.path for request in http_server.seen] == ["/tiny/manifest.json"]
        assert_nothing_left(tmp_path)

    def test_changed_weights_of_the_same_size(self, http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
        weights = artifact / "weights/model.onnx"
        weights.write_bytes(weights.read_bytes()[::-1])
        with pytest.raises(ChecksumMismatchError, match="another sha256"):
            get(f"{http_server.url}/tiny", tmp_path)
        assert_nothing_left(tmp_path)

    def test_shorter_weights(self, http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
        (artifact / "weights/model.onnx").write_bytes(b"short")
        with pytest.raises(ChecksumMismatchError, match="5 bytes"):
            get(f"{http_server.url}/tiny", tmp_path)
        assert_nothing_left(tmp_path)

    def test_longer_weights(self, http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
        with (artifact / "weights/model.onnx").open("ab") as stream:
            stream.write(b"more")
        with pytest.raises(FetchError, match="expected at most 2097152"):
            get(f"{http_server.url}/tiny", tmp_path)
        assert_nothing_left(tmp_path)

    def test_a_directory_without_manifest_cannot_be_listed(
        self, http_server: FileServer, artifact: Path, tmp_path: Path
    ) -> None:
        (artifact / "manifest.json").unlink()
        with pytest.raises(FetchError, match="HTTP cannot list a directory"):
            get(f"{http_server.url}/tiny", tmp_path)

    @pytest.mark.parametrize("path", ["../evil", "/tmp/evil", ".incoming/x", "a/../../b"])
    def test_a_manifest_cannot_write_elsewhere(
        self, path: str, http_server: FileServer, artifact: Path, tmp_path: Path
    ) -> None:
        document = json.loads((artifact / "manifest.json").read_text())
        document["files"].append({"path": path, "size": 4, "sha256": "0" * 64})
        (artifact / "manifest.json").write_text(json.dumps(document))
        before = {p for p in tmp_path.rglob("*") if "source" not in p.parts}
        with pytest.raises((FetchError, ArtifactError)):
            get(f"{http_server.url}/tiny", tmp_path)
        assert {p for p in tmp_path.rglob("*") if "source" not in p.parts} - before <= {tmp_path / "model"}


class TestBrokenTransfers:
    def test_a_transfer_that_breaks_is_continued(self, http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
        breaks = iter([600_000, 300_000])

        def cut(request: BaseHTTPRequestHandler) -> bool:
            if not request.path.endswith("model.onnx"):
                return False
            data = (artifact / "weights/model.onnx").read_bytes()
            send_cut(request, data, next(breaks, len(data)))
            return True

        http_server.behaviour = cut
        get(f"{http_server.url}/tiny", tmp_path)
        ranges = [r.headers.get("Range") for r in http_server.seen if r.path.endswith("model.onnx")]
        assert ranges == [None, "bytes=600000-", "bytes=900000-"]

    def test_a_file_that_changed_meanwhile_is_fetched_anew(
        self, http_server: FileServer, artifact: Path, tmp_path: Path
    ) -> None:
        data = (artifact / "weights/model.onnx").read_bytes()
        answers = iter([lambda r: send_cut(r, b"old" * 500_000, 100_000), lambda r: send_file(r, data, '"2"')])

        def change(request: BaseHTTPRequestHandler) -> bool:
            if not request.path.endswith("model.onnx"):
                return False
            next(answers)(request)
            return True

        http_server.behaviour = change
        assert get(f"{http_server.url}/tiny", tmp_path).weights_path.read_bytes() == data

    def test_a_transfer_that_breaks_after_the_last_byte_begins_anew(
        self, http_server: FileServer, artifact: Path, tmp_path: Path
    ) -> None:
        """There is nothing to continue, which a server says with 416."""
        data = (artifact / "weights/model.onnx").read_bytes()
        statuses: list[int] = []

        def cut(request: BaseHTTPRequestHandler) -> bool:
            if not request.path.endswith("model.onnx"):
                return False
            if not statuses:
                request.send_response(200)
                request.send_header("ETag", '"1"')
                request.send_header("Transfer-Encoding", "chunked")
                request.end_headers()
                request.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))  # and not the chunk that ends it
                request.close_connection = True
                statuses.append(200)
            elif request.headers.get("Range") == f"bytes={len(data)}-":
                statuses.append(416)
                return answer(request, 416)
            else:
                statuses.append(200)
                send_file(request, data)
            return True

        http_server.behaviour = cut
        assert get(f"{http_server.url}/tiny", tmp_path).weights_path.read_bytes() == data
        assert statuses == [200, 416, 200]

    def test_a_partial_answer_nobody_asked_for_is_taken_if_it_is_the_whole(
        self, http_server: FileServer, artifact: Path, tmp_path: Path
    ) -> None:
        data = (artifact / "weights/model.onnx").read_bytes()

        def partial(request: BaseHTTPRequestHandler) -> bool:
            if not request.path.endswith("model.onnx"):
                return False
            request.send_response(206)
            request.send_header("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}")
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)
            return True

        http_server.behaviour = partial
        assert get(f"{http_server.url}/tiny", tmp_path).weights_path.read_bytes() == data

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_busy_server_is_asked_again(self, status: int, http_server: FileServer, tmp_path: Path) -> None:
        failures = iter([True] * 3)

        def busy(request: BaseHTTPRequestHandler) -> bool:
            if next(failures, False):
                answer(request, status)
                return True
            return False

        http_server.behaviour = busy
        assert get(f"{http_server.url}/tiny", tmp_path).spec.name == "tiny"

    def test_patience_ends(self, http_server: FileServer, tmp_path: Path) -> None:
        http_server.behaviour = lambda request: answer(request, 503)
        with pytest.raises(TransientFetchError, match=r"503.*gave up after 6 attempts"):
            get(f"{http_server.url}/tiny", tmp_path)
        assert_nothing_left(tmp_path)

    @pytest.mark.parametrize(
        ("status", "message"),
        [(401, "credentials"), (403, "credentials"), (400, "status 400"), (416, "status 416")],
    )
    def test_a_refusal_is_not_repeated(
        self, status: int, message: str, http_server: FileServer, tmp_path: Path
    ) -> None:
        http_server.behaviour = lambda request: answer(request, status)
        with pytest.raises(FetchError, match=message):
            get(f"{http_server.url}/tiny.zip", tmp_path)
        assert len(http_server.seen) == 1

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(TransientFetchError, match="cannot connect to localhost"):
            get("http://localhost:1/tiny.zip", tmp_path)


def to(location: str, status: int = 302) -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda request: answer(request, status, Location=location)


def always(request: BaseHTTPRequestHandler) -> bool:
    return answer(request, 302, Location=request.path)


class TestRedirects:
    def test_are_followed(self, http_server: FileServer, tmp_path: Path) -> None:
        def move(request: BaseHTTPRequestHandler) -> bool:
            if request.path == "/old.zip":
                return answer(request, 301, Location="/tiny.zip")
            return False

        http_server.behaviour = move
        assert get(f"{http_server.url}/old.zip", tmp_path).spec.name == "tiny"

    @pytest.mark.parametrize(
        ("location", "message"),
        [
            ("https://169.254.169.254/latest/meta-data/", "internal addresses"),
            ("https://127.0.0.1/", "internal addresses"),
            ("https://[::1]/", "internal addresses"),
            ("https://[::ffff:10.0.0.1]/", "internal addresses"),
            ("https://2130706433/", "internal addresses"),
            ("https://10.0.0.1/", "internal addresses"),
            ("http://169.254.169.254/", "plain http"),
            ("http://example.com/", "plain http"),
            ("file:///etc/passwd", "no http"),
            ("ftp://example.com/", "no http"),
            ("gopher://127.0.0.1:6379/_x", "no http"),
            ("//169.254.169.254/", "plain http"),
            ("https:///nowhere", "no http"),
            ("https://user:secret@127.0.0.1/", "internal addresses"),
            ("https://l\xf6calhost.invalid/", "resolve|host name"),
            ("https://" + "a" * 300 + ".com/", "resolve|host name"),
            ("https://127.0.0.1:99999/", "no http|host name|port"),
            ("https://exa mple.com/", "resolve|host|invalid|no http"),
            ("https://[::1/", "no address"),
        ],
    )
    def test_are_judged_like_the_first_address(
        self, location: str, message: str, http_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_source, "ATTEMPTS", 1)
        http_server.behaviour = to(location)
        started = time.monotonic()
        with pytest.raises(FetchError, match=message):
            get(f"{http_server.url}/tiny.zip", tmp_path)
        assert time.monotonic() - started < 5
        assert_nothing_left(tmp_path)

    def test_do_not_go_round_in_circles(self, http_server: FileServer, tmp_path: Path) -> None:
        http_server.behaviour = always
        with pytest.raises(FetchError, match="more than 5 redirects"):
            get(f"{http_server.url}/tiny.zip", tmp_path)
        assert len(http_server.seen) == 6

    def test_do_not_carry_the_token_to_another_origin(
        self, http_server: FileServer, https_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(https_server.certificate))
        https_server.behaviour = to(f"{http_server.url}/tiny.zip", 307)
        get(f"{https_server.url}/tiny.zip", tmp_path, environment=ALLOW | {"MLSERVE_FETCH_TOKEN": "secret"})
        assert https_server.seen[0].headers["Authorization"] == "Bearer secret"
        assert "Authorization" not in http_server.seen[0].headers


class TestLies:
    def test_more_bytes_than_the_manifest_says_are_not_read(self, http_server: FileServer, tmp_path: Path) -> None:
        http_server.behaviour = endless_for("model.onnx")
        with pytest.raises(FetchError, match="sends more than 2097152 bytes"):
            get(f"{http_server.url}/tiny", tmp_path)
        assert_nothing_left(tmp_path)

    def test_an_endless_archive_ends_at_the_limit(self, http_server: FileServer, tmp_path: Path) -> None:
        http_server.behaviour = endless_for("tiny.zip")
        with pytest.raises(FetchError, match="sends more than 5000000 bytes"):
            get(f"{http_server.url}/tiny.zip", tmp_path, environment=ALLOW | {"MLSERVE_FETCH_MAX_BYTES": "5000000"})
        assert_nothing_left(tmp_path)

    def test_a_login_page_is_no_archive(self, http_server: FileServer, tmp_path: Path) -> None:
        page = b"<!doctype html><title>Sign in</title>"
        http_server.behaviour = lambda request: (send_file(request, page), True)[1]
        with pytest.raises(FetchError, match="damaged"):
            get(f"{http_server.url}/tiny.tar.gz", tmp_path)

    def test_a_login_page_is_no_manifest(self, http_server: FileServer, tmp_path: Path) -> None:
        page = b"<!doctype html><title>Sign in</title>"
        http_server.behaviour = lambda request: (send_file(request, page), True)[1]
        with pytest.raises(ArtifactError, match=r"manifest\.json"):
            get(f"{http_server.url}/tiny", tmp_path)

    def test_compressed_transfers_are_refused(self, http_server: FileServer, tmp_path: Path) -> None:
        http_server.behaviour = lambda request: answer(request, 200, **{"Content-Encoding": "gzip"})
        with pytest.raises(FetchError, match="Content-Encoding"):
            get(f"{http_server.url}/tiny.zip", tmp_path)

    def test_an_archive_without_a_model(self, http_server: FileServer, tmp_path: Path) -> None:
        import zipfile

        with zipfile.ZipFile(http_server.root / "other.zip", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(ArtifactError, match=r"no model\.yaml"):
            get(f"{http_server.url}/other.zip", tmp_path)
        assert_nothing_left(tmp_path)


def test_without_permission_a_private_server_is_not_asked(http_server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="MLSERVE_FETCH_ALLOW"):
        get(f"{http_server.url}/tiny", tmp_path, environment={})
    with pytest.raises(FetchError, match="internal addresses"):
        get(f"https://localhost:{http_server.port}/tiny", tmp_path, environment={})
    assert http_server.seen == []


def test_hugging_face_addresses(http_server: FileServer, artifact: Path, tmp_path: Path) -> None:
    def resolve(request: BaseHTTPRequestHandler) -> bool:
        request.path = request.path.replace("/acme/tiny/resolve/v1/", "/tiny/")
        return False

    http_server.behaviour = resolve
    environment = ALLOW | {"HF_ENDPOINT": http_server.url, "HF_TOKEN": "hf_secret"}
    assert get("hf://acme/tiny@v1", tmp_path, environment=environment).spec.name == "tiny"
    assert http_server.seen[0].path == "/acme/tiny/resolve/v1/manifest.json"
    assert http_server.seen[0].headers["Authorization"] == "Bearer hf_secret"


def answer(request: BaseHTTPRequestHandler, status: int, **headers: Any) -> bool:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", "0")
    request.end_headers()
    return True


def send_cut(request: BaseHTTPRequestHandler, data: bytes, count: int) -> None:
    """Announce everything from the asked offset on, send `count` bytes, hang up."""
    start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    request.send_header("ETag", '"1"')
    request.send_header("Content-Length", str(len(data) - start))
    request.end_headers()
    request.wfile.write(data[start : start + count])
    request.close_connection = True


def endless_for(suffix: str) -> Callable[[BaseHTTPRequestHandler], bool]:
    def endless(request: BaseHTTPRequestHandler) -> bool:
        if not request.path.endswith(suffix):
            return False
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"\0" * 100_000)
        except OSError:
            request.close_connection = True
        return True

    return endless
